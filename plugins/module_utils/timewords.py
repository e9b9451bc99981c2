# SPDX-License-Identifier: GPL-3.0-or-later
"""The words that say when a perturbation is in force, and for how long.

The playbooks' words and the modules' options are read here alike. Each error is one line that
starts with the word at fault.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

from . import tracefiles, triggers, units, words
from .texts import quote
from .times import DEFAULT_LEASE, Flap, Ramp, Repeat, Times
from .tracefiles import FileReader
from .triggers import State

NO_LEASE = "none"
LONGEST = 366 * 86400.0
# Shorter spells than this would keep an agent from anything else.
SHORTEST = 0.01
MOST_STEPS = 1000
MOST_TIMES = 100_000

_STEPS = re.compile(r"([^/\s]+)\s*/\s*([0-9]{1,9})", re.ASCII)
_REPEAT = re.compile(r"(?:([0-9]{1,9})\s*/\s*)?([^/\s]+)", re.ASCII)
_FLAP = re.compile(r"([^/\s]+)\s*/\s*([^/\s]+)(?:\s*/\s*(random))?", re.ASCII)
_CONTRADICTIONS = (
    ("start", "after"),
    ("when", "after"),
    ("ramp", "trace"),
    ("flap", "trace"),
)


def read(
    given: Mapping[str, object], seed: int = 0, read_file: FileReader = tracefiles.read_text
) -> Times:
    """Return the times that words or options mean; None counts as not given.

    Args:
        given: start, duration, ramp, repeat, flap, trace, when, after, lease, as texts.
        seed: from which random spells follow.
        read_file: returns the text of a file; see tracefiles.read_text.

    Returns:
        The times; a layer that ends by itself has no lease.

    Raises:
        ValueError: for a wrong value, or for words that contradict one another.
    """
    given = {word: value for word, value in given.items() if value is not None}
    for word, other in _CONTRADICTIONS:
        if word in given and other in given:
            raise ValueError(f"{word}: contradicts {other}; give one of them")
    times = Times(
        start=read_span("start", given["start"], least=0.0) if "start" in given else 0.0,
        duration=read_span("duration", given["duration"]) if "duration" in given else None,
        ramp=read_ramp(given["ramp"]) if "ramp" in given else None,
        repeat=read_repeat(given["repeat"]) if "repeat" in given else None,
        flap=read_flap(given["flap"]) if "flap" in given else None,
        trace=tracefiles.read_trace(given["trace"], read_file) if "trace" in given else None,
        seed=seed,
        when=read_when(given["when"]) if "when" in given else None,
        after=read_after(given["after"]) if "after" in given else None,
        lease=read_lease(given.get("lease")),
    )
    return times if times.ends is None else replace(times, lease=None)


def read_span(word: str, value: object, least: float = SHORTEST) -> float:
    """Return seconds, of which there must be so many at least.

    Raises:
        ValueError: for a wrong value.
    """
    seconds = words.read_with(word, value, units.duration)
    if not least <= seconds <= LONGEST:
        span = f"from {units.show_duration(least)} to {units.show_duration(LONGEST)}"
        raise ValueError(f"{word}: {quote(value)} must be {span}")
    return seconds


def read_lease(value: object) -> float | None:
    """Return seconds, the usual ones if nothing is given, or None for no lease.

    Raises:
        ValueError: for a wrong value.
    """
    if value is None:
        return DEFAULT_LEASE
    return None if value == NO_LEASE else read_span("lease", value, least=1.0)


def read_ramp(value: object) -> Ramp:
    """Return the ramp of ``5s`` (steadily) or ``5s/4`` (in four steps).

    Raises:
        ValueError: for a wrong value.
    """
    match = _STEPS.fullmatch(_stripped(value))
    seconds = read_span("ramp", match[1] if match else value)
    steps = int(match[2]) if match else None
    if steps is not None and not 1 <= steps <= MOST_STEPS:
        raise ValueError(f"ramp: {quote(value)} must have from 1 to {MOST_STEPS} steps")
    return Ramp(seconds, steps)


def read_repeat(value: object) -> Repeat:
    """Return the repetition of ``3/20s``; ``20s`` alone repeats without end.

    Raises:
        ValueError: for a wrong value.
    """
    match = _REPEAT.fullmatch(_stripped(value))
    if match is None:
        raise ValueError(f"repeat: {quote(value)} is no repetition; write 3/20s or 20s")
    count = None if match[1] is None else int(match[1])
    if count is not None and not 1 <= count <= MOST_TIMES:
        raise ValueError(f"repeat: {quote(value)} must be from 1 to {MOST_TIMES} times")
    return Repeat(count, read_span("repeat", match[2]))


def read_flap(value: object) -> Flap:
    """Return the spells of ``2s/1s`` (on, off), or their means for ``2s/1s/random``.

    Raises:
        ValueError: for a wrong value.
    """
    match = _FLAP.fullmatch(_stripped(value))
    if match is None:
        raise ValueError(f"flap: {quote(value)} is no flapping; write 2s/1s or 2s/1s/random")
    on, off = (read_span("flap", match[group]) for group in (1, 2))
    return Flap(on, off, match[3] is not None)


def read_when(value: object) -> str:
    """Return a condition such as ``requests > 1000``, with single spaces.

    Raises:
        ValueError: if it is none.
    """
    text = " ".join(_stripped(value).split())
    triggers.read_when(text or quote(value))
    return text


def read_after(value: object) -> str:
    """Return another layer and the pause after it, such as ``slow + 5s``, with single spaces.

    Raises:
        ValueError: for a wrong value.
    """
    text = " ".join(_stripped(value).split())
    triggers.read_after(text or quote(value))
    return text


def predecessor(times: Times) -> str | None:
    """Return the layer that the times wait for."""
    return None if times.after is None else triggers.read_after(times.after).layer


def subject(times: Times) -> tuple[str, str] | None:
    """Return what the times wait for: ("node", its name) or ("job", its name)."""
    found = None if times.when is None else triggers.read_when(times.when)
    return (found.what, found.name) if isinstance(found, State) else None


def _stripped(value: object) -> str:
    text = value.strip() if isinstance(value, str) else ""
    return text if len(text) <= 300 else ""
