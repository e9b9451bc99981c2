# SPDX-License-Identifier: GPL-3.0-or-later
"""The times in the agent's messages: those of a node by our clock, and ours by a node's. Pure.

What somebody else chose, such as labels and contents of layers, is never looked into.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

Body = dict[str, Any]
Shift = Callable[[float], float]

_ASKED = {"job-start": ("submitted", "decided"), "timeline-start": ("t0",)}
_PLAIN = ("mono", "planned", "actual", "done")
# What is a moment in each of a list of parts.
_LISTS = {
    "layers": ("t0", "next", "ends", "since"),
    "leases": ("ends",),
    "timelines": ("t0",),
}
_STEP = ("next", "ends", "since")


def request(op: str, fields: Mapping[str, Any], theirs: Shift) -> Body:
    """Return a request as a node is to hear it."""
    found = _moved(fields, _ASKED.get(op, ()), theirs)
    if op == "client-tell" and isinstance(found.get("message"), dict):
        found["message"] = _moved(found["message"], ("t0",), theirs)
    return found


def answer(body: Mapping[str, Any], ours: Shift) -> Body:
    """Return a node's answer by our clock."""
    found = _moved(body, ("mono",), ours)
    for key, moments in _LISTS.items():
        if isinstance(found.get(key), list):
            found[key] = [_moved(part, moments, ours) for part in found[key]]
    for timeline in found.get("timelines", ()):
        timeline["steps"] = [_moved(step, _STEP, ours) for step in timeline.get("steps", ())]
    if isinstance(found.get("job"), dict):
        found["job"] = record(found["job"], ours)
    if isinstance(found.get("jobs"), list):
        found["jobs"] = [record(job, ours) for job in found["jobs"]]
    return found


def record(job: Mapping[str, Any], ours: Shift) -> Body:
    """Return a job's record by our clock."""
    stamps = job.get("stamps") or {}
    return {**job, "stamps": _moved(stamps, stamps, ours)}


def event(body: Mapping[str, Any], ours: Shift, wall: float) -> Body:
    """Return what a node tells, by our clocks.

    Args:
        body: the event.
        ours: translates a time of the node's CLOCK_MONOTONIC.
        wall: what is to be added to our CLOCK_MONOTONIC to have unix time.
    """
    found = _moved(body, _PLAIN, ours)
    for key in _PLAIN:
        name = "wall" if key == "mono" else f"{key}_wall"
        if name in found and _is_moment(found.get(key)):
            found[name] = found[key] + wall
    return record(found, ours) if "stamps" in found else found


def _moved(body: Mapping[str, Any], keys: Iterable[str], shift: Shift) -> Body:
    moved = {key: shift(body[key]) for key in keys if _is_moment(body.get(key))}
    return {**body, **moved}


def _is_moment(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
