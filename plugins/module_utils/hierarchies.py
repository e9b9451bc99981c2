# SPDX-License-Identifier: GPL-3.0-or-later
"""Where this machine's control groups are: hierarchies of version 1, version 2, or both at once."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

NEEDED = ("cpu", "memory", "pids")
USED = ("cpu", "cpuacct", "memory", "pids", "blkio", "freezer")
_IN_V2 = {"blkio": "io"}
_BUILT_INTO_V2 = frozenset({"cpuacct", "freezer"})


@dataclass(frozen=True, slots=True)
class Hierarchies:
    """Where this machine's controllers are: each in its own hierarchy, or in the unified one.

    Attributes:
        v1: the root of the hierarchy of each controller of version 1 that is used.
        v2: the root of the unified hierarchy.
        unified: the controllers that are used through that.
        others: the roots of hierarchies that are not used here, but by containers.
    """

    v1: Mapping[str, Path]
    v2: Path | None
    unified: frozenset[str]
    others: tuple[Path, ...] = ()

    @property
    def world(self) -> str:
        """Return ``v1``, ``v2`` or ``hybrid``."""
        if self.v2 is None or not self.unified:
            return "v1" if self.v2 is None else "hybrid" if self.v1 else "v2"
        return "hybrid" if set(self.v1) & set(USED) else "v2"

    def is_unified(self, controller: str) -> bool:
        """Return whether a controller (by its name in version 1) is used through version 2."""
        if controller in _BUILT_INTO_V2:
            return controller not in self.v1 and bool(self.unified)
        return _IN_V2.get(controller, controller) in self.unified

    def has(self, controller: str) -> bool:
        """Return whether a controller is there at all."""
        return controller in self.v1 or self.is_unified(controller)

    @property
    def throttles(self) -> Path | None:
        """Return the root of version 1's disk throttles, if they are used and have it alone."""
        root = self.v1.get("blkio")
        if root is None or self.is_unified("blkio"):
            return None
        return (
            root
            if [name for name, place in self.v1.items() if place == root] == ["blkio"]
            else None
        )

    def roots(self) -> list[Path]:
        """Return the root folder of each hierarchy that is used, once."""
        found = {
            self.v1[name]: None for name in USED if name in self.v1 and not self.is_unified(name)
        }
        if self.v2 is not None and self.unified:
            found[self.v2] = None
        return list(found)


def read(mounts: str) -> Hierarchies:
    """Return the hierarchies that a text of /proc/mounts lists."""
    v1: dict[str, Path] = {}
    v2: Path | None = None
    found: dict[Path, None] = {}
    for line in mounts.splitlines():
        _, place, kind, options = line.split(" ")[:4]
        if kind == "cgroup":
            v1.update({name: Path(place) for name in options.split(",") if name in USED})
            found[Path(place)] = None
        elif kind == "cgroup2":
            v2 = v2 or Path(place)
    unified = frozenset((v2 / "cgroup.controllers").read_text().split()) if v2 else frozenset[str]()
    known = Hierarchies(v1, v2, unified & {_IN_V2.get(name, name) for name in USED})
    places = [*found, *([v2] if v2 else [])]
    return replace(known, others=tuple(each for each in places if each not in known.roots()))


@functools.cache
def here() -> Hierarchies:
    """Return this machine's hierarchies."""
    return read(Path("/proc/self/mounts").read_text())
