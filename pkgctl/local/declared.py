# SPDX-License-Identifier: GPL-3.0-or-later
"""A topology in pieces that change one by one: the testbed itself, its sites, nodes and links.

A piece's values are texts and numbers as somebody would write them, ready for JSON. A link here is
an entry of the topology's list of links; what the model says of all others follows from the sites.
Nothing here touches the machine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from pkgctl.linkmodel import Access, Location
from pkgctl.network import DOWN, UNSHAPED, Disk, Node, Rule, Site, Topology
from pkgctl.nodeside import Quality, units

Values = dict[str, Any]
# By kind and name. There is one testbed, and its name here is "".
Pieces = dict[str, dict[str, Values]]

TESTBED, SITE, NODE, LINK = KINDS = ("testbed", "site", "node", "link")
QUALITIES = ("rate", "delay", "jitter", "loss")
_SHOW: Mapping[str, Callable[[Any], str]] = {
    "rate": units.show_rate,
    "up": units.show_rate,
    "down": units.show_rate,
    "delay": units.show_duration,
    "jitter": units.show_duration,
    "loss": units.show_ratio,
}
_READ: Mapping[str, Callable[[object], Any]] = {
    "rate": units.rate,
    "up": units.rate,
    "down": units.rate,
    "delay": units.duration,
    "jitter": units.duration,
    "loss": units.ratio,
}
LIMITS: Mapping[str, Callable[[Any], Any]] = {"cpu": units.cpu, "memory": units.size, "pids": int}


def pieces(topology: Topology) -> Pieces:
    """Return the pieces of a topology."""
    return {
        TESTBED: {"": about(topology)},
        SITE: {name: _site(site) for name, site in topology.sites.items()},
        NODE: {
            node.name: _node(node, number) for number, node in enumerate(topology.nodes, start=1)
        },
        LINK: _links(topology),
    }


def about(topology: Topology) -> Values:
    """Return what a topology says of itself."""
    return {
        "topology": topology.name,
        "description": topology.description,
        "registry": topology.registry,
    }


def topology(of: Pieces) -> Topology:
    """Return the topology that is made of some pieces.

    What names something that is not among them, as a link may, is left without effect.
    """
    itself = of[TESTBED][""]
    nodes = sorted(of[NODE].items(), key=lambda item: (int(item[1]["number"]), item[0]))
    return Topology(
        name=itself["topology"],
        description=itself.get("description") or "",
        registry=itself["registry"],
        sites={name: _read_site(values) for name, values in of[SITE].items()},
        nodes=tuple(_read_node(name, values) for name, values in nodes),
        rules=tuple(_read_link(values) for _, values in in_order(of[LINK])),
    )


def in_order(links: Mapping[str, Values]) -> list[tuple[str, Values]]:
    """Return names and values of entries so that later ones go over earlier ones."""
    return sorted(links.items(), key=lambda item: (int(item[1].get("order") or 0), item[0]))


def link_names(rules: Iterable[Rule]) -> list[str]:
    """Return a name of its own for each entry of a topology's list of links."""
    found: list[str] = []
    for rule in rules:
        name = f"{rule.source}->{rule.to}"
        again = sum(each.partition("#")[0] == name for each in found)
        found.append(f"{name}#{again + 1}" if again else name)
    return found


def spell_quality(link: Quality) -> Values:
    """Return the texts of what a link does; what it does not do is left out."""
    return _texts({key: getattr(link, key) for key in QUALITIES})


def _texts(numbers: Mapping[str, Any]) -> Values:
    return {key: _SHOW[key](number) for key, number in numbers.items() if number}


def _links(topology: Topology) -> dict[str, Values]:
    found = {}
    names, orders = link_names(topology.rules), _orders(topology)
    for name, order, rule in zip(names, orders, topology.rules, strict=True):
        values: Values = {"from": rule.source, "to": rule.to}
        if rule.whole is not None:
            values["down" if rule.whole.is_down else "unshaped"] = True
        else:
            values |= {key: _SHOW[key](number) for key, number in rule.change.items()}
        found[name] = {**values, "order": order} if order else values
    return found


def _orders(topology: Topology) -> list[int]:
    """Return how many others lie below each entry that shares a pair of nodes with them.

    A later entry of the list goes over an earlier one. Sorted by these numbers, entries that share
    a pair are in the list's order, whatever else comes between them.
    """
    ends = [(topology.select(rule.source), topology.select(rule.to)) for rule in topology.rules]
    orders: list[int] = []
    for sources, to in ends:
        below = (
            order + 1
            for order, (others, toward) in zip(orders, ends, strict=False)
            if _share_pair(sources & others, to & toward)
        )
        orders.append(max(below, default=0))
    return orders


def _share_pair(sources: frozenset[str], to: frozenset[str]) -> bool:
    return bool(sources and to) and len(sources | to) > 1


def _read_link(values: Values) -> Rule:
    whole = DOWN if values.get("down") else UNSHAPED if values.get("unshaped") else None
    change = {key: _READ[key](values[key]) for key in QUALITIES if values.get(key) is not None}
    return Rule(values["from"], values["to"], change, whole)


def _site(site: Site) -> Values:
    place = site.location
    where = {"latitude": place.latitude, "longitude": place.longitude} if place else {}
    return {"access": _access(site.access), **where}


def _read_site(values: Values) -> Site:
    known = values.get("latitude") is not None
    place = Location(values["latitude"], values["longitude"]) if known else None
    return Site(_read_access(values.get("access") or {}), place)


def _access(access: Access) -> Values:
    return _texts({key: getattr(access, key) for key in ("up", "down", "delay", "jitter", "loss")})


def _read_access(values: Values) -> Access:
    return Access(**{key: _READ[key](text) for key, text in values.items() if text is not None})


def _node(node: Node, number: int) -> Values:
    values: Values = {
        "number": number,
        "site": node.site,
        "kind": node.kind,
        "role": node.role,
        "labels": dict(node.labels),
        **spell_limits(node.cpu, node.memory, node.pids),
        "disks": {
            name: {"size": units.show_size(disk.size), "mount": disk.mount}
            for name, disk in node.disks.items()
        },
    }
    return values if node.access is None else {**values, "access": _access(node.access)}


def spell_limits(cpu: float, memory: int, pids: int) -> Values:
    """Return the texts of what a node may use."""
    return {"cpu": units.show_cpu(cpu), "memory": units.show_size(memory), "pids": pids}


def _read_node(name: str, values: Values) -> Node:
    access = values.get("access")
    return Node(
        name=name,
        site=values["site"],
        kind=values["kind"],
        role=values["role"],
        cpu=units.cpu(values["cpu"]),
        memory=units.size(values["memory"]),
        pids=int(values["pids"]),
        labels=dict(values.get("labels") or {}),
        disks={
            each: Disk(units.size(disk["size"]), disk["mount"])
            for each, disk in (values.get("disks") or {}).items()
        },
        access=None if access is None else _read_access(access),
    )
