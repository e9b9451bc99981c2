# SPDX-License-Identifier: GPL-3.0-or-later
"""One moment of a running testbed: its nodes' use, its links asked and seen, its layers.

Figures are plain numbers: cores, bytes, bits or bytes a second, shares of one. None is not known.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from pkgctl.nodeside import Quality
from pkgctl.watch.layering import Layer


@dataclass(frozen=True, slots=True)
class Node:
    """A node's use over the last interval.

    Attributes:
        name: its name.
        site: its site.
        health: running, paused, stopped or crashed.
        cpu: cores in use.
        cpu_limit: cores that it may use now.
        throttled: seconds a second in which it had to wait for its allowance.
        memory: bytes in use.
        memory_limit: bytes that it may use now.
        disk: bytes in use on its data disks that are mounted.
        disk_size: bytes of those disks.
        read, write: bytes a second from and to its disks.
        rx, tx: bits a second that arrived at it and left it.
        jobs: how many run on it.
    """

    name: str
    site: str
    health: str = "running"
    cpu: float | None = None
    cpu_limit: float | None = None
    throttled: float | None = None
    memory: int | None = None
    memory_limit: int | None = None
    disk: int | None = None
    disk_size: int | None = None
    read: float | None = None
    write: float | None = None
    rx: float | None = None
    tx: float | None = None
    jobs: int = 0

    @property
    def cpu_share(self) -> float | None:
        """The part of its cores that is in use."""
        return _share(self.cpu, self.cpu_limit)

    @property
    def memory_share(self) -> float | None:
        """The part of its memory that is in use."""
        return _share(self.memory, self.memory_limit)

    @property
    def disk_share(self) -> float | None:
        """The part of its mounted disks that is in use."""
        return _share(self.disk, self.disk_size)

    @property
    def network(self) -> float:
        """Bits a second, both ways together."""
        return (self.rx or 0.0) + (self.tx or 0.0)


def _share(used: float | None, limit: float | None) -> float | None:
    return None if used is None or not limit else used / limit


@dataclass(frozen=True, slots=True)
class Link:
    """A directed pair: what is asked of it and what it carried over the last interval.

    Attributes:
        src, dst: its ends.
        asked: the quality that all layers add up to.
        seen: bits a second of frames; None where the pair has no class of its own to count them.
        dropped: the share of packets that its queue had no room for.
        lost: the share that was lost on purpose since its loss was set, of the packets ``met``.
        met: how many packets that is a share of.
        disturbed: whether a layer beside base acts on it.
    """

    src: str
    dst: str
    asked: Quality
    seen: float | None = None
    dropped: float | None = None
    disturbed: bool = False
    lost: float | None = None
    met: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Return it ready for JSON."""
        kept = ("src", "dst", "seen", "dropped", "lost", "met", "disturbed")
        return {**{key: getattr(self, key) for key in kept}, "asked": self.asked.to_dict()}


@dataclass(frozen=True, slots=True)
class Picture:
    """What a testbed was like at one moment.

    Attributes:
        testbed: its name.
        topology: its topology's.
        wall: the moment, in seconds since 1970.
        mono: the same moment on CLOCK_MONOTONIC.
        interval: seconds over which rates were taken.
        nodes: in the order of the topology.
        links: the busiest first, then those that are disturbed.
        layers: in force and armed.
        delay_line: its figures; None if it does not answer.
        notes: what the reader should know, such as that the agent does not answer.
    """

    testbed: str
    topology: str
    wall: float
    mono: float
    interval: float
    nodes: Sequence[Node] = ()
    links: Sequence[Link] = ()
    layers: Sequence[Layer] = ()
    delay_line: Mapping[str, Any] | None = None
    notes: Sequence[str] = field(default=())

    def to_dict(self) -> dict[str, Any]:
        """Return it ready for JSON."""
        kept = ("testbed", "topology", "wall", "mono", "interval", "delay_line", "notes")
        return {
            **{key: getattr(self, key) for key in kept},
            "nodes": [asdict(node) for node in self.nodes],
            "links": [link.to_dict() for link in self.links],
            "layers": [layer.to_dict(self.mono) for layer in self.layers],
        }
