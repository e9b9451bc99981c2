# SPDX-License-Identifier: GPL-3.0-or-later
"""The interval of a paired ratio."""

from __future__ import annotations

import math

import pytest

from pkgctl.measure.statistics import ratio_interval


def test_pairs_of_one_ratio_give_that_ratio():
    interval = ratio_interval([1.0, 2.0, 4.0], [3.0, 6.0, 12.0])

    assert interval is not None
    assert (interval.low, interval.high) == pytest.approx((3.0, 3.0))


def test_it_is_students_interval_of_the_logarithms():
    # Ratios e^1 and e^3: mean 2, deviation √2, t(0.975; 1) = 12.7062.
    interval = ratio_interval([1.0, 1.0], [math.e, math.e**3])

    assert interval is not None
    assert math.log(interval.low) == pytest.approx(2 - 12.7062, abs=1e-4)
    assert math.log(interval.high) == pytest.approx(2 + 12.7062, abs=1e-4)


def test_pairs_that_move_together_differ_clearly_though_their_means_do_not():
    interval = ratio_interval([1.0, 10.0, 100.0], [2.0, 21.0, 190.0])

    assert interval is not None
    assert interval.low > 1


@pytest.mark.parametrize("values", [[0.0, 1.0], [1.0, math.inf], [1.0, -1.0]])
def test_there_is_no_ratio_of_what_is_not_positive_and_finite(values):
    assert ratio_interval([1.0, 1.0], values) is None
    assert ratio_interval(values, [1.0, 1.0]) is None


def test_one_pair_has_no_interval():
    assert ratio_interval([1.0], [2.0]) is None
