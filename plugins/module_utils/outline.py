# SPDX-License-Identifier: GPL-3.0-or-later
"""The times of all layers in few lines: what a layer's parts on many nodes have in common is once.

A list of all steps grows with nodes, kinds and layers beyond what a message can hold.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from . import shortly

Body = dict[str, Any]
# Whoever lists layers says no more of their times than follows from these.
_TIMES = ("start", "duration", "repeat", "flap", "when", "after")


def layers(timelines: Iterable[Body], leases: Iterable[Body]) -> Body:
    """Return the layers that the agent knows of, from its own lists of steps and leases.

    Returns:
        ``{"layers": [{"layer", "timeline", "state", "t0", "nodes", "kinds", "setting", "times",
        "on", "next", "ends", "since"}], "leases": [{"layer", "seconds", "ends"}]}``; a setting is
        a short text, and given of what is not in force.
    """
    parts = [part for timeline in timelines for part in _layers(timeline)]
    return {"layers": parts, "leases": _leases(leases)}


def _layers(timeline: Body) -> list[Body]:
    groups: dict[tuple[Any, ...], list[Body]] = {}
    for step in timeline["steps"]:
        key = tuple(step[each] for each in ("layer", "on", "next", "ends"))
        groups.setdefault(key, []).append(step)
    own = {key: timeline[key] for key in ("timeline", "state", "t0")}
    return [{**own, **_joined(steps)} for steps in groups.values()]


def _joined(steps: list[Body]) -> Body:
    first = steps[0]
    return {
        **{key: first.get(key) for key in ("layer", "on", "next", "ends", "since")},
        "nodes": list(dict.fromkeys(step["node"] for step in steps)),
        "kinds": list(dict.fromkeys(step["kind"] for step in steps)),
        "setting": "" if first["on"] else _setting(steps),
        "times": {key: first["times"].get(key) for key in _TIMES},
    }


def _setting(steps: list[Body]) -> str:
    bodies: dict[str, list[Body]] = {}
    for step in steps:
        bodies.setdefault(step["kind"], []).append(step.get("body") or {})
    return "; ".join(shortly.settings(kind, found) for kind, found in bodies.items())


def _leases(leases: Iterable[Body]) -> list[Body]:
    """Return the lease of each layer that runs out first, over all nodes."""
    found: dict[str, Body] = {}
    for lease in leases:
        known = found.setdefault(lease["layer"], lease)
        if known["ends"] is None or (lease["ends"] is not None and lease["ends"] < known["ends"]):
            found[lease["layer"]] = lease
    return [{key: each[key] for key in ("layer", "seconds", "ends")} for each in found.values()]
