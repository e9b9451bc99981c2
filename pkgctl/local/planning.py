# SPDX-License-Identifier: GPL-3.0-or-later
"""What a local testbed should be, as values: addresses, identities, and the difference between two.

Nothing here touches the machine.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass, field
from typing import Any

from pkgctl import nodeplan
from pkgctl.local.paths import Paths
from pkgctl.network import Matrix
from pkgctl.nodeplan import allocate, matrix_from_dict, matrix_to_dict
from pkgctl.nodeside import identity as ids
from pkgctl.nodeside import quality as qualities
from pkgctl.topology import Node, Topology

INTERFACE = "eth0"

Quality = qualities.Quality


@dataclass(frozen=True, slots=True)
class Plan:
    """A testbed as it should be.

    Attributes:
        topology: what was asked for.
        nodes: each node's identity by name, in the topology's order.
        matrix: the quality of each directed pair.
    """

    topology: Topology
    nodes: Mapping[str, ids.Identity]
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
        described = nodeplan.describe(node, self.nodes[node.name])
        return {**described, "namespaces": str(paths.namespaces(node.name))}


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

    def settle(node: Node) -> dict[str, Any]:
        return {
            "testbed": paths.name,
            "interface": INTERFACE,
            "cgroup": f"{paths.cgroup}/nodes/{node.name}",
            "disks": _disks(node),
            "directory": str(paths.node(node.name)),
        }

    nodes = nodeplan.identities(topology.nodes, addresses, settle, ipv6=ipv6)
    return Plan(topology, nodes, topology.matrix())


def _disks(node: Node) -> dict[str, ids.Disk]:
    return {
        name: ids.Disk(f"{ids.DIRECTORY}/disks/{name}.img", disk.mount, disk.size)
        for name, disk in node.disks.items()
    }


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
