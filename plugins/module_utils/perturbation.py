# SPDX-License-Identifier: GPL-3.0-or-later
"""What the words of a perturbation mean, and what each node has to do for it.

Two pure steps. ``read`` turns words (``{"src": "edge-1", "bw": "5mbit"}``) into a Perturbation and
judges everything that can be judged without a testbed; ``Perturbation.plan`` resolves its selectors
against the nodes of one. The playbooks, the command line and the experiments all go this way.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from . import settings, timewords, tracefiles, words
from .ends import both, couples, directed, grouped
from .selection import Node, Selector
from .selection import read as read_selector
from .texts import hint, quote
from .times import Times
from .tracefiles import FileReader

HostPlan = dict[str, dict[str, object]]


@dataclass(frozen=True, slots=True)
class Perturbation:
    """One disturbance, read and judged, but not yet tied to a testbed.

    Attributes:
        name: the name of its layer.
        ends: the selectors that were given, by their word (src, dst, site, node).
        seed: from which random choices of nodes follow, and random flaps.
        direction: which way between the ends: "to", "from" or "both".
        link: the options for a link: rate, delay, jitter, loss and the others.
        quota: the options for a node's capacity: cpu, memory, io and the others.
        disk: the options for a disk: disk (its name), condition, how, fill, size.
        health: "paused", "stopped", "crashed", "isolated" or "" for as it is.
        stress: the options for stress: cpu, memory, io.
        timeline: the timeline to arm instead of acting now; None acts now.
        timing: when it is in force, and its lease.
        force: do it though something is lost by it.
    """

    name: str = words.DEFAULT_NAME
    ends: Mapping[str, Selector] = field(default_factory=dict)
    seed: int = 0
    direction: str = "both"
    link: Mapping[str, object] = field(default_factory=dict)
    quota: Mapping[str, str] = field(default_factory=dict)
    disk: Mapping[str, str] = field(default_factory=dict)
    health: str = ""
    stress: Mapping[str, str] = field(default_factory=dict)
    timeline: str | None = None
    timing: Times = field(default_factory=Times)
    force: bool = False

    @property
    def start(self) -> float:
        """Seconds from the timeline's start to the onset."""
        return self.timing.start

    @property
    def duration(self) -> float | None:
        """Seconds from the first onset to the last end; None does not end by itself."""
        return None if self.timing.ends is None else self.timing.ends - self.start

    def times(self) -> dict[str, Any] | None:
        """Return what the agent is told of its times; None if it acts now, without an agent."""
        return None if self.timeline is None else self.timing.to_dict()

    def plan(self, nodes: Sequence[Node]) -> dict[str, HostPlan]:
        """Return for each node that takes part what it has to do.

        Every direction of a link has two ends, and both are told of it: the sender as egress, the
        receiver as ingress.

        Returns:
            ``{host: {"link": {"egress": {peer: {"rate": …}}, "ingress": {…}}, "quota": {"cpu": …},
            "disk": {"condition": …}, "health": {"health": …}, "stress": {"cpu": …}}}`` with the
            texts as given; a host has only the parts that concern it, and the peer ``*`` stands for
            every other node.

        Raises:
            ValueError: if a selector names nothing here, or nothing at all is left to do.
        """
        if not nodes:
            raise ValueError("the testbed has no nodes")
        self._check_condition(nodes)
        plans: dict[str, HostPlan] = {}
        for name, link in self._link_parts(nodes).items():
            plans.setdefault(name, {})["link"] = link
        for name, parts in self._node_parts(nodes).items():
            plans.setdefault(name, {}).update(parts)
        return {node.name: plans[node.name] for node in nodes if node.name in plans}

    def _check_condition(self, nodes: Sequence[Node]) -> None:
        """Refuse to wait for a node that is not there."""
        names = [node.name for node in nodes]
        kind, name = timewords.subject(self.timing) or ("", "")
        if kind == "node" and name not in names:
            raise ValueError(f"when: no node is called {quote(name)}; {hint(name, names)}")

    def _choose(self, nodes: Sequence[Node], known: Sequence[str]) -> dict[str, frozenset[str]]:
        return {w: s.choose(nodes, self.seed) for w, s in self.ends.items() if w in known}

    def _chosen(self, nodes: Sequence[Node]) -> tuple[frozenset[str], bool]:
        """Return the nodes whose capacity, disks and health are meant, and whether by name."""
        given = self._choose(nodes, words.PLACE_WORDS)
        everyone = frozenset(node.name for node in nodes)
        return (both(given), True) if given else (everyone, False)

    def _link_parts(self, nodes: Sequence[Node]) -> dict[str, dict[str, object]]:
        """Return the link part of each node at an end of a disturbed link."""
        pairs = self._pairs(nodes)
        if pairs is None:
            return {}
        if not pairs:
            given = " and ".join(self.ends) or "src"
            raise ValueError(f"{given}: no link lies between these nodes")
        link = self.link or {"loss": "100%"}
        order = [node.name for node in nodes]
        parts: dict[str, dict[str, object]] = {}
        for way, ends in (("egress", pairs), ("ingress", {(b, a) for a, b in pairs})):
            for name, peers in grouped(ends, order).items():
                parts.setdefault(name, {})[way] = {peer: dict(link) for peer in peers}
        return parts

    def _pairs(self, nodes: Sequence[Node]) -> set[tuple[str, str]] | None:
        """Return the directions that are disturbed; None if no link is."""
        if self.link:
            given = self._choose(nodes, words.SELECTOR_WORDS)
            return directed(couples(given, nodes), self.direction)
        if self.health != settings.ISOLATED:
            return None
        chosen, _ = self._chosen(nodes)
        apart = {(one, node.name) for one in chosen for node in nodes if one != node.name}
        return directed(apart, "both")

    def _node_parts(self, nodes: Sequence[Node]) -> dict[str, HostPlan]:
        """Return what each node has to do that is not about its links."""
        health = {"health": self.health} if self.health in settings.HEALTHS else {}
        same = {"quota": self.quota, "health": health, "stress": self.stress}
        wanted = {kind: options for kind, options in same.items() if options}
        if not wanted and not self.disk:
            return {}
        chosen, explicit = self._chosen(nodes)
        parts: dict[str, HostPlan] = {}
        for node in nodes:
            if node.name in chosen and wanted:
                parts[node.name] = {kind: dict(options) for kind, options in wanted.items()}
            if node.name in chosen and self.disk and self._has_disk(node, explicit=explicit):
                parts.setdefault(node.name, {})["disk"] = dict(self.disk)
        if self.disk and not any("disk" in each for each in parts.values()):
            raise ValueError("disk: no node of this testbed has a disk")
        return parts

    def _has_disk(self, node: Node, *, explicit: bool) -> bool:
        """Return whether the node has the wanted disk; one that was chosen by name must."""
        wanted = self.disk.get("disk")
        if wanted in node.disks if wanted else node.disks:
            return True
        if not explicit:
            return False
        asked = (
            f"no disk {quote(wanted)}, only {', '.join(node.disks)}" if node.disks else "no disk"
        )
        raise ValueError(f"disk: {node.name} has {asked}")


def read(given: Mapping[str, object], read_file: FileReader = tracefiles.read_text) -> Perturbation:
    """Return the perturbation that the words mean.

    Args:
        given: texts as a user writes them, by word; see words.WORDS. None counts as not given.
        read_file: returns the text of a file that distribution or trace name.

    Raises:
        ValueError: one line that starts with the word at fault.
    """
    words.check_words(given, words.WORDS)
    given = {word: value for word, value in given.items() if value is not None}
    name = words.read_name("name", given.get("name", words.DEFAULT_NAME))
    seed = words.read_seed(given["seed"]) if "seed" in given else words.seed_of(name)
    timing = timewords.read(_times(given), seed, read_file)
    read_settings = _read_settings(given, timing, read_file)
    direction = words.read_direction(given)
    _check_sense(given, read_settings)
    _check_times(given, timing, read_settings)
    return Perturbation(
        name=name,
        ends=_read_ends(given, words.SELECTOR_WORDS),
        seed=seed,
        direction=direction,
        **read_settings,
        timeline=_read_timeline(given, name),
        timing=timing,
        force=words.read_flag("force", given["force"]) if "force" in given else False,
    )


def located(given: Mapping[str, Any], *folders: Path) -> dict[str, Any]:
    """Return the words with the files that they name as whole paths, if a folder has them."""
    return {
        word: tracefiles.find(value, *folders)
        if word in words.FILE_WORDS and isinstance(value, str)
        else value
        for word, value in given.items()
    }


def _times(given: Mapping[str, object]) -> dict[str, object]:
    return {word: given[word] for word in (*words.TIME_WORDS, "lease") if word in given}


def _read_settings(
    given: Mapping[str, object], timing: Times, read_file: FileReader
) -> dict[str, Any]:
    columns = tuple(timing.trace[0][1]) if timing.trace else ()
    return {
        "link": settings.read_link(given, columns, read_file),
        "quota": settings.read_quota(given),
        "disk": settings.read_disk(given),
        "health": settings.read_health(given) or "",
        "stress": settings.read_stress(given),
    }


def _read_timeline(given: Mapping[str, object], name: str) -> str | None:
    """Return the timeline that was named, or one of the layer's name if any time is given."""
    if "timeline" in given:
        return words.read_name("timeline", given["timeline"])
    return name if any(word in given for word in words.TIME_WORDS) else None


@dataclass(frozen=True, slots=True)
class Healing:
    """Which layers are to go, and where; no name means every layer but base."""

    names: tuple[str, ...] = ()
    ends: Mapping[str, Selector] = field(default_factory=dict)

    def hosts(self, nodes: Sequence[Node]) -> list[str]:
        """Return the nodes to heal, in the order of nodes.

        Raises:
            ValueError: if a selector names nothing here.
        """
        given = {word: selector.choose(nodes) for word, selector in self.ends.items()}
        chosen = both(given) if given else frozenset(node.name for node in nodes)
        return [node.name for node in nodes if node.name in chosen]


def read_healing(given: Mapping[str, object]) -> Healing:
    """Return what the words of a healing mean: name (or several), node, select, site.

    Raises:
        ValueError: one line that starts with the word at fault.
    """
    words.check_words(given, words.HEAL_WORDS)
    given = {word: value for word, value in given.items() if value is not None}
    ends = _read_ends(given, words.PLACE_WORDS)
    for word, selector in ends.items():
        if selector.is_random:
            raise ValueError(f"{selector.word}: draws nodes at random; name the {word} to heal")
    names = words.read_names("name", given["name"]) if "name" in given else ()
    return Healing(names, ends)


def _read_ends(given: Mapping[str, object], known: Sequence[str]) -> dict[str, Selector]:
    """Return the selectors by their word; select is another word for node."""
    if "node" in given and "select" in given:
        raise ValueError("select: chooses nodes as node does; give one of them")
    return {
        "node" if word == "select" else word: read_selector(word, given[word])
        for word in known
        if word in given
    }


def _check_sense(given: Mapping[str, object], read: Mapping[str, Any]) -> None:
    """Refuse words that say nothing, or that contradict one another."""
    links = bool(read["link"])
    nodes = any(read[kind] for kind in ("quota", "disk", "health", "stress"))
    if not links and not nodes:
        raise ValueError(f"nothing to do: give one of {', '.join(words.SETTING_WORDS)}")
    if links and read["health"] == settings.ISOLATED:
        raise ValueError("health: isolated cuts all links; disturb others under another name")
    ends = [word for word in ("src", "dst") if word in given]
    places = [word for word in words.PLACE_WORDS if word in given]
    if not links and (ends or "direction" in given):
        known = ", ".join((*words.LINK_WORDS, "partition"))
        raise ValueError(f"{[*ends, 'direction'][0]}: chooses links; give one of {known}")
    if "direction" in given and not ends and not places:
        raise ValueError("direction: leads to or from an end, and none is named; give src or dst")
    if nodes and ends and not places:
        setting = next(word for word in words.NODE_WORDS if word in given)
        raise ValueError(f"{setting}: {ends[0]} chooses links; say which nodes with node or site")
    if links and not nodes and ends and places:
        raise ValueError(f"{places[0]}: contradicts {ends[0]}; choose the links by one of them")


def _check_times(given: Mapping[str, object], timing: Times, read: Mapping[str, Any]) -> None:
    """Refuse times that nothing here can follow."""
    if timing.ramp is not None:
        if "partition" in given or read["health"] == settings.ISOLATED:
            raise ValueError("ramp: a link is cut or not; ramp loss instead")
        if not (read["link"] or read["quota"] or read["stress"] or "fill" in read["disk"]):
            raise ValueError("ramp: nothing here has a value that could grow")
    if "lease" in given and timing.ends is not None:
        raise ValueError("lease: contradicts duration, after which the layer ends by itself")
    if timewords.predecessor(timing) == given.get("name", words.DEFAULT_NAME):
        raise ValueError("after: a perturbation cannot wait for itself")
