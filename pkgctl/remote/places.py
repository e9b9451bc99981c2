# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the controller keeps what it knows of a testbed of virtual machines.

A folder of the user's own, laid out as a local testbed's folder in /run, so whoever reads a
testbed's description, or layers that are kept on the controller, reads either.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from pkgctl.errors import SpecError
from pkgctl.local import paths as local
from pkgctl.local.paths import Paths
from pkgctl.nodeside import channel

if TYPE_CHECKING:
    from pkgctl.local.reach import Reach

VARIABLE = "PKGCTL_STATE"


class Places(Paths):
    """The places of one testbed of virtual machines."""

    __slots__ = ()

    @property
    def run(self) -> Path:
        """The testbed's own folder."""
        return root() / self.name

    @property
    def key(self) -> Path:
        """The private key that opens the nodes; the public one is beside it."""
        return self.run / "id_ed25519"

    @property
    def known_hosts(self) -> Path:
        """The nodes' host keys, by node."""
        return self.run / "known_hosts"

    @property
    def seeds(self) -> Path:
        """The folder of the nodes' seeds."""
        return self.run / "seeds"

    @property
    def pulumi(self) -> Path:
        """The folder of what declares the testbed, and of its state."""
        return self.run / "pulumi"

    @property
    def program(self) -> Path:
        """The copy of the program that made the testbed."""
        return self.pulumi / "program"

    @property
    def backend(self) -> Path:
        """The folder of the stack's state."""
        return self.pulumi / "backend"

    @property
    def passphrase(self) -> Path:
        """The file of the passphrase that guards the stack's secrets."""
        return self.pulumi / "passphrase"

    @property
    def hypervisors(self) -> Path:
        """The addresses of the hosts that were ever asked for a part of the testbed."""
        return self.pulumi / "hosts.json"

    @property
    def relay(self) -> Path:
        """Where the relay listens, who answers for the agents of all nodes."""
        return self.run / channel.RELAY

    def reach(self) -> Reach:
        """Return the way to the testbed's nodes."""
        from pkgctl.remote.reach import RemoteReach

        return RemoteReach(self)

    @property
    def lock(self) -> Path:
        """The file that whoever changes the testbed holds."""
        return self.run / "lock"


def root() -> Path:
    """Return the folder of all testbeds of virtual machines."""
    if given := os.environ.get(VARIABLE):
        return Path(given).absolute()
    state = os.environ.get("XDG_STATE_HOME")
    return Path(state or Path.home() / ".local" / "state") / "pkgctl"


def places(name: str | None = None) -> Places:
    """Return a testbed's places: by the given name, else $PKGCTL_TESTBED's, else the default.

    Raises:
        SpecError: if the name cannot be a testbed's.
    """
    return Places(local.paths(name).name)


def testbeds() -> list[str]:
    """Return the names of the testbeds of virtual machines that have left anything."""
    found = root()
    names = [path.name for path in found.iterdir() if path.is_dir()] if found.is_dir() else []
    return sorted(filter(local.is_name, names))


def find(name: str | None = None) -> Paths:
    """Return the places of the testbed of a name, whatever its nodes are made of.

    A local one comes first; where neither is there it is taken for a local one.

    Raises:
        SpecError: if the name cannot be a testbed's.
    """
    there, here = local.paths(name), places(name)
    return here if here.run.is_dir() and not _is_local(there) else there


def _is_local(place: Paths) -> bool:
    try:
        return place.run.exists() or place.images.exists()
    except PermissionError:  # /run/pkgctl is root's
        return False


def refuse_taken(name: str | None, provider: str) -> None:
    """Refuse a name that a testbed of the other provider has.

    Args:
        name: the testbed's.
        provider: what its nodes are to be made of, ``local`` or ``libvirt``.

    Raises:
        SpecError: with what to do about it.
    """
    there, here = local.paths(name), places(name)
    taken, other = _is_local(there), "local"
    if provider == other:
        taken, other = here.run.is_dir(), "libvirt"
    if taken:
        raise SpecError(
            f"testbed {here.name!r} is there already, with provider {other}; take another name"
            f" with --name, or run `pkgctl down --name {here.name}`"
        )
