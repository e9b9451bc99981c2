# SPDX-License-Identifier: GPL-3.0-or-later
"""The layers of a testbed: what each asks, where, since when, and what is left of its time.

What is asked comes from the nodes' stores, and times come from the agent, which keeps the timelines
and leases. Without the agent the first is still known. Times are CLOCK_MONOTONIC, in seconds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from pkgctl.nodeside import shortly
from pkgctl.watch import words

Body = Mapping[str, Any]
# The layers of each node: bodies by kind and layer.
Stores = Mapping[str, Mapping[str, Mapping[str, Body]]]
ON, OFF, BEFORE, WAITING, ARMED = "on", "off", "before", "waiting", "armed"
_BASE = "base"
# From what says most of a layer to what says least, where its parts differ.
_STATES = (ON, OFF, BEFORE, WAITING, ARMED)


@dataclass(frozen=True, slots=True)
class Asked:
    """What a layer asks: its kinds, its nodes, and in short texts where and what."""

    kinds: tuple[str, ...]
    nodes: tuple[str, ...]
    where: str
    setting: str


@dataclass(frozen=True, slots=True)
class Times:
    """When a layer acts.

    Attributes:
        state: ``on``, ``off`` between two turns, ``before`` its onset, ``waiting`` for a condition,
            or ``armed`` on a timeline that has not begun.
        since: when it set in, where known.
        turns: when it next goes off or on, if it does so again and again.
        ends: when it ends by itself.
        lease: when its lease runs out.
        waits_for: the condition that it waits for.
        timeline: the timeline that it is armed on.
    """

    state: str = ON
    since: float | None = None
    turns: float | None = None
    ends: float | None = None
    lease: float | None = None
    waits_for: str | None = None
    timeline: str | None = None


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer as it is listed; ``times`` is None where nobody could tell."""

    name: str
    asked: Asked
    times: Times | None

    def left(self, now: float) -> str:
        """Return what is left of its time, for people."""
        if self.times is None:
            return "?"
        times, found = self.times, []
        if times.waits_for is not None:
            found.append(f"waits for {times.waits_for}")
        elif times.state == ARMED:
            found.append("armed")
        if times.turns is not None and times.state in _TURNS:
            found.append(f"{_TURNS[times.state]} in {words.seconds(times.turns - now)}")
        if times.ends is not None and times.turns is not None and times.state == BEFORE:
            found.append(f"for {words.seconds(times.ends - times.turns)}")
        elif times.ends is not None:
            found.append(f"{words.seconds(times.ends - now)} left")
        if times.lease is not None:
            found.append(f"lease {words.seconds(times.lease - now)}")
        return ", ".join(found) or "until healed"

    def to_dict(self, now: float) -> dict[str, Any]:
        """Return it ready for JSON: ages and what is left in seconds from now."""
        times = asdict(self.times) if self.times else {}
        until = {
            f"{key}_in": None if times.get(key) is None else round(times[key] - now, 3)
            for key in ("turns", "ends", "lease")
        }
        since = times.get("since")
        return {
            "name": self.name,
            **asdict(self.asked),
            "state": times.get("state"),
            "age": None if since is None else round(now - since, 3),
            **until,
            "waits_for": times.get("waits_for"),
            "timeline": times.get("timeline"),
            "left": self.left(now),
        }


_TURNS = {ON: "off", OFF: "on", BEFORE: "begins"}


def asked(stores: Stores, everyone: int) -> dict[str, Asked]:
    """Return what each layer beside base asks, by its name, in a testbed of so many nodes."""
    found: dict[str, dict[str, dict[str, Body]]] = {}
    for node, kinds in stores.items():
        for kind, layers in kinds.items():
            for layer, body in layers.items():
                if layer != _BASE:
                    found.setdefault(layer, {}).setdefault(kind, {})[node] = body
    return {layer: _asked(parts, everyone) for layer, parts in found.items()}


def _asked(parts: Mapping[str, Mapping[str, Body]], everyone: int) -> Asked:
    nodes = tuple(dict.fromkeys(node for bodies in parts.values() for node in bodies))
    places = [_where(kind, bodies, everyone) for kind, bodies in parts.items()]
    texts = [shortly.settings(kind, bodies.values()) for kind, bodies in parts.items()]
    return Asked(
        tuple(parts), nodes, "; ".join(dict.fromkeys(places)), "; ".join(filter(None, texts))
    )


def _where(kind: str, bodies: Mapping[str, Body], everyone: int) -> str:
    if kind != "link":
        return words.names(bodies, everyone)
    pairs = {(node, peer) for node, body in bodies.items() for peer in body.get("egress", {})}
    pairs |= {(peer, node) for node, body in bodies.items() for peer in body.get("ingress", {})}
    return words.pairs(pairs, everyone)


def times(outline: Body, now: float) -> dict[str, Times]:
    """Return when each layer acts, from the agent's answer to layer-list."""
    parts: dict[str, list[Times]] = {}
    for part in outline["layers"]:
        parts.setdefault(part["layer"], []).append(_times(part, now))
    found = {layer: _joined(known) for layer, known in parts.items()}
    for lease in outline["leases"]:
        layer = lease["layer"]
        found[layer] = _leased(found.get(layer, Times()), lease)
    return found


def _times(part: Body, now: float) -> Times:
    wanted = part["times"]
    after = wanted.get("after")
    waits_for = wanted.get("when") or (f"the end of {after}" if after else None)
    turns = bool(wanted.get("flap") or wanted.get("repeat"))
    state = _state(part, now)
    return Times(
        state=state,
        since=part["since"] if state in (ON, OFF) else None,
        turns=part["next"] if turns or state == BEFORE else None,
        ends=part["ends"],
        waits_for=waits_for if state in (WAITING, ARMED) else None,
        timeline=part["timeline"],
    )


def _state(part: Body, now: float) -> str:
    if part["on"]:
        return ON
    if part["state"] == "armed":
        return ARMED
    if part["since"] is None:
        return WAITING
    return BEFORE if part["since"] > now else OFF


def _leased(known: Times, lease: Body) -> Times:
    ends, since = lease.get("ends"), lease.get("since")
    if ends is None:
        return known
    if since is None and known.timeline is None and lease.get("seconds") is not None:
        since = ends - lease["seconds"]
    return replace(
        known,
        since=_earliest([known.since, since]),
        lease=_earliest([known.lease, ends]),
    )


def _joined(parts: Sequence[Times]) -> Times:
    """Return one layer's times out of those of its parts on all nodes: the earliest of each."""
    state = min((part.state for part in parts), key=_STATES.index)
    alike = [part for part in parts if part.state == state]
    return Times(
        state,
        _earliest(part.since for part in alike),
        _earliest(part.turns for part in alike),
        _earliest(part.ends for part in alike),
        waits_for=next((part.waits_for for part in alike if part.waits_for), None),
        timeline=alike[0].timeline,
    )


def _earliest(moments: Iterable[float | None]) -> float | None:
    return min((moment for moment in moments if moment is not None), default=None)


def listing(
    found: Mapping[str, Asked], outline: Body | None, now: float, everyone: int
) -> list[Layer]:
    """Return all layers by name: those that nodes have stored, and those that are only armed.

    Args:
        found: what each layer asks that nodes have stored.
        outline: the agent's answer to layer-list; None if it does not answer.
        now: the moment, on CLOCK_MONOTONIC.
        everyone: how many nodes there are.
    """
    if outline is None:
        return [Layer(name, found[name], None) for name in sorted(found)]
    known = times(outline, now)
    later = {part["layer"]: _later(part, everyone) for part in outline["layers"]}
    everything = {**later, **found}
    return [Layer(name, everything[name], known.get(name, Times())) for name in sorted(everything)]


def _later(part: Body, everyone: int) -> Asked:
    nodes = tuple(part["nodes"])
    return Asked(tuple(part["kinds"]), nodes, words.names(nodes, everyone), part["setting"])
