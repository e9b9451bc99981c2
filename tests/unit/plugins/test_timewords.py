# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest

from ansible_collections.pkgctl.testbed.plugins.module_utils import timewords
from ansible_collections.pkgctl.testbed.plugins.module_utils.times import (
    Flap,
    Ramp,
    Repeat,
    Times,
)


def test_without_a_word_a_layer_is_there_at_once_and_as_long_as_its_lease():
    assert timewords.read({}) == Times(lease=600.0)


def test_start_and_duration_are_seconds():
    times = timewords.read({"start": "2s", "duration": "1m30s"}, 7)

    assert times == Times(start=2.0, duration=90.0, seed=7, lease=None)


@pytest.mark.parametrize(
    ("text", "ramp"), [("5s", Ramp(5.0)), ("5s/4", Ramp(5.0, 4)), ("5s / 4", Ramp(5.0, 4))]
)
def test_a_ramp_is_steady_or_in_steps(text, ramp):
    assert timewords.read_ramp(text) == ramp


@pytest.mark.parametrize(
    ("text", "repeat"), [("3/20s", Repeat(3, 20.0)), ("20s", Repeat(None, 20.0))]
)
def test_a_repetition_is_counted_or_without_end(text, repeat):
    assert timewords.read_repeat(text) == repeat


@pytest.mark.parametrize(
    ("text", "flap"), [("2s/1s", Flap(2.0, 1.0)), ("2s/500ms/random", Flap(2.0, 0.5, True))]
)
def test_flapping_is_regular_or_random(text, flap):
    assert timewords.read_flap(text) == flap


@pytest.mark.parametrize(
    ("given", "lease"),
    [
        ({}, 600.0),
        ({"lease": "5m"}, 300.0),
        ({"lease": "none"}, None),
        ({"duration": "2s"}, None),
        ({"duration": "2s", "repeat": "5s"}, 600.0),
        ({"duration": "2s", "repeat": "3/5s"}, None),
    ],
)
def test_what_ends_by_itself_has_no_lease(given, lease):
    assert timewords.read(given).lease == lease


@pytest.mark.parametrize(
    ("text", "condition"),
    [
        ("requests>1000", "requests>1000"),
        (" requests  >  1000 ", "requests > 1000"),
        ("node edge-2 ready", "node edge-2 ready"),
        ("job web-0 finished", "job web-0 finished"),
    ],
)
def test_a_condition_is_about_requests_a_node_or_a_job(text, condition):
    assert timewords.read_when(text) == condition


def test_what_times_wait_for_can_be_asked():
    assert timewords.predecessor(timewords.read({"after": "slow  +  5s"})) == "slow"
    assert timewords.subject(timewords.read({"when": "job web ready"})) == ("job", "web")
    assert timewords.subject(timewords.read({"when": "requests > 3"})) is None
    assert timewords.predecessor(timewords.read({})) is None


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ({"start": "soon"}, "start: duration 'soon' is no quantity"),
        ({"start": "9000h"}, "start: '9000h' must be from 0s to 8784h"),
        ({"duration": "0s"}, "duration: '0s' must be from 10ms"),
        ({"ramp": "5s/0"}, "ramp: '5s/0' must have from 1 to 1000 steps"),
        ({"ramp": "fast"}, "ramp: duration 'fast'"),
        ({"ramp": []}, "ramp: duration [] is no quantity"),
        ({"repeat": "3"}, "repeat: duration '3' has no unit"),
        ({"repeat": "0/5s", "duration": "1s"}, "repeat: '0/5s' must be from 1 to 100000 times"),
        ({"repeat": "a/b/c"}, "repeat: 'a/b/c' is no repetition; write 3/20s or 20s"),
        ({"repeat": "3/20s"}, "repeat: needs a duration"),
        ({"repeat": "3/2s", "duration": "5s"}, "repeat: it sets in again before"),
        ({"flap": "2s"}, "flap: '2s' is no flapping; write 2s/1s or 2s/1s/random"),
        ({"flap": "2s/1s/often"}, "flap: '2s/1s/often' is no flapping"),
        ({"flap": "1ms/1s"}, "flap: '1ms' must be from 10ms"),
        ({"ramp": "5s", "duration": "2s"}, "ramp: takes longer than the duration"),
        ({"when": "it rains"}, "when: 'it rains' is no condition"),
        ({"when": 3}, "when: "),
        ({"when": "node edge-2 happy"}, "when: "),
        ({"after": "Slow"}, "after: 'Slow' names no layer"),
        ({"after": "slow + soon"}, "after: duration 'soon'"),
        ({"after": ""}, "after: "),
        ({"start": "1s", "after": "slow"}, "start: contradicts after; give one of them"),
        ({"when": "requests > 3", "after": "slow"}, "when: contradicts after"),
        ({"flap": "1s/1s", "trace": "x"}, "flap: contradicts trace"),
        ({"ramp": "1s", "trace": "x"}, "ramp: contradicts trace"),
        ({"lease": "0s"}, "lease: '0s' must be from 1s"),
        ({"lease": "never"}, "lease: duration 'never'"),
    ],
)
def test_times_that_cannot_be_are_refused_with_their_word(given, error):
    with pytest.raises(ValueError) as caught:
        timewords.read(given)

    assert str(caught.value).startswith(error)
    assert "\n" not in str(caught.value)
