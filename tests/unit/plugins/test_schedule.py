# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from itertools import islice, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.pkgctl.testbed.plugins.module_utils import schedule
from ansible_collections.pkgctl.testbed.plugins.module_utils.times import (
    Flap,
    Ramp,
    Repeat,
    Times,
)

LINK = {"egress": {"b": {"rate": 5_000_000, "delay": 0.04}}, "ingress": {}}
ALWAYS = 400


def phases(times, kind="quota", body=None, base=None):
    found = schedule.phases(kind, body or {"cpu": 0.2}, times, base or {"cpu": 1.0})
    return list(islice(found, ALWAYS))


def offsets(times, **more):
    return [(offset, body is not None) for offset, body in phases(times, **more)]


def test_a_plain_layer_comes_and_stays():
    assert phases(Times()) == [(0.0, {"cpu": 0.2})]


def test_a_layer_with_a_duration_goes_again():
    assert phases(Times(start=2.0, duration=3.0)) == [(2.0, {"cpu": 0.2}), (5.0, None)]


def test_a_repetition_sets_in_again_a_period_after_each_onset():
    times = Times(start=1.0, duration=2.0, repeat=Repeat(3, 20.0))

    assert offsets(times) == [
        (1.0, True),
        (3.0, False),
        (21.0, True),
        (23.0, False),
        (41.0, True),
        (43.0, False),
    ]
    assert times.ends == 43.0


def test_a_flap_goes_on_and_off_until_the_end():
    times = Times(start=1.0, duration=7.0, flap=Flap(2.0, 1.0))

    assert offsets(times) == [
        (1.0, True),
        (3.0, False),
        (4.0, True),
        (6.0, False),
        (7.0, True),
        (8.0, False),
    ]


def test_the_end_is_a_phase_even_if_the_layer_is_off_by_then():
    assert offsets(Times(duration=2.5, flap=Flap(2.0, 1.0)))[-1] == (2.5, False)


def test_an_endless_flap_does_not_drift():
    flapping = schedule.phases("quota", {"cpu": 0.2}, Times(flap=Flap(0.1, 0.2)), {})

    assert next(islice(flapping, 20_000, None))[0] == pytest.approx(3000.0, abs=1e-9)


def test_a_ramp_without_steps_is_updated_ten_times_a_second():
    found = phases(Times(ramp=Ramp(1.0)))

    assert [offset for offset, _ in found] == pytest.approx([n / 10 for n in range(11)])
    assert found[5][1] == {"cpu": pytest.approx(0.6)}
    assert found[-1] == (1.0, {"cpu": 0.2})


def test_a_ramp_in_steps_starts_from_what_is_and_ends_at_the_setting():
    found = phases(Times(ramp=Ramp(4.0, 4)))

    assert [body["cpu"] for _, body in found] == pytest.approx([1.0, 0.8, 0.6, 0.4, 0.2])


def test_a_link_ramps_from_its_rate_and_from_no_delay():
    base = {"egress": {"b": {"rate": 25_000_000}}}

    found = phases(Times(ramp=Ramp(2.0, 2)), kind="link", body=LINK, base=base)

    assert [body["egress"]["b"] for _, body in found] == [
        {"rate": 25_000_000, "delay": 0.0},
        {"rate": 15_000_000, "delay": 0.02},
        {"rate": 5_000_000, "delay": 0.04},
    ]


def test_a_link_without_a_rate_ramps_from_a_gigabit():
    found = phases(Times(ramp=Ramp(2.0, 1)), kind="link", body=LINK, base={})

    assert found[0][1]["egress"]["b"]["rate"] == 1_000_000_000


def test_what_cannot_be_had_by_degrees_comes_at_once():
    disk = {"data": {"condition": "readonly", "fill": 0.9}}
    times = Times(ramp=Ramp(3.0, 3))

    assert phases(times, kind="health", body={"health": "paused"}) == [(0.0, {"health": "paused"})]
    assert [body["data"] for _, body in phases(times, kind="disk", body=disk)] == [
        {"condition": "readonly"},
        {"condition": "readonly", "fill": pytest.approx(0.3)},
        {"condition": "readonly", "fill": pytest.approx(0.6)},
        {"condition": "readonly", "fill": 0.9},
    ]


def test_stress_grows_from_nothing():
    found = phases(Times(ramp=Ramp(2.0, 2)), kind="stress", body={"cpu": 2.0, "memory": 100})

    assert found == [(1.0, {"cpu": 1.0, "memory": 50}), (2.0, {"cpu": 2.0, "memory": 100})]


def test_a_link_follows_a_trace_and_keeps_what_the_trace_does_not_name():
    times = Times(start=1.0, duration=9.0, trace=((2.0, {"delay": 0.1}), (4.0, {"loss": 0.5})))

    found = [(at, body and body["egress"]["b"]) for at, body in phases(times, "link", LINK)]

    assert found == [
        (1.0, {"rate": 5_000_000, "delay": 0.04}),
        (3.0, {"rate": 5_000_000, "delay": 0.1}),
        (5.0, {"rate": 5_000_000, "delay": 0.04, "loss": 0.5}),
        (10.0, None),
    ]


def test_a_trace_is_the_links_alone():
    assert phases(Times(trace=((0.0, {"delay": 0.1}),))) == [(0.0, {"cpu": 0.2})]


def test_a_place_in_the_middle_is_the_phase_in_force_and_those_that_follow():
    times = Times(start=1.0, duration=2.0, repeat=Repeat(2, 10.0))
    all_phases = phases(times)

    for offset, (current, following) in {
        0.5: (None, all_phases),
        1.0: (all_phases[0], all_phases[1:]),
        5.0: (all_phases[1], all_phases[2:]),
        99.0: (all_phases[-1], []),
    }.items():
        found, rest = schedule.at(phases(times), offset)
        assert (found, list(rest)) == (current, following)


SECONDS = st.floats(0.01, 1000.0, allow_nan=False)


@st.composite
def any_times(draw):
    duration = draw(st.none() | SECONDS)
    repeat = None
    if duration is not None:
        repeat = draw(
            st.none()
            | st.builds(
                Repeat,
                st.none() | st.integers(1, 20),
                st.floats(duration + 0.02, duration + 1000.0),
            )
        )
    ramp = draw(
        st.none()
        | st.builds(Ramp, st.floats(0.01, duration or 100.0), st.none() | st.integers(1, 20))
    )
    flap = draw(st.none() | st.builds(Flap, SECONDS, SECONDS, st.booleans()))
    start = draw(st.floats(0.0, 1000.0))
    seed = draw(st.integers(0, 1 << 63))
    return Times(start, duration, ramp, repeat, flap, seed=seed)


@given(any_times())
def test_phases_rise_differ_and_begin_with_the_onset(times):
    found = phases(times)

    assert found[0][0] == times.start
    assert found[0][1] is not None
    assert all(earlier[0] < later[0] for earlier, later in pairwise(found))
    body = found[:-1] if found[-1][1] is None else found
    assert all(earlier[1] != later[1] for earlier, later in pairwise(body))


@given(any_times())
def test_a_layer_with_an_end_is_gone_at_its_end(times):
    found = phases(times)

    if len(found) == ALWAYS:
        return
    if times.ends is not None:
        assert found[-1] == (pytest.approx(times.ends), None)
    elif times.repeat is None and times.flap is None:
        assert found[-1][1] == {"cpu": 0.2}


@given(any_times())
def test_the_same_seed_makes_the_same_phases(times):
    assert phases(times) == phases(times)


@given(st.integers(0, 1 << 32), st.integers(0, 1 << 32))
def test_another_seed_makes_other_spells(one, other):
    flaps = [offsets(Times(flap=Flap(1.0, 1.0, True), seed=seed))[:20] for seed in (one, other)]

    assert (flaps[0] == flaps[1]) == (one == other)


@given(
    st.floats(0.01, 60.0),
    st.none() | st.integers(1, 50),
    st.integers(1_000, 1_000_000_000),
    st.integers(1_000, 1_000_000_000),
)
def test_a_ramp_is_monotone_and_ends_exactly_at_the_setting(seconds, steps, first, last):
    body = {"egress": {"b": {"rate": last}}}
    base = {"egress": {"b": {"rate": first}}}

    ramp = schedule.phases("link", body, Times(ramp=Ramp(seconds, steps)), base)
    rates = [content["egress"]["b"]["rate"] for _, content in ramp]

    assert rates == sorted(rates, reverse=last < first)
    assert rates[-1] == last


@given(any_times(), st.floats(0.0, 5000.0))
def test_a_place_splits_the_phases_in_two(times, offset):
    found = phases(times)
    current, rest = schedule.at(iter(found), offset)
    passed = [phase for phase in found if phase[0] <= offset]

    assert current == (passed[-1] if passed else None)
    assert list(rest) == found[len(passed) :]
