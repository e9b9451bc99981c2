# SPDX-License-Identifier: GPL-3.0-or-later
"""Which host runs which node: by the node's label, else where it ran before, else by capacity."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pkgctl.errors import SpecError, nearest
from pkgctl.network import Node
from pkgctl.nodeside import units
from testbed.settings import Host

LABEL = "host"


@dataclass
class _Room:
    """What is left of a host."""

    host: Host
    cpu: float = 0.0
    memory: int = 0
    nodes: list[str] = field(default_factory=list)

    def fits(self, cpu: float, memory: int) -> bool:
        enough_cpu = self.host.cpu is None or self.cpu + cpu <= self.host.cpu
        return enough_cpu and (self.host.memory is None or self.memory + memory <= self.host.memory)

    def take(self, node: Node, memory: int) -> None:
        self.cpu += node.cpu
        self.memory += memory
        self.nodes.append(node.name)

    def fullness(self) -> tuple[float, int]:
        """How full the host is: by the part of its memory, or else by what its nodes have."""
        part = self.memory / self.host.memory if self.host.memory else 0.0
        return (part, self.memory)


def place(
    nodes: Sequence[Node],
    hosts: Sequence[Host],
    known: Mapping[str, str] | None = None,
    *,
    system: int = 0,
) -> dict[str, str]:
    """Return the name of each node's host.

    A node that is known to run on a host stays there, so a node that is added moves no other.

    Args:
        nodes: the nodes, in the topology's order.
        hosts: where they may run.
        known: where nodes run already.
        system: bytes that each needs beside its own memory.

    Raises:
        SpecError: if a label means no host, or a node fits nowhere.
    """
    rooms = {host.name: _Room(host) for host in hosts}
    chosen = _fixed(nodes, rooms, known or {})
    for node in nodes:
        if node.name in chosen:
            rooms[chosen[node.name]].take(node, node.memory + system)
    for node in nodes:
        if node.name not in chosen:
            room = _emptiest(node, list(rooms.values()), node.memory + system)
            room.take(node, node.memory + system)
            chosen[node.name] = room.host.name
    _refuse_overfull(list(rooms.values()))
    return {node.name: chosen[node.name] for node in nodes}


def _fixed(
    nodes: Sequence[Node], rooms: Mapping[str, _Room], known: Mapping[str, str]
) -> dict[str, str]:
    """Return the hosts of those that a label or the past binds to one."""
    chosen = {}
    for node in nodes:
        label = node.labels.get(LABEL)
        if label is not None and label not in rooms:
            raise SpecError(
                f"node {node.name} is labelled host: {label}, which is none of the hosts; "
                f"{nearest(label, list(rooms))}",
                key="hosts",
            )
        before = known.get(node.name)
        if label is not None:
            chosen[node.name] = label
        elif before in rooms:
            chosen[node.name] = str(before)
    return chosen


def _emptiest(node: Node, rooms: Sequence[_Room], memory: int) -> _Room:
    fitting = [room for room in rooms if room.fits(node.cpu, memory)]
    if not fitting:
        asked = f"{units.show_cpu(node.cpu)} cores and {units.show_size(memory)} of memory"
        raise SpecError(f"no host has {asked} left for node {node.name}", key="hosts")
    return min(fitting, key=_Room.fullness)


def _refuse_overfull(rooms: Sequence[_Room]) -> None:
    """Refuse nodes bound to a host that is too small for them."""
    for room in rooms:
        if not room.fits(0.0, 0):
            listed = ", ".join(room.nodes[:6])
            raise SpecError(
                f"{room.host.name} is too small for its nodes ({listed}): they have "
                f"{units.show_cpu(room.cpu)} cores and {units.show_size(room.memory)} of memory",
                key="hosts",
            )
