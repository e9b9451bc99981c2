# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import math
import random

import pytest

from pkgctl.measure.statistics import (
    Interval,
    nearest_rank,
    quantile_interval,
    quantile_ranks,
    rank,
    samples_needed,
    student_interval,
    welch_interval,
)


@pytest.mark.parametrize(
    ("count", "share", "expected"),
    [(100, 0.95, 95), (100, 0.99, 99), (101, 0.95, 96), (20, 0.5, 10), (21, 0.5, 11), (1, 0.5, 1)],
)
def test_the_rank_is_the_count_times_the_share_rounded_up(count, share, expected):
    assert rank(count, share) == expected


def test_the_rank_is_not_pushed_up_by_floating_point():
    assert 0.07 * 100 > 7

    assert rank(100, 0.07) == 7


def test_a_quantile_is_a_sample():
    values = [float(value) for value in range(1, 101)]

    assert nearest_rank(values, 0.95) == 95.0
    assert nearest_rank(values, 0.5) == 50.0
    assert nearest_rank(values, 0.99) == 99.0


def test_infinite_samples_reach_the_quantile_when_they_are_many():
    values = [1.0] * 94 + [math.inf] * 6

    assert nearest_rank(values, 0.5) == 1.0
    assert nearest_rank(values, 0.95) == math.inf


@pytest.mark.parametrize(("share", "needed"), [(0.5, 2), (0.95, 20), (0.99, 100), (0.999, 1000)])
def test_a_quantile_that_would_be_the_maximum_is_refused(share, needed):
    assert samples_needed(share) == needed
    assert nearest_rank([1.0] * (needed - 1), share) is None
    assert nearest_rank([1.0] * needed, share) == 1.0


def test_the_ranks_around_a_median_of_a_hundred_are_the_published_ones():
    assert quantile_ranks(100, 0.5) == (40, 61)


def test_the_ranks_cover_the_quantile_with_at_least_95_percent():
    for count, share in ((30, 0.5), (200, 0.95), (1000, 0.99)):
        low, high = quantile_ranks(count, share)

        covered = sum(
            math.comb(count, below) * share**below * (1 - share) ** (count - below)
            for below in range(low, high)
        )

        assert 0.95 <= covered < 0.99


def test_too_few_samples_give_no_interval_of_a_quantile():
    assert quantile_ranks(20, 0.99) is None
    assert quantile_interval([], 0.5) is None


def test_the_interval_of_a_quantile_is_made_of_samples():
    assert quantile_interval([float(value) for value in range(1, 101)], 0.5) == Interval(40.0, 61.0)


def test_the_interval_of_a_mean_is_students():
    # mean 2, deviation 1, n 3: half width 4.302653 / √3
    found = student_interval([1.0, 2.0, 3.0])

    assert found.low == pytest.approx(2 - 2.484138, abs=1e-6)
    assert found.high == pytest.approx(2 + 2.484138, abs=1e-6)


def test_one_value_and_infinite_values_have_no_interval():
    assert student_interval([1.0]) is None
    assert student_interval([1.0, math.inf]) is None
    assert welch_interval([1.0], [1.0, 2.0]) is None


def test_welchs_interval_is_that_of_the_textbook():
    # Equal variances and sizes: t of 2n − 2 = 4 degrees, 2.776445 · √(1/3 + 1/3) around 10
    found = welch_interval([1.0, 2.0, 3.0], [11.0, 12.0, 13.0])

    assert found.low == pytest.approx(10 - 2.266958, abs=1e-5)
    assert found.high == pytest.approx(10 + 2.266958, abs=1e-5)


def test_two_constant_samples_differ_by_exactly_their_difference():
    assert welch_interval([1.0, 1.0], [3.0, 3.0]) == Interval(2.0, 2.0)


def test_students_interval_covers_the_true_mean_in_95_of_100_experiments():
    rng = random.Random(5)

    covered = 0
    for _ in range(2000):
        found = student_interval([rng.gauss(7.0, 2.0) for _ in range(5)])
        covered += found.low <= 7.0 <= found.high

    # Four standard deviations of a binomial of 2000 and 0.95 are 0.0195.
    assert covered / 2000 == pytest.approx(0.95, abs=0.0195)


@pytest.mark.parametrize(
    ("other", "overlap"),
    [(Interval(2, 3), True), (Interval(2.5, 3), False), (Interval(-1, 0.9), False)],
)
def test_intervals_overlap_if_they_share_a_point(other, overlap):
    assert Interval(1, 2).overlaps(other) is overlap
    assert other.overlaps(Interval(1, 2)) is overlap
