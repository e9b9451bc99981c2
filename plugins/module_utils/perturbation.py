# SPDX-License-Identifier: GPL-3.0-or-later
"""What the words of a perturbation mean, and what each node has to do for it.

Two pure steps. ``read`` turns words (``{"src": "edge-1", "bw": "5mbit"}``) into a Perturbation and
judges everything that can be judged without a testbed; ``Perturbation.plan`` resolves its selectors
against the nodes of one. The playbooks, the command line and the experiments all go this way.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from . import selection, words
from .selection import Node, Selector

HostPlan = dict[str, dict[str, object]]


@dataclass(frozen=True, slots=True)
class Perturbation:
    """One disturbance, read and judged, but not yet tied to a testbed.

    Attributes:
        name: the name of its layer.
        ends: the selectors that were given, by their word (src, dst, site, node).
        direction: which way between the ends: "to", "from" or "both".
        link: the texts for a link: rate, delay, jitter, loss.
        quota: the texts for a node's capacity: cpu, memory, io, pids.
        disk: the condition of a disk, with "disk" the disk's name if one was given.
        timeline: the timeline to arm instead of acting now; None acts now.
        start: seconds from the timeline's start to the onset.
        duration: seconds from the onset to the end; None lasts until healed.
    """

    name: str = words.DEFAULT_NAME
    ends: Mapping[str, Selector] = field(default_factory=dict)
    direction: str = "both"
    link: Mapping[str, str] = field(default_factory=dict)
    quota: Mapping[str, str] = field(default_factory=dict)
    disk: Mapping[str, str] = field(default_factory=dict)
    timeline: str | None = None
    start: float = 0.0
    duration: float | None = None

    def plan(self, nodes: Sequence[Node]) -> dict[str, HostPlan]:
        """Return for each node that takes part what it has to do.

        Every direction of a link has two ends, and both are told of it: the sender as egress, the
        receiver as ingress.

        Returns:
            ``{host: {"link": {"egress": {peer: {"rate": …}}, "ingress": {…}}, "quota": {"cpu": …},
            "disk": {"condition": …}}}`` with the texts as given; a host has only the parts that
            concern it, and the peer ``*`` stands for every other node.

        Raises:
            ValueError: if a selector names nothing here, or nothing at all is left to do.
        """
        if not nodes:
            raise ValueError("the testbed has no nodes")
        plans: dict[str, HostPlan] = {}
        for name, link in self._link_parts(nodes).items():
            plans.setdefault(name, {})["link"] = link
        for name, parts in self._node_parts(nodes).items():
            plans.setdefault(name, {}).update(parts)
        return {node.name: plans[node.name] for node in nodes if node.name in plans}

    def _link_parts(self, nodes: Sequence[Node]) -> dict[str, dict[str, object]]:
        """Return the link part of each node at an end of a disturbed link."""
        if not self.link:
            return {}
        pairs = _directed(self._couples(nodes), self.direction)
        if not pairs:
            given = " and ".join(self.ends) or "src"
            raise ValueError(f"{given}: no link lies between these nodes")
        order = [node.name for node in nodes]
        parts: dict[str, dict[str, object]] = {}
        for way, ends in (("egress", pairs), ("ingress", {(b, a) for a, b in pairs})):
            for name, peers in _peers(ends, order).items():
                parts.setdefault(name, {})[way] = {peer: dict(self.link) for peer in peers}
        return parts

    def _couples(self, nodes: Sequence[Node]) -> set[tuple[str, str]]:
        """Return (near end, far end) of each link; directions are counted from the near end.

        An end that nobody named is everything else: the nodes beyond the named end.
        """
        everyone = frozenset(node.name for node in nodes)
        given = {word: selector.choose(nodes) for word, selector in self.ends.items()}
        if "src" in given or "dst" in given:
            near = given.get("src") or everyone - given["dst"] or everyone
            far = given.get("dst") or everyone - given["src"] or everyone
        elif "node" in given:
            near, far = _both(given), everyone
        else:
            near = given.get("site", everyone)
            far = everyone - near or everyone
        return {(one, other) for one in near for other in far if one != other}

    def _node_parts(self, nodes: Sequence[Node]) -> dict[str, HostPlan]:
        """Return the quota and disk parts of each node that has some."""
        if not self.quota and not self.disk:
            return {}
        given = {w: s.choose(nodes) for w, s in self.ends.items() if w in words.PLACE_WORDS}
        chosen = _both(given) if given else frozenset(node.name for node in nodes)
        parts: dict[str, HostPlan] = {}
        for node in nodes:
            if node.name in chosen and self.quota:
                parts.setdefault(node.name, {})["quota"] = {**self.quota}
            if node.name in chosen and self.disk and self._has_disk(node, explicit=bool(given)):
                parts.setdefault(node.name, {})["disk"] = {**self.disk}
        if not parts:
            raise ValueError("disk: no node of this testbed has a disk")
        return parts

    def _has_disk(self, node: Node, *, explicit: bool) -> bool:
        """Return whether the node has the wanted disk; one that was chosen by name must."""
        wanted = self.disk.get("disk")
        if wanted in node.disks if wanted else node.disks:
            return True
        if not explicit:
            return False
        asked = f"no disk {wanted!r}, only {', '.join(node.disks)}" if node.disks else "no disk"
        raise ValueError(f"disk: {node.name} has {asked}")


def read(given: Mapping[str, object]) -> Perturbation:
    """Return the perturbation that the words mean.

    Args:
        given: texts as a user writes them, by word; see words.WORDS. None counts as not given.

    Raises:
        ValueError: one line that starts with the word at fault.
    """
    words.check_words(given, words.WORDS)
    given = {word: value for word, value in given.items() if value is not None}
    link, quota = words.read_link(given), words.read_quota(given)
    disk = words.read_disk(given["disk"]) if "disk" in given else {}
    _check_sense(given, links=bool(link), nodes=bool(quota or disk))
    name = words.read_name("name", given.get("name", words.DEFAULT_NAME))
    seconds = {w: words.read_duration(w, given[w]) for w in ("start", "duration") if w in given}
    timeline = given.get("timeline", name if seconds else None)
    return Perturbation(
        name=name,
        ends=_read_ends(given, words.SELECTOR_WORDS),
        direction=words.read_direction(given),
        link=link,
        quota=quota,
        disk=disk,
        timeline=None if timeline is None else words.read_name("timeline", timeline),
        start=seconds.get("start", 0.0),
        duration=seconds.get("duration"),
    )


@dataclass(frozen=True, slots=True)
class Healing:
    """Which layer is to go, and where; no name means every layer but base."""

    name: str | None = None
    ends: Mapping[str, Selector] = field(default_factory=dict)

    def hosts(self, nodes: Sequence[Node]) -> list[str]:
        """Return the nodes to heal, in the order of nodes.

        Raises:
            ValueError: if a selector names nothing here.
        """
        given = {word: selector.choose(nodes) for word, selector in self.ends.items()}
        chosen = _both(given) if given else frozenset(node.name for node in nodes)
        return [node.name for node in nodes if node.name in chosen]


def read_healing(given: Mapping[str, object]) -> Healing:
    """Return what the words of a healing mean: name, node, site.

    Raises:
        ValueError: one line that starts with the word at fault.
    """
    words.check_words(given, words.HEAL_WORDS)
    given = {word: value for word, value in given.items() if value is not None}
    return Healing(
        name=words.read_name("name", given["name"]) if "name" in given else None,
        ends=_read_ends(given, words.PLACE_WORDS),
    )


def _read_ends(given: Mapping[str, object], known: Sequence[str]) -> dict[str, Selector]:
    return {word: selection.read(word, given[word]) for word in known if word in given}


def _check_sense(given: Mapping[str, object], *, links: bool, nodes: bool) -> None:
    """Refuse words that say nothing, or that contradict one another."""
    if not links and not nodes:
        raise ValueError(f"nothing to do: give one of {', '.join(words.SETTING_WORDS)}")
    ends = [word for word in ("src", "dst") if word in given]
    places = [word for word in words.PLACE_WORDS if word in given]
    if not links and (ends or "direction" in given):
        known = ", ".join((*words.LINK_WORDS, "partition"))
        raise ValueError(f"{[*ends, 'direction'][0]}: chooses links; give one of {known}")
    if nodes and ends and not places:
        setting = next(word for word in (*words.QUOTA_WORDS, "disk") if word in given)
        raise ValueError(f"{setting}: {ends[0]} chooses links; say which nodes with node or site")
    if links and not nodes and ends and places:
        raise ValueError(f"{places[0]}: contradicts {ends[0]}; choose the links by one of them")


def _both(given: Mapping[str, frozenset[str]]) -> frozenset[str]:
    """Return the nodes that both node and site name, as far as they are given."""
    chosen = frozenset.intersection(*(given[word] for word in words.PLACE_WORDS if word in given))
    if not chosen:
        raise ValueError("node: names no node of the site")
    return chosen


def _directed(couples: set[tuple[str, str]], direction: str) -> set[tuple[str, str]]:
    mirrored = {(far, near) for near, far in couples}
    return {"to": couples, "from": mirrored, "both": couples | mirrored}[direction]


def _peers(pairs: set[tuple[str, str]], order: Sequence[str]) -> dict[str, list[str]]:
    """Return the second ends of each first end; all of them are written as ``*``."""
    grouped: dict[str, set[str]] = {}
    for first, second in pairs:
        grouped.setdefault(first, set()).add(second)
    everyone = len(order) - 1
    return {
        name: ["*"] if len(peers) == everyone > 1 else [peer for peer in order if peer in peers]
        for name, peers in grouped.items()
    }
