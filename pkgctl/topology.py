# SPDX-License-Identifier: GPL-3.0-or-later
"""Topologies by name or file: reading them, writing their kinds and ranges out, and the checks.

``load`` is the way in, and gives the values of ``pkgctl.network``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from pkgctl import project
from pkgctl.documents import Document, parse, read
from pkgctl.errors import SpecError, nearest
from pkgctl.linkmodel import Access, Location
from pkgctl.network import EVERYWHERE, Disk, Node, Site, Topology
from pkgctl.nodeside import units
from pkgctl.topologyfile import MAX_NODES, KindFile, LinkFile, NodeFile, TopologyFile, label, spell

__all__ = [
    "Access",
    "Disk",
    "Location",
    "Node",
    "Site",
    "Topology",
    "check_machine",
    "dumps",
    "load",
    "loads",
]

DEFAULT_PIDS = 512

_RANGE = re.compile(r"(.*)\[(\d{1,4})-(\d{1,4})\](.*)", re.ASCII)


def load(name_or_path: str | Path, *, beside: Path | None = None) -> Topology:
    """Return the topology that a name or a file means.

    Args:
        name_or_path: a file, or the name of a topology that comes with pkgctl.
        beside: the folder from which a relative path is seen; the current one by default.

    Raises:
        SpecError: for anything that is wrong with it, in one line.
    """
    path = project.find("topology", str(name_or_path), project.topologies(), beside=beside)
    return build(_with_includes(path, ()))


def loads(text: str, name: str = "<text>") -> Topology:
    """Return the topology in a text that includes nothing.

    Raises:
        SpecError: for anything that is wrong with it.
    """
    return build(parse(text, name, "topology"))


def dumps(topology: Topology) -> str:
    """Return the text of a file that says the same, without ranges, kinds and includes."""
    return yaml.safe_dump(spell(topology), sort_keys=False, allow_unicode=True)


def _with_includes(path: Path, above: tuple[Path, ...]) -> Document:
    """Return the file's document over those that it includes."""
    document = read(path, "topology")
    included = document.values.pop("include", [])
    if not isinstance(included, (str, list)) or not all(isinstance(name, str) for name in included):
        raise document.error("found no file name; write include: other.yaml", "include")
    chain = (*above, path.resolve())
    for name in reversed([included] if isinstance(included, str) else included):
        document = document.over(_included(name, path, chain, document))
    return document


def _included(name: str, path: Path, chain: tuple[Path, ...], document: Document) -> Document:
    try:
        found = project.find("topology", name, project.topologies(), beside=path.parent)
    except SpecError as error:
        raise document.error(str(error), "include") from error
    if found.resolve() in chain:
        circle = " includes ".join([*(each.name for each in chain), found.name])
        raise document.error(f"the files include one another: {circle}", "include")
    return _with_includes(found, chain)


def build(document: Document) -> Topology:
    """Return the topology that a document describes.

    Raises:
        SpecError: for anything that is wrong with it.
    """
    file: TopologyFile = document.check(TopologyFile.model_validate)
    nodes = tuple(_nodes(file, document))
    _check_names(file, nodes, document)
    topology = Topology(
        name=file.name,
        description=file.description,
        sites={name: site.value() for name, site in file.sites.items()},
        nodes=nodes,
        rules=tuple(rule for link in file.links for rule in link.rules()),
        registry=_registry(file, nodes, document),
        source=document.name,
    )
    _check_reach(topology, document)
    return topology


def _nodes(file: TopologyFile, document: Document) -> Iterator[Node]:
    """Yield the nodes, with ranges and counts written out and kinds filled in."""
    first: dict[str, int] = {}
    for index, entry in enumerate(file.nodes):
        for name in _names(entry, index, document):
            if name in first:
                earlier = f"nodes[{first[name]}]"
                raise document.error(
                    f"a second node {name!r}; the first is {earlier}", "nodes", index, "name"
                )
            first[name] = index
            if len(first) > MAX_NODES:
                raise document.error(f"more than {MAX_NODES} nodes", "nodes", index)
            yield _node(name, entry, file, document.error, index)


def _names(entry: NodeFile, index: int, document: Document) -> Iterable[str]:
    """Return the names that an entry stands for, each a good one."""
    try:
        names = list(_spread(entry.name))
        if entry.count is not None:
            names = [f"{name}-{number}" for name in names for number in range(1, entry.count + 1)]
        return [label(name) for name in names]
    except ValueError as error:
        raise document.error(str(error), "nodes", index, "name") from error


def _spread(text: str) -> Iterator[str]:
    """Yield the names of a range: edge-[1-3] is edge-1, edge-2 and edge-3."""
    match = _RANGE.fullmatch(text)
    if match is None:
        yield text
        return
    low, high = int(match[2]), int(match[3])
    if high < low:
        raise ValueError(f"{text!r} is a range that runs backwards; write [{high}-{low}]")
    if high - low >= MAX_NODES:
        raise ValueError(f"{text!r} means more than {MAX_NODES} nodes")
    for number in range(low, high + 1):
        yield f"{match[1]}{str(number).zfill(len(match[2]))}{match[4]}"


def _node(name: str, entry: NodeFile, file: TopologyFile, refuse: Any, index: int) -> Node:
    for key, value, known in (("site", entry.site, file.sites), ("kind", entry.kind, file.kinds)):
        if value not in known:
            raise refuse(f"no {key} {value!r}; {nearest(value, known)}", "nodes", index, key)
    kind = file.kinds[entry.kind]
    own = {key: getattr(entry, key) for key in KindFile.model_fields}
    given = {key: getattr(kind, key) if value is None else value for key, value in own.items()}
    for key in ("cpu", "memory"):
        if given[key] is None:
            what = f"node {name} has no {key}; give it here or in kinds.{entry.kind}"
            raise refuse(what, "nodes", index)
    disks = {each: Disk(disk.size, disk.mount) for each, disk in (given["disks"] or {}).items()}
    _check_mounts(name, disks, refuse, index)
    return Node(
        name=name,
        site=entry.site,
        kind=entry.kind,
        role=given["role"] or "node",
        cpu=given["cpu"],
        memory=given["memory"],
        pids=given["pids"] or DEFAULT_PIDS,
        labels={**kind.labels, **entry.labels},
        disks=disks,
        access=given["access"].value() if given["access"] else None,
    )


def _check_mounts(name: str, disks: Mapping[str, Disk], refuse: Any, index: int) -> None:
    seen: dict[str, str] = {}
    for disk, entry in disks.items():
        if entry.mount in seen:
            what = f"disks {seen[entry.mount]} and {disk} of node {name} share {entry.mount}"
            raise refuse(f"{what}; give each a place of its own", "nodes", index)
        seen[entry.mount] = disk


def _registry(file: TopologyFile, nodes: tuple[Node, ...], document: Document) -> str:
    if file.registry is None:
        cloud = (node.name for node in nodes if node.role == "cloud")
        return next(cloud, nodes[0].name)
    names = [node.name for node in nodes]
    if file.registry not in names:
        hint = nearest(file.registry, names)
        raise document.error(f"no node {file.registry!r}; {hint}", "registry")
    return file.registry


def _check_names(file: TopologyFile, nodes: tuple[Node, ...], document: Document) -> None:
    """Refuse names that mean two things, and ends of links that mean none."""
    names = {node.name for node in nodes}
    for site in file.sites:
        if site in names:
            raise document.error(f"{site!r} is a node as well; rename one", "sites", site)
    known = {*names, *file.sites}
    for index, link in enumerate(file.links):
        for key, end in (("from", link.source), ("to", link.to)):
            if end != EVERYWHERE and end not in known:
                hint = nearest(end, known)
                raise document.error(f"no node or site {end!r}; {hint}", "links", index, key)
        _check_link(link, index, document)


def _check_link(link: LinkFile, index: int, document: Document) -> None:
    numbers = [link.rate, link.delay, link.jitter, link.loss]
    says = any(number is not None for number in numbers)
    if says + link.unshaped + link.down != 1:
        raise document.error(
            "says too much or too little; give some of rate, delay, jitter and loss, "
            "or else unshaped: true, or else down: true",
            "links",
            index,
        )
    if link.source == link.to and link.source != EVERYWHERE and link.symmetric:
        raise document.error("is symmetric already; leave symmetric out", "links", index)


def _check_reach(topology: Topology, document: Document) -> None:
    """Refuse links of which nothing is known, and sites that nothing reaches."""
    populated = {node.site for node in topology.nodes}
    for site in topology.sites:
        if site not in populated:
            raise document.error("the site has no node; give it one or leave it out", "sites", site)
    _check_distances(topology, document)
    if len(populated) == 1:
        return
    matrix = topology.matrix()
    for site in topology.sites:
        inside = topology.select(site)
        outside = set(matrix) - inside
        links = (link for a in inside for b in outside for link in (matrix[a][b], matrix[b][a]))
        if all(link.is_down for link in links):
            raise document.error("the site is disconnected: every link is down", "sites", site)


def _check_distances(topology: Topology, document: Document) -> None:
    """Refuse a pair of sites without a location of both and without a link that is listed."""
    lost = [name for name, site in topology.sites.items() if site.location is None]
    ends = [(topology.select(rule.source), topology.select(rule.to)) for rule in topology.rules]
    for site in lost:
        for one, other in _directions(topology, site):
            if not any(one.name in sources and other.name in to for sources, to in ends):
                raise document.error(
                    f"nothing says how far {one.name} is from {other.name}; give both sites a "
                    "location, or list the link",
                    *("sites", site),
                )


def _directions(topology: Topology, site: str) -> Iterator[tuple[Node, Node]]:
    for one in topology.nodes:
        for other in topology.nodes:
            if one.site != other.site and site in (one.site, other.site):
                yield one, other


def check_machine(topology: Topology, memory_bytes: int) -> None:
    """Refuse a topology whose nodes may use more memory than the machine has.

    Args:
        topology: what somebody wants to bring up.
        memory_bytes: the machine's memory.

    Raises:
        SpecError: with both numbers.
    """
    asked = sum(node.memory for node in topology.nodes)
    if asked <= memory_bytes:
        return
    largest = max(topology.nodes, key=lambda node: node.memory)
    raise SpecError(
        f"the {len(topology.nodes)} nodes ask for {_about(asked)} of memory, and this machine has "
        f"{_about(memory_bytes)}; make the nodes smaller (the largest is {largest.name} with "
        f"{units.show_size(largest.memory)})",
        file=topology.source or topology.name,
        key="nodes",
    )


def _about(count: int) -> str:
    """Return bytes as a short text; exact ones of a machine's memory are long."""
    return f"{count / 2**30:.1f}Gi" if count >= 2**30 else f"{count / 2**20:.0f}Mi"
