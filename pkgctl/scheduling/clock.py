# SPDX-License-Identifier: GPL-3.0-or-later
"""Time as a value that is handed in: real, frozen for tests, or virtual for simulations."""

from __future__ import annotations

import heapq
import itertools
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol


class Clock(Protocol):
    """What tells the time, in seconds since some fixed moment, and lets it pass."""

    def now(self) -> float:
        """Return the time in seconds; it never goes back."""

    def sleep_until(self, moment: float) -> None:
        """Return when the time is ``moment`` or later."""


class WallClock:
    """Real time: CLOCK_MONOTONIC, which all processes of a machine share."""

    def now(self) -> float:
        """Return the seconds of CLOCK_MONOTONIC."""
        return time.monotonic()

    def sleep_until(self, moment: float) -> None:
        """Sleep until CLOCK_MONOTONIC has come to ``moment``."""
        while (left := moment - time.monotonic()) > 0:
            time.sleep(left)


class FrozenClock:
    """A time that passes only when somebody sleeps: for tests."""

    def __init__(self, now: float = 0.0) -> None:
        self._now = now

    def now(self) -> float:
        """Return the time at which the clock stands."""
        return self._now

    def sleep_until(self, moment: float) -> None:
        """Put the clock forward, at once."""
        self._now = max(self._now, moment)


@dataclass(order=True, slots=True)
class Event:
    """Something that will happen on a virtual clock, unless it is cancelled before."""

    moment: float
    number: int
    action: Callable[[], None] = field(compare=False)
    cancelled: bool = field(default=False, compare=False)

    def cancel(self) -> None:
        """Let it not happen."""
        self.cancelled = True


class VirtualClock:
    """The time of a simulation: it jumps from event to event.

    Events happen in the order of their moments, and those of one moment in the order in which
    they were asked for, so that a run depends on nothing but its inputs.
    """

    def __init__(self, now: float = 0.0) -> None:
        self._now = now
        self._events: list[Event] = []
        self._numbers = itertools.count()

    def now(self) -> float:
        """Return the moment of the event that is happening, or to which the clock was put."""
        return self._now

    def at(self, moment: float, action: Callable[[], None]) -> Event:
        """Let something happen at a moment; the event that is returned can be cancelled.

        Raises:
            ValueError: if the moment is past, or no time at all.
        """
        if not self._now <= moment < math.inf:
            raise ValueError(f"nothing can happen at {moment}: it is {self._now} already")
        event = Event(moment, next(self._numbers), action)
        heapq.heappush(self._events, event)
        return event

    def sleep_until(self, moment: float) -> None:
        """Let everything happen that is due by then, and put the clock to that moment."""
        while self._events and self._events[0].moment <= moment:
            self._happen(heapq.heappop(self._events))
        self._now = max(self._now, moment)

    def run(self) -> None:
        """Let everything happen, including what events bring about, until nothing is left."""
        while self._events:
            self._happen(heapq.heappop(self._events))

    def _happen(self, event: Event) -> None:
        if event.cancelled:
            return
        self._now = max(self._now, event.moment)
        event.action()
