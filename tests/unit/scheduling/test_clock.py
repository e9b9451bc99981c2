# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import math
import time

import pytest

from pkgctl.scheduling.clock import Clock, FrozenClock, VirtualClock, WallClock


def test_the_wall_clock_is_the_machines_monotonic_clock() -> None:
    before = time.monotonic()

    now = WallClock().now()

    assert before <= now <= time.monotonic()


def test_the_wall_clock_sleeps_at_least_until_the_moment() -> None:
    clock = WallClock()
    moment = clock.now() + 0.01

    clock.sleep_until(moment)

    assert clock.now() >= moment


@pytest.mark.parametrize("clock", [FrozenClock(3.0), VirtualClock(3.0)])
def test_sleeping_costs_no_time_and_never_goes_back(clock: Clock) -> None:
    clock.sleep_until(1e9)
    clock.sleep_until(5.0)

    assert clock.now() == 1e9


def test_events_happen_in_the_order_of_time_at_their_moments() -> None:
    clock, seen = VirtualClock(), list[tuple[str, float]]()
    for name, moment in (("late", 3.0), ("early", 1.0), ("between", 2.0)):
        clock.at(moment, lambda name=name: seen.append((name, clock.now())))  # type: ignore[misc]

    clock.run()

    assert seen == [("early", 1.0), ("between", 2.0), ("late", 3.0)]


def test_events_of_one_moment_happen_in_the_order_asked_for() -> None:
    clock, seen = VirtualClock(), list[int]()
    for number in range(50):
        clock.at(1.0, lambda number=number: seen.append(number))  # type: ignore[misc]

    clock.run()

    assert seen == list(range(50))


def test_an_event_may_bring_about_others() -> None:
    clock, seen = VirtualClock(), list[float]()

    def tick() -> None:
        seen.append(clock.now())
        if clock.now() < 3:
            clock.at(clock.now() + 1, tick)

    clock.at(1.0, tick)
    clock.run()

    assert seen == [1.0, 2.0, 3.0]


def test_sleeping_lets_happen_what_is_due_and_no_more() -> None:
    clock, seen = VirtualClock(), list[float]()
    for moment in (1.0, 2.0, 3.0):
        clock.at(moment, lambda: seen.append(clock.now()))

    clock.sleep_until(2.0)

    assert (seen, clock.now()) == ([1.0, 2.0], 2.0)


def test_a_cancelled_event_does_not_happen() -> None:
    clock, seen = VirtualClock(), list[str]()
    event = clock.at(1.0, lambda: seen.append("cancelled"))
    clock.at(2.0, lambda: seen.append("kept"))

    event.cancel()
    clock.run()

    assert seen == ["kept"]


@pytest.mark.parametrize("moment", [0.5, math.inf, math.nan])
def test_nothing_can_be_put_in_the_past_or_at_no_time(moment: float) -> None:
    with pytest.raises(ValueError, match="nothing can happen at"):
        VirtualClock(1.0).at(moment, lambda: None)
