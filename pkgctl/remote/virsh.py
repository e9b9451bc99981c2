# SPDX-License-Identifier: GPL-3.0-or-later
"""libvirt by its own command, so that nothing else needs to be installed."""

from __future__ import annotations

import os
import subprocess
import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping

from pkgctl.errors import MissingCapability, TestbedError

PACKAGE = "libvirt-clients"
PATIENCE = 60.0


def call(uri: str, *words: str, timeout: float = PATIENCE) -> str:
    """Return what virsh prints.

    Args:
        uri: the host's address, such as ``qemu:///system``.
        words: the command and its arguments.
        timeout: how many seconds it may take.

    Raises:
        MissingCapability: if there is no virsh.
        TestbedError: in libvirt's own words, if it refuses.
    """
    try:
        done = subprocess.run(
            ["virsh", "-q", "-c", uri, *words],
            env={**os.environ, "LC_ALL": "C.UTF-8"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
    except FileNotFoundError as error:
        raise MissingCapability(f"virsh is missing: apt-get install {PACKAGE}") from error
    except subprocess.TimeoutExpired as error:
        raise TestbedError(f"{uri} did not answer {words[0]} within {timeout:g} s") from error
    if done.returncode:
        raise TestbedError(f"{uri}: {_reason(done.stderr)}")
    return done.stdout


def version(uri: str) -> str:
    """Return what runs a host's guests, such as ``QEMU 7.2.0``."""
    lines = [line.strip() for line in call(uri, "version").splitlines() if line.strip()]
    return lines[-1].partition(": ")[2] if lines else "of unknown version"


def _reason(errors: str) -> str:
    """Return the last thing that virsh said, which is the cause of what it said before."""
    lines = [line.removeprefix("error: ").strip() for line in errors.splitlines() if line.strip()]
    return lines[-1] if lines else "virsh failed and did not say why"


def states(uri: str) -> dict[str, str]:
    """Return the state of each domain of a host by its name: running, paused, shut off and so on.

    Raises:
        TestbedError: if the host does not answer.
    """
    rows = (line.split(None, 2) for line in call(uri, "list", "--all").splitlines())
    return {row[1]: row[2].strip() for row in rows if len(row) == 3}


def state(uri: str, domain: str) -> str:
    """Return a domain's state in libvirt's words; nothing if there is no such domain.

    Raises:
        TestbedError: if the host does not answer.
    """
    return states(uri).get(domain, "")


def networks(uri: str) -> dict[str, str]:
    """Return the state of each network of a host by its name: active or inactive."""
    rows = (line.split() for line in call(uri, "net-list", "--all").splitlines())
    return {row[0]: row[1] for row in rows if len(row) > 1}


def pools(uri: str) -> dict[str, str]:
    """Return the state of each storage pool of a host by its name: active or inactive."""
    rows = (line.split() for line in call(uri, "pool-list", "--all").splitlines())
    return {row[0]: row[1] for row in rows if len(row) > 1}


def volumes(uri: str, pool: str) -> list[str]:
    """Return the names of an active pool's volumes."""
    rows = (line.split() for line in call(uri, "vol-list", pool).splitlines())
    return [row[0] for row in rows if row]


def files(uri: str, domain: str) -> Mapping[str, str]:
    """Return the file behind each disk of a domain, by the disk's target."""
    tree = ElementTree.fromstring(call(uri, "dumpxml", domain))
    found = {}
    for disk in tree.iterfind("devices/disk"):
        source, target = disk.find("source"), disk.find("target")
        if source is not None and target is not None and (path := source.get("file")):
            found[target.get("dev", "")] = path
    return found
