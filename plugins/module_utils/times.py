# SPDX-License-Identifier: GPL-3.0-or-later
"""When a layer is in force, as numbers in seconds: what goes from the words to the agent."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

from . import triggers
from .quality import Quality

DEFAULT_LEASE = 600.0
MOST_ROWS = 10_000
_LONGEST = 10 * 366 * 86_400.0
_SHORTEST = 0.01
_MOST_STEPS = 100_000


@dataclass(frozen=True, slots=True)
class Ramp:
    """Going from what is to the setting: in how long, and in how many steps (None is smoothly)."""

    seconds: float
    steps: int | None = None


@dataclass(frozen=True, slots=True)
class Repeat:
    """Setting in again: how often in all (None for ever), and how long from onset to onset."""

    count: int | None
    period: float


@dataclass(frozen=True, slots=True)
class Flap:
    """Coming and going: how long it is on and off each time, or on average if random."""

    on: float
    off: float
    random: bool = False


@dataclass(frozen=True, slots=True)
class Times:
    """When a layer is in force.

    Attributes:
        start: seconds from the layer's origin to its onset.
        duration: how long it lasts each time that it sets in; None has no end.
        ramp: how it grows to its setting after each onset; None is at once.
        repeat: how often it sets in; None is once.
        flap: how it comes and goes while it lasts; None is steadily.
        trace: (seconds after the onset, part of a link's quality) that a link follows.
        seed: what random flaps are drawn from.
        when: the condition whose coming true is the origin; None is the timeline's beginning.
        after: the layer whose end (or onset, if it has none) is the origin, and a pause.
        lease: for how long it may stay without an end while nobody renews it; None for ever.
    """

    start: float = 0.0
    duration: float | None = None
    ramp: Ramp | None = None
    repeat: Repeat | None = None
    flap: Flap | None = None
    trace: tuple[tuple[float, Mapping[str, Any]], ...] | None = None
    seed: int = 0
    when: str | None = None
    after: str | None = None
    lease: float | None = DEFAULT_LEASE

    def __post_init__(self) -> None:
        """Refuse times that contradict one another."""
        if self.repeat is not None and self.duration is None:
            raise ValueError("repeat: needs a duration, how long it lasts each time")
        if self.repeat is not None and self.repeat.period - (self.duration or 0.0) < _SHORTEST:
            raise ValueError("repeat: it sets in again before its duration is over")
        if self.ramp is not None and self.trace is not None:
            raise ValueError("ramp: contradicts trace, which says by itself how a link changes")
        if self.ramp is not None and self.ramp.seconds > (self.duration or math.inf):
            raise ValueError("ramp: takes longer than the duration")

    @property
    def ends(self) -> float | None:
        """The offset at which it is over for good; None if it has no end."""
        if self.duration is None:
            return None
        if self.repeat is None:
            return self.start + self.duration
        if self.repeat.count is None:
            return None
        return self.start + (self.repeat.count - 1) * self.repeat.period + self.duration

    @property
    def is_conditional(self) -> bool:
        """Whether it waits for something beside its timeline's beginning."""
        return self.when is not None or self.after is not None

    def to_dict(self) -> dict[str, Any]:
        """Return the numbers, ready for JSON."""
        numbers = asdict(self)
        if self.trace is not None:
            numbers["trace"] = [[offset, dict(row)] for offset, row in self.trace]
        return numbers

    @classmethod
    def from_dict(cls, numbers: Mapping[str, Any]) -> Times:
        """Return the times that to_dict wrote; missing keys take their defaults.

        Raises:
            ValueError: one line that starts with the key at fault.
        """
        _known("times", numbers, cls.__dataclass_fields__)
        given = {**{"lease": DEFAULT_LEASE}, **numbers}
        return cls(
            start=number("start", given.get("start") or 0.0, 0.0),
            duration=_optional("duration", given, _SHORTEST),
            ramp=_ramp(given.get("ramp")),
            repeat=_repeat(given.get("repeat")),
            flap=_flap(given.get("flap")),
            trace=_trace(given.get("trace")),
            seed=_whole("seed", given.get("seed") or 0, -(1 << 63), 1 << 64),
            when=_trigger("when", given, triggers.read_when),
            after=_trigger("after", given, triggers.read_after),
            lease=_optional("lease", given, _SHORTEST),
        )


def number(name: str, value: object, least: float = 0.0, most: float = _LONGEST) -> float:
    """Return a finite number within bounds.

    Raises:
        ValueError: one line that starts with the name.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(f"{name}: {value!r} is not a number")
    if not least <= value <= most:
        raise ValueError(f"{name}: {value!r} does not lie between {least:g} and {most:g}")
    return float(value)


def _optional(name: str, numbers: Mapping[str, Any], least: float) -> float | None:
    value = numbers.get(name)
    return None if value is None else number(name, value, least)


def _whole(name: str, value: object, least: int, most: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise ValueError(f"{name}: {value!r} is no whole number from {least} to {most}")
    return value


def _known(name: str, value: object, known: Sequence[str] | Mapping[str, Any]) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ValueError(f"{name}: {value!r} is no mapping of {', '.join(known)}")
    for key in value:
        if key not in known:
            raise ValueError(f"{name}: unknown key {key!r}; known are {', '.join(known)}")
    return value


def _ramp(value: object) -> Ramp | None:
    if value is None:
        return None
    given = _known("ramp", value, ("seconds", "steps"))
    steps = given.get("steps")
    return Ramp(
        number("ramp", given.get("seconds"), _SHORTEST),
        None if steps is None else _whole("ramp", steps, 1, _MOST_STEPS),
    )


def _repeat(value: object) -> Repeat | None:
    if value is None:
        return None
    given = _known("repeat", value, ("count", "period"))
    times = given.get("count")
    return Repeat(
        None if times is None else _whole("repeat", times, 1, 1 << 31),
        number("repeat", given.get("period"), _SHORTEST),
    )


def _flap(value: object) -> Flap | None:
    if value is None:
        return None
    given = _known("flap", value, ("on", "off", "random"))
    return Flap(
        number("flap", given.get("on"), _SHORTEST),
        number("flap", given.get("off"), _SHORTEST),
        bool(given.get("random")),
    )


def _trace(value: object) -> tuple[tuple[float, Mapping[str, Any]], ...] | None:
    if value is None:
        return None
    if not isinstance(value, (list, tuple)) or not 1 <= len(value) <= MOST_ROWS:
        raise ValueError(f"trace: must be 1 to {MOST_ROWS} rows of [seconds, quality]")
    rows = tuple(_row(row) for row in value)
    if any(later[0] <= earlier[0] for earlier, later in pairwise(rows)):
        raise ValueError("trace: the times of the rows must rise")
    return rows


def _row(value: object) -> tuple[float, Mapping[str, Any]]:
    if not isinstance(value, (list, tuple)) or len(value) != 2 or not isinstance(value[1], Mapping):
        raise ValueError(f"trace: {value!r} is no row of [seconds, quality]")
    Quality.from_dict(value[1])
    return number("trace", value[0]), dict(value[1])


def _trigger(name: str, numbers: Mapping[str, Any], read: Callable[[str], object]) -> str | None:
    text = numbers.get(name)
    if text is None:
        return None
    if not isinstance(text, str):
        raise ValueError(f"{name}: {text!r} is no text")
    read(text)
    return text
