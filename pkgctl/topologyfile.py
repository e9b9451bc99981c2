# SPDX-License-Identifier: GPL-3.0-or-later
"""The parts of a topology file: which keys there are, and which values each may have.

``docs/topologies.md`` describes the file for those who write one; how its parts become a network
is the matter of ``pkgctl.topology``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field

from pkgctl import linkmodel
from pkgctl.documents import Strict
from pkgctl.errors import nearest
from pkgctl.linkmodel import Access, Location
from pkgctl.network import DOWN, UNSHAPED, Disk, Node, Rule, Site, Topology
from pkgctl.nodeside import Quality, units

MAX_NODES = 1000
SMALLEST_DISK = 2**20  # bytes; below it there is no room for a file system
SMALLEST_CPU = 0.01  # cores; the kernel's quota is no less than 1 ms in 100 ms
MOST_CPU = 1024  # cores
FASTEST = 400 * 10**9  # bits a second
LONGEST_DELAY = 60.0  # seconds
LONGEST_LABEL = 63  # characters, as in DNS

_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", re.ASCII)
_RESERVED = {"all", "localhost", "ungrouped"}  # words of Ansible's and the resolver's own
_SYSTEM = ("/dev", "/etc", "/proc", "/run", "/sys", "/tmp")


def label(text: object) -> str:
    """Return the name of a node or a site, good as a label of DNS.

    Raises:
        ValueError: for anything else.
    """
    if not isinstance(text, str) or not _LABEL.fullmatch(text):
        raise ValueError(
            f"{text!r} is no name; use up to {LONGEST_LABEL} lower-case letters, digits and hyphens"
        )
    if text in _RESERVED:
        raise ValueError(f"{text!r} is a word that Ansible or the resolver uses; take another")
    return text


def _cores(text: object) -> float:
    cores = units.cpu(text)
    if cores < SMALLEST_CPU:
        raise ValueError(f"cpu {text!r} is too little; a node needs at least 10m")
    if cores > MOST_CPU:
        raise ValueError(f"cpu {text!r} is more than any machine has ({MOST_CPU} cores)")
    return cores


def _bits(text: object) -> int:
    rate = units.rate(text)
    if rate > FASTEST:
        raise ValueError(f"rate {text!r} is above {units.show_rate(FASTEST)}; leave it out instead")
    return rate


def _seconds(text: object) -> float:
    seconds = units.duration(text)
    if seconds > LONGEST_DELAY:
        raise ValueError(f"{text!r} is above {units.show_duration(LONGEST_DELAY)}")
    return seconds


def _bytes(text: object) -> int:
    count = units.size(text)
    if count == 0:
        raise ValueError(f"size {text!r} must be above zero")
    return count


def _disk_bytes(text: object) -> int:
    count = units.size(text)
    if count < SMALLEST_DISK:
        raise ValueError(f"size {text!r} is too little for a file system; take at least 1Mi")
    return count


def _mount(text: str) -> str:
    path = "/" + text.strip("/")
    if not text.startswith("/") or path == "/" or ".." in path.split("/") or "//" in path:
        raise ValueError(f"{text!r} is no place for a disk; write an absolute path such as /data")
    if any(path == system or path.startswith(f"{system}/") for system in _SYSTEM):
        raise ValueError(f"{text!r} belongs to the system; write a path such as /data")
    return path


def _scalar_text(value: object) -> object:
    return str(value) if isinstance(value, (int, float)) else value


def _access_type(value: object) -> object:
    return {"type": value} if isinstance(value, str) else value


def _known_access(name: str) -> str:
    if name not in linkmodel.ACCESS:
        raise ValueError(f"no access type {name!r}; {nearest(name, linkmodel.ACCESS)}")
    return name


Label = Annotated[str, BeforeValidator(label)]
Rate = Annotated[int, BeforeValidator(_bits)]
Duration = Annotated[float, BeforeValidator(_seconds)]
Ratio = Annotated[float, BeforeValidator(units.ratio)]
Text = Annotated[str, BeforeValidator(_scalar_text)]


class AccessFile(Strict):
    """An access type, or numbers in its place; up and down are the node's two directions."""

    type: Annotated[str, AfterValidator(_known_access)] = "lan"
    up: Rate | None = None
    down: Rate | None = None
    delay: Duration | None = None
    jitter: Duration | None = None
    loss: Ratio | None = None

    def value(self) -> Access:
        """Return the type's numbers, with those that are given in their place."""
        given = self.model_dump(exclude_none=True, exclude={"type"})
        base = linkmodel.ACCESS[self.type]
        return Access(**{name: given.get(name, getattr(base, name)) for name in _ACCESS_KEYS})


_ACCESS_KEYS = ("up", "down", "delay", "jitter", "loss")
AccessField = Annotated[AccessFile, BeforeValidator(_access_type)]


class LocationFile(Strict):
    """Degrees north and east."""

    latitude: float = Field(ge=-90, le=90)
    longitude: float = Field(ge=-180, le=180)


class SiteFile(Strict):
    """A place with nodes."""

    location: LocationFile | None = None
    access: AccessField = AccessFile(type="fibre")

    def value(self) -> Site:
        """Return the site."""
        place = self.location
        return Site(self.access.value(), Location(**place.model_dump()) if place else None)


class DiskFile(Strict):
    """A disk of a node."""

    size: Annotated[int, BeforeValidator(_disk_bytes)]
    mount: Annotated[str, AfterValidator(_mount)]


class KindFile(Strict):
    """What the nodes of a kind have in common; a node may override any key."""

    cpu: Annotated[float, BeforeValidator(_cores)] | None = None
    memory: Annotated[int, BeforeValidator(_bytes)] | None = None
    pids: int | None = Field(default=None, strict=True, ge=16, le=4_000_000)
    disks: dict[Label, DiskFile] | None = None
    role: Label | None = None
    labels: dict[Text, Text] = Field(default={})
    access: AccessField | None = None


class NodeFile(KindFile):
    """One node, or several alike: by a count, or by a range such as ``edge-[1-3]``."""

    name: str
    site: str
    kind: str
    count: int | None = Field(default=None, strict=True, ge=1, le=MAX_NODES)


class LinkFile(Strict):
    """What holds for the links from one end to another, against the model."""

    source: str = Field(alias="from")
    to: str
    rate: Rate | None = None
    delay: Duration | None = None
    jitter: Duration | None = None
    loss: Ratio | None = None
    unshaped: bool = False
    down: bool = False
    symmetric: bool = False

    def rules(self) -> Iterator[Rule]:
        """Yield the rule, and its mirror if the link is symmetric."""
        change = {
            name: value
            for name in ("rate", "delay", "jitter", "loss")
            if (value := getattr(self, name)) is not None
        }
        whole = DOWN if self.down else UNSHAPED if self.unshaped else None
        yield Rule(self.source, self.to, change, whole)
        if self.symmetric:
            yield Rule(self.to, self.source, change, whole)


class TopologyFile(Strict):
    """A whole file, after what it includes was put under it."""

    name: Label
    description: str = ""
    sites: dict[Label, SiteFile] = Field(min_length=1)
    kinds: dict[Label, KindFile] = Field(default={})
    nodes: list[NodeFile] = Field(min_length=1)
    links: list[LinkFile] = Field(default=[])
    registry: str | None = None


def spell(topology: Topology) -> dict[str, Any]:
    """Return the values of a file that says the same and needs no other file."""
    return {
        "name": topology.name,
        "description": topology.description,
        "sites": {name: _spell_site(site) for name, site in topology.sites.items()},
        "kinds": {node.kind: {} for node in topology.nodes},
        "nodes": [_spell_node(node) for node in topology.nodes],
        "links": [_spell_rule(rule) for rule in topology.rules],
        "registry": topology.registry,
    }


def _spell_site(site: Site) -> dict[str, Any]:
    place = site.location
    where = {"latitude": place.latitude, "longitude": place.longitude} if place else None
    return {"location": where, "access": _spell_access(site.access)}


def _spell_access(access: Access) -> dict[str, Any]:
    leaving, arriving = _spell_quality(access.leaving()), _spell_quality(access.arriving())
    both = {key: text for key, text in leaving.items() if key != "rate"}
    return {**both, "up": leaving.get("rate"), "down": arriving.get("rate")}


def _spell_quality(link: Quality) -> dict[str, str]:
    texts = {
        "delay": units.show_duration(link.delay),
        "jitter": units.show_duration(link.jitter),
        "loss": units.show_ratio(link.loss),
    }
    return texts if link.rate is None else {**texts, "rate": units.show_rate(link.rate)}


def _spell_node(node: Node) -> dict[str, Any]:
    return {
        "name": node.name,
        "site": node.site,
        "kind": node.kind,
        "role": node.role,
        "cpu": node.cpu,
        "memory": node.memory,
        "pids": node.pids,
        "labels": dict(node.labels),
        "disks": {name: _spell_disk(disk) for name, disk in node.disks.items()},
        "access": _spell_access(node.access) if node.access else None,
    }


def _spell_disk(disk: Disk) -> dict[str, Any]:
    return {"size": disk.size, "mount": disk.mount}


def _spell_rule(rule: Rule) -> dict[str, Any]:
    ends = {"from": rule.source, "to": rule.to}
    if rule.whole is not None:
        return {**ends, "down" if rule.whole.is_down else "unshaped": True}
    return {**ends, **{key: _SPELLERS[key](value) for key, value in rule.change.items()}}


_SPELLERS: Mapping[str, Callable[[Any], str]] = {
    "rate": units.show_rate,
    "delay": units.show_duration,
    "jitter": units.show_duration,
    "loss": units.show_ratio,
}
