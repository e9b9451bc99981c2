# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.pkgctl.testbed.plugins.module_utils.times import (
    DEFAULT_LEASE,
    Flap,
    Ramp,
    Repeat,
    Times,
)
from ansible_collections.pkgctl.testbed.plugins.module_utils.triggers import (
    After,
    Count,
    State,
    read_after,
    read_when,
)


def test_times_go_through_json_and_come_back():
    times = Times(
        start=2.0,
        duration=30.0,
        ramp=Ramp(5.0, 4),
        repeat=Repeat(3, 60.0),
        flap=Flap(2.0, 1.0, True),
        seed=7,
        when="requests > 1000",
        after="slow + 5s",
        lease=None,
    )
    followed = Times(trace=((0.0, {"rate": 1_000_000}), (1.5, {"loss": 0.1})))

    for each in (times, followed):
        assert Times.from_dict(json.loads(json.dumps(each.to_dict()))) == each


def test_what_is_not_given_is_the_usual():
    assert Times.from_dict({}) == Times() == Times(lease=DEFAULT_LEASE)
    assert Times.from_dict({"start": None, "seed": None, "lease": None}) == Times(lease=None)


@pytest.mark.parametrize(
    ("times", "ends"),
    [
        (Times(), None),
        (Times(start=1.0, duration=2.0), 3.0),
        (Times(start=1.0, duration=2.0, repeat=Repeat(3, 10.0)), 23.0),
        (Times(duration=2.0, repeat=Repeat(None, 10.0)), None),
        (Times(flap=Flap(1.0, 1.0)), None),
    ],
)
def test_what_has_a_duration_and_does_not_repeat_for_ever_has_an_end(times, ends):
    assert times.ends == ends


@pytest.mark.parametrize(
    ("numbers", "words"),
    [
        ({"start": -1}, "start: -1 does not lie between 0 and "),
        ({"start": "2s"}, "start: '2s' is not a number"),
        ({"start": True}, "start: True is not a number"),
        ({"duration": 0}, "duration: 0 does not lie"),
        ({"duration": float("nan")}, "duration: nan does not lie"),
        ({"lease": float("inf")}, "lease: inf does not lie"),
        ({"wrong": 1}, "times: unknown key 'wrong'; known are start, "),
        ({"ramp": 5}, "ramp: 5 is no mapping of seconds, steps"),
        ({"ramp": {"seconds": 5, "steps": 0}}, "ramp: 0 is no whole number from 1"),
        ({"ramp": {"steps": 2}}, "ramp: None is not a number"),
        ({"ramp": {"seconds": 5}, "duration": 4}, "ramp: takes longer than the duration"),
        ({"ramp": {"seconds": 5}, "trace": [[0, {"loss": 1}]]}, "ramp: contradicts trace"),
        ({"repeat": {"count": 2, "period": 5}}, "repeat: needs a duration"),
        ({"repeat": {"count": 2, "period": 5}, "duration": 5}, "repeat: it sets in again before"),
        ({"repeat": {"count": 1.5, "period": 5}, "duration": 1}, "repeat: 1.5 is no whole"),
        ({"flap": {"on": 0, "off": 1}}, "flap: 0 does not lie"),
        ({"flap": [1, 2]}, "flap: "),
        ({"trace": []}, "trace: must be 1 to 10000 rows"),
        ({"trace": [[1, {}], [1, {}]]}, "trace: the times of the rows must rise"),
        ({"trace": [[0, {"loss": 2}]]}, "loss must lie between 0 and 1"),
        ({"trace": [[0, {"weather": 2}]]}, "weather: unknown quality"),
        ({"trace": [[0]]}, "trace: .* is no row"),
        ({"seed": 1.5}, "seed: 1.5 is no whole number"),
        ({"when": 5}, "when: 5 is no text"),
        ({"after": ""}, "after: '' names no layer"),
    ],
)
def test_times_that_cannot_be_are_refused_in_one_line(numbers, words):
    with pytest.raises(ValueError, match=rf"^{words}" if ": " in words[:8] else words):
        Times.from_dict(numbers)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
)
KEYS = st.sampled_from([*Times.__dataclass_fields__, "seconds", "on"])


@given(st.dictionaries(KEYS, JSON))
def test_whatever_is_given_is_read_or_refused_in_one_line(numbers):
    try:
        Times.from_dict(numbers)
    except ValueError as error:
        assert str(error)


@pytest.mark.parametrize(
    ("text", "asked"),
    [
        ("requests > 1000", Count("requests", 1001)),
        (" requests>=1000 ", Count("requests", 1000)),
        ("node edge-2 ready", State("node", "edge-2", "ready")),
        ("node edge-2  down", State("node", "edge-2", "down")),
        ("job web-1.a ready", State("job", "web-1.a", "ready")),
        ("job web finished", State("job", "web", "finished")),
    ],
)
def test_conditions_are_read(text, asked):
    assert read_when(text) == asked


@pytest.mark.parametrize(
    "text",
    ["", "requests", "requests < 5", "sheep > 5", "node edge-2", "node a finished", "job a down"],
)
def test_conditions_that_are_none_are_refused(text):
    with pytest.raises(ValueError, match=r"^when: "):
        read_when(text)


def test_what_comes_after_a_layer_is_read():
    assert read_after("slow") == After("slow", 0.0)
    assert read_after("slow-1.a + 5s") == read_after("slow-1.a+5s") == After("slow-1.a", 5.0)


@pytest.mark.parametrize("text", ["", "Slow", "slow +", "slow + 5", "slow - 5s", "a b", "+ 5s"])
def test_what_names_no_layer_is_refused(text):
    with pytest.raises(ValueError, match=r"^after: "):
        read_after(text)
