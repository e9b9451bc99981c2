# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import math

import pytest

from pkgctl.measure.statistics import Interval
from pkgctl.report.numbers import digits, plain, ratio, show, show_interval


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0, "0"), (1, "1"), (1.5, "1.5"), (12.34, "12.3"), (123.4, "123"), (1234.5, "1234"),
        (9.999, "10"), (99.96, "100"), (0.123, "0.12"), (0.0123, "0.012"), (-2.5, "−2.5"),
        (-0.0, "0"), (math.inf, "∞"), (-math.inf, "−∞"),
    ],
)  # fmt: skip
def test_three_digits_count_and_no_more_are_shown(value, shown):
    assert digits(value) == shown


@pytest.mark.parametrize(
    ("value", "unit", "shown"),
    [
        (0.0514, "s", "51.4 ms"), (1.5, "s", "1.5 s"), (0.9996, "s", "1 s"), (42e-5, "s", "420 µs"),
        (0.0, "s", "0 ms"), (192.4, "s", "192 s"), (0.95, "share", "95 %"), (0.0, "share", "0 %"),
        (29.6, "1/s", "29.6 /s"), (3, "1", "3"), (2 << 20, "bytes", "2 MiB"), (0, "bytes", "0 B"),
        (5e6, "bit/s", "5 Mbit/s"), (None, "s", "–"), (math.inf, "s", "∞"), (0.2, "s/s", "0.2 s/s"),
    ],
)  # fmt: skip
def test_a_value_is_shown_in_the_unit_that_suits_its_size(value, unit, shown):
    assert plain(show(value, unit)) == shown


def test_an_interval_takes_the_unit_of_its_estimate():
    assert plain(show_interval(Interval(0.0004, 1.2), "s", 0.05)) == "0.4–1200 ms"


@pytest.mark.parametrize(
    ("first", "second", "shown"),
    [(1, 2, "×2"), (3, 1, "÷3"), (1, 1, "×1"), (0, 1, ""), (1, math.inf, "")],
)
def test_a_ratio_is_a_factor_or_a_divisor(first, second, shown):
    assert ratio(first, second) == shown
