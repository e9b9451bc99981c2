# SPDX-License-Identifier: GPL-3.0-or-later
"""What a local testbed should be, as values: addresses, identities, and the difference between two.

Nothing here touches the machine.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass, field
from typing import Any

from pkgctl.errors import SpecError
from pkgctl.local.paths import Paths
from pkgctl.nodeside import identity as ids
from pkgctl.nodeside import quality as qualities
from pkgctl.topology import Node, Topology

NETWORK = ipaddress.IPv4Network("10.77.0.0/16")
GATEWAY = str(NETWORK[-2])
# A node has the same number in both networks.
NETWORK6 = ipaddress.IPv6Network("fd77:7067::/64")
INTERFACE = "eth0"
# A class number is a node's number in the network: HTB has room for so many.
MOST_NODES = 0x6000

Quality = qualities.Quality
Matrix = Mapping[str, Mapping[str, Quality]]


@dataclass(frozen=True, slots=True)
class Plan:
    """A testbed as it should be.

    Attributes:
        topology: what was asked for.
        nodes: each node's identity by name, in the topology's order.
        download: the access rate in bits/s of what arrives at each node that has one.
        matrix: the quality of each directed pair.
    """

    topology: Topology
    nodes: Mapping[str, ids.Identity]
    download: Mapping[str, int]
    matrix: Matrix

    def egress(self, node: str) -> dict[str, Quality]:
        """Return the quality of the direction from a node to each other."""
        return dict(self.matrix[node])

    def ingress(self, node: str) -> dict[str, Quality]:
        """Return the quality of the direction from each other to a node."""
        return {other: row[node] for other, row in self.matrix.items() if other != node}

    def state(self, paths: Paths) -> dict[str, Any]:
        """Return the testbed's description, ready for JSON."""
        return {
            "format": 1,
            "testbed": paths.name,
            "provider": "local",
            "topology": self.topology.to_dict(),
            "registry": self.topology.registry,
            "nodes": {node.name: self._node(node, paths) for node in self.topology.nodes},
            "links": matrix_to_dict(self.matrix),
        }

    def _node(self, node: Node, paths: Paths) -> dict[str, Any]:
        known = self.nodes[node.name]
        return {
            "site": node.site,
            "kind": node.kind,
            "role": node.role,
            "labels": dict(node.labels),
            "address": known.address,
            "address6": known.address6,
            "interface": known.interface,
            "cpu": node.cpu,
            "memory": node.memory,
            "pids": node.pids,
            "access_up": node.access_up,
            "access_down": node.access_down,
            "disks": {
                name: {"size": disk.size, "mount": disk.mount} for name, disk in node.disks.items()
            },
            "namespaces": str(paths.namespaces(node.name)),
            "cgroup": known.cgroup,
            "directory": str(paths.node(node.name)),
        }


def matrix_to_dict(matrix: Matrix) -> dict[str, dict[str, dict[str, Any]]]:
    """Return a matrix of plain numbers; equal cells share one dictionary."""
    known = {cell: cell.to_dict() for row in matrix.values() for cell in row.values()}
    return {
        source: {target: known[cell] for target, cell in row.items()}
        for source, row in matrix.items()
    }


def matrix_from_dict(links: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> Matrix:
    """Return the matrix that matrix_to_dict wrote."""
    return {
        source: {target: Quality.from_dict(cell) for target, cell in row.items()}
        for source, row in links.items()
    }


def plan(
    topology: Topology,
    paths: Paths,
    known: Mapping[str, str] | None = None,
    *,
    ipv6: bool = True,
) -> Plan:
    """Return the testbed that a topology asks for.

    Args:
        topology: what is asked for.
        paths: where its things go.
        known: addresses that nodes have already and keep.
        ipv6: whether nodes have IPv6 addresses too.

    Raises:
        SpecError: if there are more nodes than addresses.
    """
    addresses = allocate([node.name for node in topology.nodes], known or {})
    seconds = {name: second(address) if ipv6 else "" for name, address in addresses.items()}
    nodes = {node.name: _identity(node, addresses, seconds, paths) for node in topology.nodes}
    download = {node.name: node.access_down for node in topology.nodes if node.access_down}
    return Plan(topology, nodes, download, topology.matrix())


def allocate(names: Iterable[str], known: Mapping[str, str]) -> dict[str, str]:
    """Return an address for each name: the known one, else the lowest that is free.

    Raises:
        SpecError: if there are more names than addresses.
    """
    wanted = list(names)
    if len(wanted) > MOST_NODES:
        raise SpecError(
            f"{len(wanted)} nodes are too many for one machine: {MOST_NODES} is the most"
        )
    kept = {name: known[name] for name in wanted if name in known}
    taken = {int(ipaddress.IPv4Address(address)) for address in kept.values()}
    first = int(NETWORK.network_address) + 1
    free = (number for number in range(first, first + MOST_NODES) if number not in taken)
    return {
        name: kept[name] if name in kept else str(ipaddress.IPv4Address(next(free)))
        for name in wanted
    }


def second(address: str) -> str:
    """Return the IPv6 address of whoever has an IPv4 address in NETWORK."""
    number = int(ipaddress.IPv4Address(address)) - int(NETWORK.network_address)
    return str(NETWORK6[number])


def _identity(
    node: Node, addresses: Mapping[str, str], seconds: Mapping[str, str], paths: Paths
) -> ids.Identity:
    disks = {
        name: ids.Disk(f"{ids.DIRECTORY}/disks/{name}.img", disk.mount, disk.size)
        for name, disk in node.disks.items()
    }
    return ids.Identity(
        name=node.name,
        testbed=paths.name,
        interface=INTERFACE,
        address=addresses[node.name],
        network=str(NETWORK),
        peers={name: address for name, address in addresses.items() if name != node.name},
        access=node.access_up,
        cgroup=f"{paths.cgroup}/nodes/{node.name}",
        cpu=node.cpu,
        memory=node.memory,
        pids=node.pids,
        disks=disks,
        directory=str(paths.node(node.name)),
        address6=seconds[node.name],
        peers6={name: each for name, each in seconds.items() if each and name != node.name},
    )


def hosts_file(nodes: Mapping[str, ids.Identity]) -> str:
    """Return the /etc/hosts of all nodes; of a name's two addresses programs take IPv4 first."""
    lines = ["127.0.0.1 localhost", "::1 localhost ip6-localhost ip6-loopback"]
    lines += [f"{known.address} {name}" for name, known in nodes.items()]
    lines += [f"{known.address6} {name}" for name, known in nodes.items() if known.address6]
    return "".join(f"{line}\n" for line in lines)


@dataclass(frozen=True, slots=True)
class Difference:
    """What leads from one testbed to another.

    Attributes:
        made: nodes that are new, or must be made anew.
        removed: nodes that go, or must be made anew.
        limited: nodes whose CPU, memory or pids differ.
        shaped: nodes that stay and of whose links any differs, comes or goes, in either direction.
        lines: all of it for people, a fact a line.
    """

    made: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    limited: list[str] = field(default_factory=list)
    shaped: list[str] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)


_LIMITS = ("cpu", "memory", "pids")
_LABELS = ("site", "kind", "role", "labels")


def difference(before: Mapping[str, Any], after: Plan, paths: Paths) -> Difference:
    """Return what leads from a testbed's description to a plan."""
    old, new = before["nodes"], after.state(paths)["nodes"]
    reborn = [name for name in new if name in old and _needs_rebirth(old[name], new[name])]
    made = [name for name in new if name not in old] + reborn
    removed = [name for name in old if name not in new] + reborn
    limited = [
        name
        for name in new
        if name not in made and any(old[name][key] != new[name][key] for key in _LIMITS)
    ]
    matrix = matrix_from_dict(before["links"])
    links = _changed_links(matrix, after.matrix)
    touched = {end for pair in links for end in pair}
    touched |= _neighbours(matrix, old.keys() - new) | _neighbours(after.matrix, new.keys() - old)
    lines = [f"- node {name}" for name in removed] + [f"+ node {name}" for name in made]
    lines += [
        line for name in new if name in old for line in _changed_keys(name, old[name], new[name])
    ]
    lines += _show_links(links)
    shaped = [name for name in new if name in touched and name not in made]
    return Difference(made, removed, limited, shaped, lines)


def _needs_rebirth(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    return any(old[key] != new[key] for key in ("disks", "access_up", "access_down", "address"))


def _changed_keys(name: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    keys = (*_LIMITS, *_LABELS, "disks", "access_up", "access_down")
    return [f"~ node {name}: {key} {old[key]} → {new[key]}" for key in keys if old[key] != new[key]]


def _changed_links(old: Matrix, new: Matrix) -> dict[tuple[str, str], tuple[Quality, Quality]]:
    return {
        (source, target): (old[source][target], cell)
        for source, row in new.items()
        for target, cell in row.items()
        if source in old and target in old[source] and old[source][target] != cell
    }


def _neighbours(matrix: Matrix, names: Set[str]) -> set[str]:
    """Return the nodes with a shaped link to or from any of names."""
    return {
        other
        for name in names
        for other in matrix[name]
        if not (matrix[name][other].is_unshaped and matrix[other][name].is_unshaped)
    }


_MOST_LINES = 20


def _show_links(links: Mapping[tuple[str, str], tuple[Quality, Quality]]) -> list[str]:
    lines = [
        f"~ link {source} → {target}: {old.show()} → {new.show()}"
        for (source, target), (old, new) in links.items()
    ]
    more = len(lines) - _MOST_LINES
    return lines if more <= 0 else [*lines[:_MOST_LINES], f"~ and {more} more links"]
