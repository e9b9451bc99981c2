# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import itertools
import random
import statistics

import pytest
from scipy import stats

from ansible_collections.pkgctl.testbed.plugins.module_utils.quality import Quality, standardised
from ansible_collections.pkgctl.testbed.plugins.module_utils.treatment import (
    Treatment,
    deviate,
    impairment,
    is_single,
)

MS = 1_000_000
ROOT3 = 3**0.5


def treatment(seed=1, before=None, **quality):
    return Treatment(Quality(**quality), random.Random(seed), before)


def drawn(count, distribution, seed=7):
    draw = deviate(Quality(jitter=1.0, distribution=distribution), random.Random(seed))
    return [draw() for _ in range(count)]


def runs(outcomes):
    """Return the lengths of the spells in which all were true."""
    return [len(list(group)) for is_true, group in itertools.groupby(outcomes) if is_true]


def test_a_packet_without_jitter_is_due_after_exactly_the_delay():
    assert treatment(delay=0.02).due(1000) == 1000 + 20 * MS


@pytest.mark.parametrize("distribution", ["normal", "uniform", "pareto"])
def test_a_delay_has_the_mean_and_the_deviation_asked_for_where_it_need_not_keep_order(
    distribution,
):
    source = random.Random(1)
    asked = Quality(delay=0.1, jitter=0.002, distribution=distribution)

    # A pair of its own for each packet: nothing to overtake.
    seen = [Treatment(asked, source).due(0) for _ in range(8000)]

    assert statistics.mean(seen) == pytest.approx(100 * MS, rel=0.002)
    # Of Pareto's distribution with shape 3 the spread of a sample is itself spread widely.
    assert statistics.stdev(seen) == pytest.approx(
        2 * MS, rel=0.3 if distribution == "pareto" else 0.05
    )


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("normal", stats.norm()),
        ("uniform", stats.uniform(-ROOT3, 2 * ROOT3)),
        # Pareto of shape 3 has mean 3/2 and deviation √3/2.
        ("pareto", stats.pareto(3, loc=-ROOT3, scale=2 / ROOT3)),
    ],
)
def test_a_distribution_is_the_one_of_that_name(name, expected):
    assert expected.mean() == pytest.approx(0, abs=1e-9)
    assert expected.std() == pytest.approx(1)

    assert stats.kstest(drawn(5000, name), expected.cdf).pvalue > 1e-4


def test_pareto_is_early_by_a_little_and_late_by_a_lot():
    seen = drawn(5000, "pareto")

    assert min(seen) >= -1 / ROOT3
    assert max(seen) > 5
    assert statistics.median(seen) < 0


def test_measured_delays_are_drawn_again_with_their_own_shape():
    source = random.Random(3)
    # Two humps: nothing that a mean and a deviation could tell.
    measured = [source.gauss(0.01 if number % 3 else 0.05, 0.001) for number in range(3000)]
    quantiles = standardised(measured)

    seen = drawn(5000, quantiles)

    mean, deviation = statistics.mean(measured), statistics.pstdev(measured)
    again = [mean + deviation * each for each in seen]
    assert stats.ks_2samp(again, measured).statistic < 0.04
    assert quantiles[0] <= min(seen) <= max(seen) <= quantiles[-1]


def test_quantiles_that_no_clock_can_hold_are_refused():
    with pytest.raises(ValueError, match="within 1e\\+06 deviations"):
        treatment(jitter=0.1, distribution=(-1e300, 1e300))


def test_packets_of_a_pair_keep_their_order_however_they_jitter():
    pair = treatment(delay=0.005, jitter=0.005, distribution="pareto")

    due = [pair.due(number * MS // 10) for number in range(2000)]

    assert due == sorted(due)


def test_no_packet_is_due_before_it_came():
    pair = treatment(delay=0.001, jitter=0.05)

    due = [pair.due(now) for now in range(0, 2000 * MS, MS)]

    assert all(at >= now for at, now in zip(due, range(0, 2000 * MS, MS), strict=True))


def test_a_shorter_delay_does_not_overtake_what_is_on_its_way():
    before = treatment(delay=0.1)
    first = before.due(0)

    assert treatment(delay=0.001, before=before).due(10) == first


def test_a_share_overtakes_and_the_others_keep_their_place():
    pair = treatment(delay=0.02, jitter=0.001, reorder=0.1)
    now = range(0, 5000 * MS, MS)

    due = [pair.due(at) for at in now]

    at_once = [at for at, came in zip(due, now, strict=True) if at == came]
    kept = [at for at, came in zip(due, now, strict=True) if at != came]
    low, high = stats.binom.interval(0.9999, 5000, 0.1)
    assert low <= len(at_once) <= high
    assert kept == sorted(kept)


@pytest.mark.parametrize("stage", ["loss", "duplicate", "corrupt"])
def test_the_share_is_the_one_asked_for_and_each_packet_is_drawn_by_itself(stage):
    pair = treatment(seed=4, **{stage: 0.05})
    draw = {"loss": pair.loses, "duplicate": pair.doubles, "corrupt": pair.damages}[stage]

    hit = [draw() for _ in range(20_000)]

    low, high = stats.binom.interval(0.9999, 20_000, 0.05)
    assert low <= sum(hit) <= high
    # Spells of independent events are 1/(1 - p) long.
    assert statistics.mean(runs(hit)) == pytest.approx(1 / 0.95, rel=0.05)


def test_what_is_not_asked_for_never_happens():
    pair = treatment(delay=0.01)

    assert not any(pair.loses() or pair.doubles() or pair.damages() for _ in range(1000))


@pytest.mark.parametrize(("loss", "burst"), [(0.02, 5.0), (0.1, 3.0), (0.3, 1.0), (0.5, 10.0)])
def test_losses_in_bursts_have_the_mean_and_the_length_asked_for(loss, burst):
    pair = treatment(seed=5, loss=loss, burst=burst)

    lost = [pair.loses() for _ in range(200_000)]
    spells = runs(lost)

    # A share from spells is as sure as that many spells are, not as that many packets.
    assert sum(lost) / len(lost) == pytest.approx(loss, rel=5 / len(spells) ** 0.5 + 0.01)
    assert statistics.mean(spells) == pytest.approx(burst, rel=5 / len(spells) ** 0.5)


def test_the_lengths_of_bursts_are_geometric():
    pair = treatment(seed=6, loss=0.1, burst=4.0)

    spells = runs(pair.loses() for _ in range(200_000))

    cells = range(1, 12)
    observed = [spells.count(each) for each in cells] + [sum(each > 11 for each in spells)]
    shares = [stats.geom.pmf(each, 1 / 4) for each in cells] + [stats.geom.sf(11, 1 / 4)]
    expected = [share * len(spells) for share in shares]
    assert stats.chisquare(observed, expected).pvalue > 1e-4


def test_a_bad_spell_outlives_a_change_of_the_loss():
    lossy = (treatment(seed=seed, loss=0.5, burst=1e9) for seed in range(100))
    before = next(pair for pair in lossy if pair.loses())

    after = treatment(loss=0.4, burst=1e9, before=before)

    assert all(after.loses() for _ in range(100))


def test_what_a_quality_asks_of_the_delay_line_is_all_but_its_rate():
    assert impairment(Quality(rate=5, delay=0.01)) == Quality(delay=0.01)
    assert impairment(Quality(rate=5)) is None
    assert impairment(Quality(loss=1.0, delay=0.1)) is None


def test_super_packets_are_taken_apart_only_where_each_frame_is_judged_by_itself():
    assert not is_single(Quality(delay=0.1, jitter=0.01, reorder=0.1))
    assert is_single(Quality(loss=0.1))
    assert is_single(Quality(duplicate=0.1))
    assert is_single(Quality(corrupt=0.1))
