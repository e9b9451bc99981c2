# SPDX-License-Identifier: GPL-3.0-or-later
"""How full the nodes' data disks are, seen from inside each node: the mounts are its own."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pkgctl.local import namespaces
from pkgctl.local.paths import Paths
from pkgctl.nodeside import errors, syscalls

Use = tuple[int, int]
# A look into a hundred nodes takes some milliseconds; disks fill more slowly than that matters.
_KEPT_SECONDS = 2.0


class DiskUse:
    """The bytes used and the size of each node's mounted disks, kept for a moment."""

    def __init__(self, paths: Paths) -> None:
        """Look at the nodes of a testbed."""
        self._paths = paths
        self._found: dict[str, Use] = {}
        self._until = 0.0

    def read(self, nodes: Mapping[str, Mapping[str, Any]]) -> Mapping[str, Use]:
        """Return (used, size) in bytes by node; a node without a mounted disk is left out.

        The calling thread goes into the nodes and comes back.
        """
        if time.monotonic() >= self._until:
            self._found = self._look(nodes)
            self._until = time.monotonic() + _KEPT_SECONDS
        return self._found

    def _look(self, nodes: Mapping[str, Mapping[str, Any]]) -> dict[str, Use]:
        opened: dict[str, int] = {}
        try:
            for name in (name for name, node in nodes.items() if node["disks"]):
                pin = self._paths.namespaces(name) / "mnt"
                opened[name] = os.open(pin, os.O_RDONLY | os.O_CLOEXEC)
            with namespaces.host():
                found = {name: _enter(pin, nodes[name]) for name, pin in opened.items()}
        except (OSError, errors.KernelError):
            return self._found  # A node went away just now.
        finally:
            for descriptor in opened.values():
                os.close(descriptor)
        return {name: use for name, use in found.items() if use is not None}


def _enter(pin: int, node: Mapping[str, Any]) -> Use | None:
    syscalls.setns(pin, syscalls.CLONE_NEWNS)
    return used(node["disks"])


def used(disks: Mapping[str, Any]) -> Use | None:
    """Return (used, size) in bytes of those disks that are mounted here; None if none is."""
    sizes = [os.statvfs(disk["mount"]) for disk in disks.values() if _is_mounted(disk["mount"])]
    if not sizes:
        return None
    return (
        sum((each.f_blocks - each.f_bfree) * each.f_frsize for each in sizes),
        sum(each.f_blocks * each.f_frsize for each in sizes),
    )


def _is_mounted(place: str) -> bool:
    return os.path.ismount(place) and Path(place).is_dir()
