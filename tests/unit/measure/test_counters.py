# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest

from pkgctl.measure.counters import counter, gauge
from pkgctl.measure.phases import Span
from tests.unit.measure.rows import samples


def series(kind, *pairs):
    return kind(
        samples(*({"t": t, "node": "a", "cpu_seconds": v} for t, v in pairs)), "cpu_seconds"
    )


def test_growth_is_linear_between_samples():
    found = series(counter, (0.0, 0.0), (2.0, 4.0), (4.0, 4.0))

    assert found.growth([Span("x", 1.0, 3.0)]) == pytest.approx(2.0)
    assert found.growth([Span("x", 0.0, 4.0)]) == pytest.approx(4.0)


def test_growth_of_parts_adds_up_to_growth_of_the_whole():
    found = series(counter, (0.0, 1.0), (0.7, 1.2), (1.9, 3.0), (4.0, 3.5))

    parts = [Span("x", 0.0, 1.1), Span("x", 1.1, 2.2), Span("x", 2.2, 4.0)]

    assert sum(found.growth([part]) for part in parts) == pytest.approx(2.5)


def test_only_what_was_sampled_counts():
    found = series(counter, (1.0, 0.0), (3.0, 2.0))

    assert found.growth([Span("x", 0.0, 9.0)]) == pytest.approx(2.0)
    assert found.seconds([Span("x", 0.0, 9.0)]) == pytest.approx(2.0)
    assert found.seconds([Span("x", 4.0, 9.0)]) == 0.0


def test_a_counter_that_starts_again_loses_only_what_was_not_seen():
    found = series(counter, (0.0, 5.0), (1.0, 7.0), (2.0, 0.0), (3.0, 1.0))

    assert found.growth([Span("x", 0.0, 3.0)]) == pytest.approx(3.0)


def test_samples_may_come_out_of_order_twice_and_with_holes():
    found = series(counter, (2.0, 4.0), (0.0, 0.0), (1.0, None), (2.0, 4.0))

    assert found.growth([Span("x", 0.0, 2.0)]) == pytest.approx(4.0)


def test_the_area_under_a_gauge_is_that_of_its_trapezia():
    found = series(gauge, (0.0, 10.0), (2.0, 30.0), (4.0, 30.0))

    assert found.area([Span("x", 0.0, 4.0)]) == pytest.approx(40.0 + 60.0)
    assert found.area([Span("x", 1.0, 2.0)]) == pytest.approx(25.0)


def test_rates_tell_how_long_each_lasted_within_the_spans():
    found = series(counter, (0.0, 0.0), (1.0, 1.0), (2.0, 1.5))

    rates, seconds = found.rates([Span("x", 0.5, 2.0)])

    assert rates.tolist() == pytest.approx([1.0, 0.5])
    assert seconds.tolist() == pytest.approx([0.5, 1.0])


def test_no_samples_are_no_time():
    found = series(counter)

    assert found.seconds([Span("x", 0.0, 9.0)]) == 0.0
    assert found.growth([Span("x", 0.0, 9.0)]) == 0.0
