# SPDX-License-Identifier: GPL-3.0-or-later
"""All that the program reads before it declares anything: files, images, what is there already."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from pkgctl import topology as topologies
from pkgctl.errors import SpecError
from pkgctl.network import Topology
from pkgctl.remote import needs
from pkgctl.remote.places import Places
from testbed import machines, record, settings
from testbed.settings import LIBVIRT, Get, Settings


class Image(Protocol):
    """A disk image and perhaps the kernel to boot it with; see pkgctl.image."""

    @property
    def fingerprint(self) -> str:
        """What its content is known by."""

    @property
    def disk(self) -> Path:
        """The image."""

    @property
    def kernel(self) -> Path | None:
        """The kernel; None boots from the disk."""

    @property
    def initrd(self) -> Path | None:
        """The kernel's first disk."""

    @property
    def cmdline(self) -> tuple[str, ...]:
        """What the kernel is told."""

    @property
    def format(self) -> str:
        """The disk's format: qcow2 or raw."""


@dataclass(frozen=True)
class Given:
    """What a testbed is declared from.

    Attributes:
        keys: public keys that open the nodes, besides the testbed's own.
        image: what virtual machines boot; None for nodes of another kind.
        machines: the virtual machines.
        record: the testbed's description, as far as it is known beforehand.
    """

    settings: Settings
    topology: Topology
    keys: tuple[str, ...] = ()
    image: Image | None = None
    machines: Mapping[str, machines.Machine] = field(default_factory=dict)
    record: Mapping[str, Any] = field(default_factory=dict)


def gather(get: Get, *, find: Callable[[str], Image] | None = None) -> Given:
    """Return what a stack's configuration means.

    Args:
        get: gives a key's text, or None if it is not set.
        find: finds an image; that of ``pkgctl.image`` by default.

    Raises:
        PkgctlError: naming the key at fault, or what is missing.
    """
    known = settings.read(get)
    topology = _topology(known.topology)
    key = settings.public_key(known.ssh_key)
    if known.provider != LIBVIRT:
        return Given(known, topology)
    needs.check([host.uri for host in known.hosts], image=None)
    past = record.known(Places(known.testbed).state)
    planned = machines.plan(known, topology, past)
    return Given(
        settings=known,
        topology=topology,
        keys=(key,) if key else (),
        image=(find or _find)(known.image),
        machines=planned,
        record=machines.record(known, topology, planned),
    )


def _topology(name: str) -> Topology:
    try:
        return topologies.load(name)
    except SpecError as error:
        raise error if error.file else SpecError(str(error), key="topology") from error


def _find(spec: str) -> Image:
    from pkgctl import image

    found: Image = image.find(spec)
    return found
