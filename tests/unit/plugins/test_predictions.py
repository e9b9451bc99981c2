# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest

from ansible_collections.pkgctl.testbed.plugins.module_utils import predictions, rtnl, shaping
from ansible_collections.pkgctl.testbed.plugins.module_utils.predictions import Machine, foresee
from ansible_collections.pkgctl.testbed.plugins.module_utils.quality import Quality

HERE = Machine(rate=9_000_000_000, delay=15e-6)
UNKNOWN = Machine()

FORESEEN = {
    "too fast": (Quality(rate=40 * 10**9), "rate 40gbit: this machine carries about 9gbit"),
    "too short": (Quality(delay=5e-6), "delay 5us: this machine itself takes about 15us one way"),
    "too fine": (Quality(delay=50e-6), "delay 50us: below the 100us that can be told apart"),
    "early": (Quality(delay=0.01, jitter=0.02), "no packet is early by more than its delay"),
    "small loss": (Quality(loss=0.0001), "loss 0.01%: too small"),
    "rare bursts": (Quality(loss=0.004, burst=50), "one burst in 12500 packets is too rare"),
}


@pytest.mark.parametrize(("quality", "line"), FORESEEN.values(), ids=FORESEEN.keys())
def test_what_will_not_be_as_asked_is_said_before(quality, line):
    (found,) = foresee(quality, HERE)

    assert line in found


@pytest.mark.parametrize(
    "quality",
    [
        Quality(),
        Quality(rate=10**7, delay=0.02, jitter=0.002, loss=0.01),
        Quality(loss=1),
        Quality(delay=0.01, jitter=0.015, distribution="pareto"),
    ],
)
def test_what_will_be_as_asked_needs_no_words(quality):
    assert foresee(quality, HERE) == []


def test_without_a_baseline_only_what_needs_none_is_said():
    assert foresee(Quality(rate=40 * 10**9, delay=2e-4), UNKNOWN) == []


def test_a_queue_smaller_than_rate_times_delay_is_said_of_a_long_way_back():
    there, back = Quality(rate=10**8, delay=0.05), Quality(delay=0.2)

    (line,) = foresee(there, HERE, back)

    queue = shaping.queue(10**8 // 8, 0.05).limit
    assert queue < 10**8 // 8 * 0.25
    assert "smaller than rate × delay" in line
    assert "250ms" in line
    assert foresee(there, HERE, Quality(delay=0.05)) == []


def test_a_burst_below_a_frame_is_said():
    jumbo = Machine(mtu=9000)

    assert rtnl.burst(10**6 // 8) < 9014
    assert any("is below a frame of 9014" in line for line in foresee(Quality(rate=10**6), jumbo))


def test_what_cannot_be_measured_is_said_only_where_somebody_measures():
    assert foresee(Quality(loss=0.0001), HERE, measured=False) == []


def test_links_alike_are_told_in_one_line():
    fast = Quality(rate=40 * 10**9)
    links = {one: {other: fast for other in "abc" if other != one} for one in "abc"}

    (line,) = predictions.foresee_all(links, HERE)

    assert line.startswith("link a → b and 5 more: rate 40gbit")


def test_no_more_than_some_lines_are_told():
    links = {"a": {f"n{at}": Quality(rate=(10 + at) * 10**9) for at in range(30)}}

    lines = predictions.foresee_all(links, HERE, most=4)

    assert len(lines) == 5
    assert lines[-1] == "and 26 more of this kind"
