# SPDX-License-Identifier: GPL-3.0-or-later
"""A topology as values: sites, nodes, and the complete directed matrix of link qualities.

The single truth that infrastructure, playbooks, schedulers and reports read. How a topology is
written in a file is the matter of ``pkgctl.topology``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import Any

from pkgctl.linkmodel import Access, Location, backbone
from pkgctl.nodeside import Quality, quality

Matrix = Mapping[str, Mapping[str, Quality]]

EVERYWHERE = "*"
UNSHAPED = Quality()
DOWN = Quality(loss=1.0)


@dataclass(frozen=True)
class Disk:
    """A disk of a node: its size in bytes and where the node sees it."""

    size: int
    mount: str


@dataclass(frozen=True)
class Site:
    """A place with nodes; location is None where nobody knows it."""

    access: Access
    location: Location | None = None


@dataclass(frozen=True)
class Node:
    """One node: where it is, what it is for, and what it may use.

    Attributes:
        cpu: cores.
        memory: bytes.
        pids: the most processes and threads.
        access: the node's own access network; None where only its site has one.
    """

    name: str
    site: str
    kind: str
    role: str
    cpu: float
    memory: int
    pids: int
    labels: Mapping[str, str] = field(default_factory=dict)
    disks: Mapping[str, Disk] = field(default_factory=dict)
    access: Access | None = None

    @property
    def access_up(self) -> int | None:
        """Bits a second that the node may send in all, None without a limit."""
        return self.access.up if self.access else None

    @property
    def access_down(self) -> int | None:
        """Bits a second that the node may receive in all, None without a limit."""
        return self.access.down if self.access else None


@dataclass(frozen=True)
class Rule:
    """What a topology says about the links from one end to another, against the model.

    Attributes:
        source: a node, a site, or ``*``.
        to: a node, a site, or ``*``.
        change: the parts of a quality to set; ignored where ``whole`` is given.
        whole: the quality to put in the place of the model's.
    """

    source: str
    to: str
    change: Mapping[str, int | float] = field(default_factory=dict)
    whole: Quality | None = None

    def apply(self, link: Quality) -> Quality:
        """Return the link as the rule wants it."""
        if self.whole is not None:
            return self.whole
        numbers: dict[str, Any] = dict(self.change)
        return replace(link, **numbers)


@dataclass(frozen=True)
class Topology:
    """A network of unequal nodes.

    Attributes:
        registry: the node that holds the artifacts.
        source: the file it came from, for errors.
    """

    name: str
    sites: Mapping[str, Site]
    nodes: tuple[Node, ...]
    registry: str
    rules: tuple[Rule, ...] = ()
    description: str = ""
    source: str = field(default="", compare=False)

    def node(self, name: str) -> Node:
        """Return the node of that name.

        Raises:
            KeyError: if there is none.
        """
        return self._by_name[name]

    def matrix(self) -> Matrix:
        """Return the quality of the link from each node, the outer key, to each other node."""
        return self._matrix

    def pairs(self) -> Iterator[tuple[str, str, Quality]]:
        """Yield source, destination and quality of every directed link."""
        for source, row in self._matrix.items():
            for to, link in row.items():
                yield source, to, link

    def select(self, end: str) -> frozenset[str]:
        """Return the nodes that an end of a rule means: one, those of a site, or all."""
        if end == EVERYWHERE:
            return frozenset(self._by_name)
        if end in self._by_name:
            return frozenset((end,))
        return frozenset(node.name for node in self.nodes if node.site == end)

    def is_like(self, other: Topology) -> bool:
        """Return whether another topology has the same nodes and links, however it is written."""
        return (
            (self.name, self.registry, self.sites) == (other.name, other.registry, other.sites)
            and self._by_name == other._by_name
            and self._matrix == other._matrix
        )

    @cached_property
    def _by_name(self) -> dict[str, Node]:
        return {node.name: node for node in self.nodes}

    @cached_property
    def _matrix(self) -> Matrix:
        ends = [(self.select(rule.source), self.select(rule.to), rule) for rule in self.rules]
        derived = _Derived(self.sites)
        matrix: dict[str, dict[str, Quality]] = {}
        for source in self.nodes:
            rules = [(to, rule) for sources, to, rule in ends if source.name in sources]
            matrix[source.name] = {
                to.name: derived.ruled(derived.link(source, to), to.name, rules)
                for to in self.nodes
                if to is not source
            }
        return matrix

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, ready for JSON."""
        return {
            "name": self.name,
            "description": self.description,
            "registry": self.registry,
            "sites": {name: asdict(site) for name, site in self.sites.items()},
            "nodes": [asdict(node) for node in self.nodes],
            "rules": [asdict(rule) for rule in self.rules],
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Topology:
        """Return the topology that to_dict wrote."""
        return cls(
            name=values["name"],
            description=values["description"],
            registry=values["registry"],
            sites={name: _site(site) for name, site in values["sites"].items()},
            nodes=tuple(_node(node) for node in values["nodes"]),
            rules=tuple(_rule(rule) for rule in values["rules"]),
        )


class _Derived:
    """The model's links between kinds of ends, each made once and shared by all its pairs."""

    def __init__(self, sites: Mapping[str, Site]) -> None:
        self._sites = sites
        self._links: dict[tuple[object, ...], Quality] = {}
        self._ruled: dict[tuple[Quality, int], Quality] = {}

    def link(self, source: Node, to: Node) -> Quality:
        key = (source.site, source.access, to.site, to.access)
        if key not in self._links:
            self._links[key] = quality.compose(*self._parts(source, to))
        return self._links[key]

    def _parts(self, source: Node, to: Node) -> Iterator[Quality]:
        if source.access:
            yield source.access.leaving()
        if source.site != to.site:
            here, there = self._sites[source.site], self._sites[to.site]
            yield here.access.leaving()
            yield backbone(here.location, there.location)
            yield there.access.arriving()
        if to.access:
            yield to.access.arriving()

    def ruled(self, link: Quality, to: str, rules: list[tuple[frozenset[str], Rule]]) -> Quality:
        for ends, rule in rules:
            if to in ends:
                key = (link, id(rule))
                if key not in self._ruled:
                    self._ruled[key] = rule.apply(link)
                link = self._ruled[key]
        return link


def twins(matrix: Matrix) -> list[list[str]]:
    """Return the nodes in groups whose members have the same links to and from all others."""
    groups: list[list[str]] = []
    for name in matrix:
        group = next((each for each in groups if _are_twins(matrix, each[0], name)), None)
        if group is None:
            groups.append([name])
        else:
            group.append(name)
    return groups


def _are_twins(matrix: Matrix, one: str, other: str) -> bool:
    if matrix[one][other] != matrix[other][one]:
        return False
    rest = [name for name in matrix if name not in (one, other)]
    return all(
        matrix[one][name] == matrix[other][name] and matrix[name][one] == matrix[name][other]
        for name in rest
    )


def _site(values: Mapping[str, Any]) -> Site:
    place = values["location"]
    return Site(Access(**values["access"]), Location(**place) if place else None)


def _node(values: Mapping[str, Any]) -> Node:
    disks = {name: Disk(**disk) for name, disk in values["disks"].items()}
    access = Access(**values["access"]) if values["access"] else None
    return Node(**{**values, "disks": disks, "access": access})


def _rule(values: Mapping[str, Any]) -> Rule:
    whole = values["whole"]
    return Rule(**{**values, "whole": None if whole is None else Quality.from_dict(whole)})
