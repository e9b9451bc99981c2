# SPDX-License-Identifier: GPL-3.0-or-later
"""What a layer may wait for: a count, a node, a job, or another layer."""

from __future__ import annotations

import re
from dataclasses import dataclass

from . import units

_COUNT = re.compile(r"(?P<name>[a-z][a-z0-9_-]{0,31})\s*(?P<sign>>=?)\s*(?P<number>\d{1,15})")
_STATE = re.compile(
    r"(?P<what>node|job)\s+(?P<name>[A-Za-z0-9][A-Za-z0-9._-]{0,62})\s+(?P<state>\w+)"
)
_AFTER = re.compile(r"(?P<name>[a-z0-9][a-z0-9._-]{0,62})(?:\s*\+\s*(?P<pause>\S.*))?")
STATES = {"node": ("ready", "down"), "job": ("ready", "finished")}
COUNTS = ("requests",)


@dataclass(frozen=True, slots=True)
class Count:
    """A sum over all jobs has reached a number since the timeline began."""

    name: str
    least: int


@dataclass(frozen=True, slots=True)
class State:
    """A node or a job is in a state, or was already when the timeline began."""

    what: str
    name: str
    state: str


@dataclass(frozen=True, slots=True)
class After:
    """A layer has ended, or has set in if it has no end; and then a pause in seconds."""

    layer: str
    pause: float = 0.0


def read_when(text: str) -> Count | State:
    """Return the condition that a text such as ``requests > 1000`` or ``job web ready`` means.

    Raises:
        ValueError: one line that starts with ``when``.
    """
    if counted := _COUNT.fullmatch(text.strip()):
        if counted["name"] not in COUNTS:
            raise ValueError(f"when: nobody counts {counted['name']!r}; jobs count {COUNTS[0]}")
        more = 0 if counted["sign"] == ">=" else 1
        return Count(counted["name"], int(counted["number"]) + more)
    found = _STATE.fullmatch(text.strip())
    if found is None or found["state"] not in STATES[found["what"]]:
        raise ValueError(
            f"when: {text!r} is no condition; write 'requests > 1000', 'node edge-2 ready'"
            " (or down) or 'job web ready' (or finished)"
        )
    return State(found["what"], found["name"], found["state"])


def read_after(text: str) -> After:
    """Return what a text such as ``slow + 5s`` means.

    Raises:
        ValueError: one line that starts with ``after``.
    """
    found = _AFTER.fullmatch(text.strip())
    if found is None:
        raise ValueError(f"after: {text!r} names no layer; write 'slow' or 'slow + 5s'")
    try:
        pause = 0.0 if found["pause"] is None else units.duration(found["pause"])
    except ValueError as error:
        raise ValueError(f"after: {error}") from error
    return After(found["name"], pause)
