# SPDX-License-Identifier: GPL-3.0-or-later
"""What the agent tells of its nodes to a controller that cannot look itself.

Where the nodes are machines of their own, their stores, limits and disks are nowhere else.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from . import kinds, layers, syscalls
from .cgroups import group
from .errors import DisturbanceError
from .identity import Identity
from .namespaces import inside

Body = dict[str, Any]


class Looking:
    """Looks at the nodes of a testbed."""

    def __init__(
        self, directory: Path, nodes: Callable[[str], Identity], names: Callable[[], list[str]]
    ) -> None:
        """Look at the testbed in directory.

        Args:
            directory: the testbed's folder.
            nodes: returns a node's identity by name.
            names: returns the names of all nodes.
        """
        self._directory = directory
        self._nodes = nodes
        self._names = names

    def look(self, request: Body) -> Body:
        """Return what nodes have in force now.

        The request may name ``nodes`` (all are meant otherwise), and say with ``known`` which
        stamps of which stores the caller has, by node and kind: a store that is still the same is
        left out. With ``disks`` it is told too how full the mounted disks are.

        Returns:
            ``{"nodes": {NAME: {"cpu", "memory", "impairment", "stores": {KIND: {"stamp",
            "layers"}}, "disk"}}, "mono"}``; a limit is None where there is none.
        """
        named, known = request.get("nodes"), request.get("known") or {}
        found = {
            name: self._look(
                self._nodes(name), known.get(name) or {}, disks=bool(request.get("disks"))
            )
            for name in (self._names() if named is None else map(str, named))
        }
        return {"nodes": found, "mono": syscalls.monotonic()}

    def _look(self, node: Identity, known: Mapping[str, Any], *, disks: bool) -> Body:
        own = group(node.cgroup)
        return {
            "cpu": _limit(own.cpu),
            "memory": _limit(own.memory),
            "impairment": node.impairment,
            "stores": {
                kind: store
                for kind in kinds.NAMES
                if (store := _store(node, kind))["stamp"] != known.get(kind)
            },
            **({"disk": self._used(node)} if disks else {}),
        }

    def _used(self, node: Identity) -> list[int] | None:
        places = [disk.mount for disk in node.disks.values()]
        found = None
        with suppress(OSError, DisturbanceError), inside(self._directory, node):
            found = used(places)
        return None if found is None else list(found)


def _limit(read: Callable[[], Any]) -> Any:
    try:
        return read()
    except (DisturbanceError, ValueError):
        return None


def _store(node: Identity, kind: str) -> Body:
    path = Path(node.directory, kinds.store(kind))
    # Looked at first: what is written meanwhile is read now, and again the next time.
    stamp = layers.stamp(path)
    text = "" if stamp is None else ".".join(map(str, stamp))
    return {"stamp": text, "layers": layers.load(path)}


def used(places: Iterable[str]) -> tuple[int, int] | None:
    """Return (used, size) in bytes of those disks that are mounted; None if none is."""
    sizes = [os.statvfs(place) for place in places if os.path.ismount(place)]
    if not sizes:
        return None
    return (
        sum((each.f_blocks - each.f_bfree) * each.f_frsize for each in sizes),
        sum(each.f_blocks * each.f_frsize for each in sizes),
    )
