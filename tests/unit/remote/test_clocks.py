# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pkgctl.remote.clocks import DRIFT, Clock

SHORT = st.floats(0.0, 0.3)


def travel(clock: Clock, at: float, there: float, back: float, ahead: float) -> float:
    """Make a round trip at a time by our clock, and return when it ended."""
    clock.learn(at, at + there + ahead, at + there + back)
    return at + there + back


def test_a_clock_that_nobody_has_asked_is_taken_for_ours():
    assert Clock().ours(5.0) == Clock().theirs(5.0) == 5.0


def test_a_clock_that_is_off_by_hours_is_known_to_half_a_round_trip():
    clock = Clock()
    end = travel(clock, 1000.0, 0.010, 0.002, 7200.0)

    assert clock.theirs(end) - end == pytest.approx(7200.0, abs=0.006)
    assert clock.bound(end) == pytest.approx(0.006, abs=1e-5)


def test_of_many_round_trips_the_shortest_says_most():
    clock = Clock()
    for at, there, back in ((0, 0.2, 0.01), (1, 0.001, 0.001), (2, 0.01, 0.4)):
        end = travel(clock, 1000.0 + at, there, back, -50.0)

    assert clock.bound(end) < 0.001 + 3 * DRIFT
    assert clock.ours(950.0) == pytest.approx(1000.0, abs=0.003)


@given(
    st.lists(st.tuples(SHORT, SHORT), min_size=1, max_size=40),
    st.floats(-1e5, 1e5),
    st.floats(-0.9, 0.9),
)
def test_the_truth_is_never_farther_off_than_the_bound_says(trips, ahead, share):
    """A clock that drifts steadily by less than the most is always within its bound."""
    clock, rate, now = Clock(), share * DRIFT, 1e5
    for there, back in trips:
        stamp = now + there + ahead + (now + there - 1e5) * rate
        clock.learn(now, stamp, now + there + back)
        now += there + back
        truth = ahead + (now - 1e5) * rate
        assert abs(clock.ahead - truth) <= clock.bound(now) + 1e-9
        now += 2.0


@given(st.lists(st.tuples(SHORT, SHORT), min_size=2, max_size=20))
def test_the_bound_is_no_more_than_half_of_the_shortest_trip_and_its_age(trips):
    clock, now, allowed = Clock(), 1e5, []
    for there, back in trips[-16:]:
        sent, now = now, travel(clock, now, there, back, 100.0)
        allowed.append((sent, there + back))
        most = min(took / 2 + (now - at) * DRIFT for at, took in allowed)
        assert clock.bound(now) <= most + 1e-6
        now += 1.0


def test_between_two_looks_the_bound_grows_by_the_drift():
    clock = Clock()
    end = travel(clock, 0.0, 0.001, 0.001, 3.0)

    assert clock.bound(end + 10.0) - clock.bound(end) == pytest.approx(10 * DRIFT)


def test_a_suspended_machine_s_clock_jumps_and_what_it_stamped_before_keeps_its_time():
    clock, now = Clock(), 1000.0
    for _ in range(10):
        now = travel(clock, now, 0.001, 0.001, 500.0) + 2.0
    before = clock.ours(1505.0)
    # Suspended for a minute, its clock stands still meanwhile.
    now += 60.0
    for _ in range(3):
        now = travel(clock, now, 0.001, 0.001, 440.0) + 0.1

    assert clock.ahead == pytest.approx(440.0, abs=0.01)
    assert clock.ours(1505.0) == pytest.approx(before, abs=0.01)
    assert clock.ours(now + 440.0) == pytest.approx(now, abs=0.01)


def test_a_question_that_was_under_way_says_when_the_clock_went_on():
    clock, now = Clock(), 1000.0
    for _ in range(5):
        now = travel(clock, now, 0.001, 0.001, 500.0) + 2.0
    # Sent before the machine stood still for a minute, and stamped right after.
    clock.learn(now, now + 500.0, now + 60.0)
    resumed, now = now + 60.0, now + 60.0
    now = travel(clock, now, 0.001, 0.001, 440.0)

    assert clock.ours(resumed + 440.0 + 0.0005) == pytest.approx(resumed, abs=0.01)


def test_a_node_that_was_started_again_has_another_clock():
    clock, now = Clock(), 1000.0
    now = travel(clock, now, 0.001, 0.001, 500.0)
    now = travel(clock, now + 30.0, 0.001, 0.001, -1020.0)

    assert clock.ours(now - 1020.0) == pytest.approx(now, abs=0.01)
    # What its agent converted to the new clock lies before its beginning.
    assert clock.ours(now - 1020.0 - 40.0) == pytest.approx(now - 40.0, abs=0.01)
