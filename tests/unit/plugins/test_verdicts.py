# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import math
import random
import statistics

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from ansible_collections.pkgctl.testbed.plugins.module_utils import treatment, verdicts
from ansible_collections.pkgctl.testbed.plugins.module_utils.quality import Quality

FAST = Quality()


def ask(there: Quality, back: Quality = FAST) -> verdicts.Verdict:
    return verdicts.Verdict.of("a", "b", there, back)


def test_a_round_trip_is_asked_of_both_ways():
    pair = ask(Quality(delay=0.010), Quality(delay=0.030))

    assert pair.asked_rtt == pytest.approx(0.040)
    assert pair.tolerance_rtt == 0.002


def test_the_tolerance_grows_with_the_delay_and_the_jitter():
    long = ask(Quality(delay=0.1), Quality(delay=0.1))
    shaky = ask(Quality(delay=0.1, jitter=0.01), Quality(delay=0.1))

    assert long.tolerance_rtt == pytest.approx(0.004)
    assert 0.006 < shaky.tolerance_rtt < 0.014


TRIP = {"rtt_p50": 0.0, "trips": 25, "pings": 25}
JUDGED = {
    "as asked": (Quality(delay=0.02), {"rtt_p50": 0.0213, "trips": 25}, "pass", ""),
    "too slow": (Quality(delay=0.02), {"rtt_p50": 0.0227, "trips": 25}, "fail", "trip 22.7 ms"),
    "too fast": (Quality(delay=0.02), {"rtt_p50": 0.0173, "trips": 25}, "fail", "20.0 ± 2.0 ms"),
    "no answer": (Quality(delay=0.02), {"trips": 0}, "fail", "no packet came back"),
    "down and silent": (Quality(loss=1.0), {"trips": 0}, "pass", "nothing comes back"),
    "down and there": (Quality(loss=1.0), TRIP, "fail", "though the link is down"),
    "silent by chance": (Quality(loss=0.95), {"trips": 0}, "unmeasured", "may have it"),
    "rate kept": (Quality(rate=10**7), {**TRIP, "goodput": 9.5e6}, "pass", ""),
    "rate missed": (Quality(rate=10**7), {**TRIP, "goodput": 9e6}, "fail", "goodput 9.00"),
    "rate exceeded": (Quality(rate=10**7), {**TRIP, "goodput": 2e7}, "fail", "20.00"),
    "loss kept": (Quality(loss=0.01), {**TRIP, "loss": 0.015}, "pass", ""),
    "loss missed": (Quality(loss=0.01), {**TRIP, "loss": 0.03}, "fail", "loss 3.00%"),
    "bursts vary": (Quality(loss=0.01, burst=10), {**TRIP, "loss": 0.03}, "pass", ""),
    "damage is loss": (Quality(corrupt=0.05), {**TRIP, "loss": 0.0}, "fail", "asked 5.00%"),
    "no loss asked": (FAST, {**TRIP, "trips": 22}, "fail", "3 of 25 pings were lost"),
    "one lost by accident": (FAST, {**TRIP, "trips": 24}, "pass", ""),
    "not measured": (FAST, {}, "unmeasured", "round trip: not measured"),
}


@pytest.mark.parametrize(
    ("quality", "measured", "verdict", "reason"), JUDGED.values(), ids=JUDGED.keys()
)
def test_a_verdict_compares_what_was_measured_with_what_was_asked(
    quality, measured, verdict, reason
):
    found = verdicts.judge(ask(quality), measured)

    assert found.verdict == verdict
    assert reason in found.reason


def test_each_part_has_its_own_verdict_and_tolerance():
    quality = Quality(rate=10**7, delay=0.02, loss=0.01)
    measured = {"rtt_p50": 0.02, "trips": 25, "goodput": 5e6, "loss": 0.01, "loss_packets": 1000}

    row = verdicts.judge(ask(quality), measured).row()

    assert (row["verdict_rtt"], row["verdict_goodput"], row["verdict_loss"]) == (
        "pass", "fail", "pass",
    )  # fmt: skip
    assert row["tolerance_rtt"] == pytest.approx(0.002)
    assert row["goodput_expected"] == pytest.approx(0.995 * 10**7 * 1448 / 1514)
    assert row["tolerance_goodput"] == pytest.approx(0.055 * 10**7 * 1448 / 1514)
    assert row["tolerance_loss"] == pytest.approx(2.6 * math.sqrt(0.01 * 0.99 / 1000), abs=0.001)
    assert "there" not in row


def test_a_cut_in_the_way_back_silences_a_pair_too():
    found = verdicts.judge(ask(FAST, Quality(loss=1)), {"trips": 0})

    assert found.verdict == "pass"


@pytest.mark.parametrize(("loss", "burst"), [(0.01, 5), (0.05, 10), (0.2, 3)])
def test_bursts_widen_the_variance_as_the_chain_of_gilbert_says(loss, burst):
    rng = random.Random(1)
    enter, leave = loss / (1 - loss) / burst, 1 / burst
    means = []
    for _ in range(1500):
        bad, lost = rng.random() < loss, 0
        for _ in range(500):
            lost += bad
            bad = rng.random() >= leave if bad else rng.random() < enter
        means.append(lost / 500)

    independent = loss * (1 - loss) / 500
    seen = statistics.pvariance(means) / independent
    assert seen == pytest.approx(verdicts.loss_inflation(Quality(loss=loss, burst=burst)), rel=0.2)


@pytest.mark.parametrize("distribution", ["normal", "uniform", "pareto", (-2.0, -0.5, 0.5, 2.0)])
def test_quantiles_rise_and_have_mean_0_and_deviation_1(distribution):
    values = [verdicts.quantile(distribution, (at + 0.5) / 10_000) for at in range(10_000)]

    assert values == sorted(values)
    if not isinstance(distribution, tuple):
        assert statistics.fmean(values) == pytest.approx(0, abs=0.01)
        assert statistics.pstdev(values) == pytest.approx(1, abs=0.12)


@pytest.mark.parametrize("distribution", ["normal", "uniform", "pareto", (-2.0, -0.5, 0.5, 2.0)])
def test_quantiles_are_those_of_what_the_delay_line_draws(distribution):
    draw = treatment.deviate(Quality(jitter=1, distribution=distribution), random.Random(3))
    drawn = sorted(draw() for _ in range(20_000))

    for share in (0.1, 0.3, 0.5, 0.7, 0.9):
        assert verdicts.quantile(distribution, share) == pytest.approx(
            drawn[round(share * len(drawn))], abs=0.05
        )


@settings(max_examples=25, deadline=None)
@given(
    distribution=some.sampled_from(["normal", "uniform", "pareto"]),
    jitter=some.floats(0, 0.02),
    back=some.floats(0, 0.02),
    seed=some.integers(0, 10),
)
def test_a_link_that_is_right_passes(distribution, jitter, back, seed):
    there = Quality(delay=0.03, jitter=jitter, distribution=distribution)
    other = Quality(delay=0.02, jitter=back)
    rng = random.Random(seed)
    count = verdicts.count_for_trips(there, other)

    def trip() -> float:
        ways = ((there, distribution), (other, "normal"))
        return sum(
            max(0.0, one.delay + one.jitter * verdicts.quantile(shape, rng.random()))
            for one, shape in ways
        )

    wrong = sum(
        abs(statistics.median(trip() for _ in range(count)) - 0.05)
        > verdicts.tolerance_of_trips(there, other, count)
        for _ in range(20)
    )
    assert wrong <= 2


@given(
    loss=some.floats(0, 1),
    burst=some.sampled_from([0.0, 1.0, 4.0, 100.0]),
    corrupt=some.floats(0, 1),
    jitter=some.floats(0, 1),
    reorder=some.floats(0, 1),
    trips=some.integers(0, 50),
    seen=some.floats(0, 1),
)
def test_every_quality_gets_some_verdict(loss, burst, corrupt, jitter, reorder, trips, seen):
    quality = Quality(loss=loss, burst=burst, corrupt=corrupt, jitter=jitter, reorder=reorder)
    measured = {"rtt_p50": seen if trips else None, "trips": trips, "pings": 50, "loss": seen}

    found = verdicts.judge(ask(quality), {**measured, "loss_packets": 1000})

    assert found.verdict in ("pass", "fail", "unmeasured")


def test_a_loss_too_small_to_see_is_not_measured():
    assert verdicts.why_no_loss(ask(Quality(loss=0.01))) == ""
    assert "too small" in verdicts.why_no_loss(ask(Quality(loss=0.0001)))
    assert verdicts.why_no_loss(ask(Quality(loss=1.0))) == "nothing can come back"
    assert "too much is lost" in verdicts.why_no_loss(ask(Quality(loss=0.01), Quality(loss=0.97)))
