# SPDX-License-Identifier: GPL-3.0-or-later
"""What each directed pair of nodes has carried, from the counters of the pairs' HTB classes.

Only pairs with a rate of their own have a class. Counters are cumulative, from the class's birth;
the reader takes differences. Formats: linux/rtnetlink.h, linux/gen_stats.h.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import namespaces, rtnl, shaping, syscalls
from .errors import AgentError, KernelError
from .identity import Identity
from .netlink import NETLINK_ROUTE, Socket

Body = dict[str, Any]
_TCMSG = struct.Struct("=BxxxiIII")
_ATTRIBUTE = struct.Struct("=HH")
_TCA_STATS2 = 7
# What begins the statistics of a class: bytes and packets, then the third of its queue's numbers.
_STATS = struct.Struct("=HHQIxxxxHHIIIII")
_BASIC, _QUEUE = (20, 1), (24, 3)
Carried = tuple[int, int, int]


def carried(listing: list[bytes]) -> dict[int, Carried]:
    """Return what each class has let through, by class id, from the bodies of a class dump.

    Bytes of frames, packets, and packets that its queue had no room for.
    """
    found = {}
    begins: dict[int, int] = {}
    for body in listing:
        # Messages of one length are laid out alike; looking for the place costs most.
        at = begins.get(len(body))
        if at is None:
            at = begins[len(body)] = _statistics(body)
        if at + _STATS.size > len(body):
            continue
        length, kind, count, packets, second, other, _, _, drops, _, _ = _STATS.unpack_from(
            body, at
        )
        if (length, kind) == _BASIC:
            lost = drops if (second, other) == _QUEUE else 0
            found[_TCMSG.unpack_from(body)[2]] = (count, packets, lost)
    return found


def _statistics(body: bytes) -> int:
    """Return where the statistics of a class begin; the message's end if it has none."""
    at = _TCMSG.size
    while at + _ATTRIBUTE.size <= len(body):
        length, kind = _ATTRIBUTE.unpack_from(body, at)
        if kind & 0x3FFF == _TCA_STATS2 or length < _ATTRIBUTE.size:
            return at + _ATTRIBUTE.size
        at += (length + 3) & ~3
    return len(body)


@dataclass(slots=True)
class _Node:
    """A node's interface, and the peer of each class there can be."""

    written: int
    interface: str
    peers: dict[int, str]


class Pairs:
    """The counters of all pairs of a testbed's nodes, read one node at a time."""

    def __init__(self, directory: Path, nodes: Callable[[str], Identity]) -> None:
        """Read the testbed in directory, whose nodes' identities nodes returns."""
        self._directory = directory
        self._identity = nodes
        self._known: dict[str, _Node] = {}

    def read(self, request: Body) -> Body:
        """Return ``{"pairs": [[src, dst, bytes, packets, drops], …], "mono": seconds}``.

        The request may name ``nodes`` whose outgoing pairs it wants: a testbed of a hundred nodes
        has so many pairs that reading all at once would keep the agent from what is due.
        """
        wanted = request.get("nodes")
        names = self._all() if wanted is None else [str(name) for name in wanted]
        return {
            "pairs": [pair for name in names for pair in self._read(name)],
            "mono": syscalls.monotonic(),
        }

    def _all(self) -> list[str]:
        return sorted(path.name for path in self._directory.glob("nodes/*"))

    def _read(self, name: str) -> list[list[Any]]:
        node = self._node(name)
        listing: list[bytes] = []
        # A node that goes away meanwhile has no pairs.
        with suppress(KernelError, FileNotFoundError):
            listing = self._dump(name, node.interface)
        peers = node.peers
        return [
            [name, peers[minor], *counts]
            for classid, counts in carried(listing).items()
            if (minor := classid & 0xFFFF) in peers
        ]

    def _node(self, name: str) -> _Node:
        known, written = self._known.get(name), self._written(name)
        if known is None or known.written != written:
            identity = self._identity(name)
            peers = {shaping.peer_class(identity, peer): peer for peer in identity.peers}
            known = self._known[name] = _Node(written, identity.interface, peers)
        return known

    def _written(self, name: str) -> int:
        try:
            return (self._directory / "nodes" / name / "node.json").stat().st_mtime_ns
        except FileNotFoundError as error:
            raise AgentError(f"there is no node {name!r}") from error

    def _dump(self, name: str, interface: str) -> list[bytes]:
        # Opened for each reading: that takes 20 us, and a node that is removed is not held on to.
        with namespaces.in_network(self._directory / "ns" / name / "net"):
            opened = Socket(NETLINK_ROUTE)
        with opened as route:
            index = rtnl.link_index(route, interface)
            # Only the root discipline's classes: each queue below would count as one more.
            wanted = _TCMSG.pack(0, index, 0, shaping.ROOT, 0)
            return route.dump(rtnl.RTM_GETTCLASS, wanted, what="list classes")
