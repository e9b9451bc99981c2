# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import math

import pytest

from pkgctl.report.figures import Point, axis, escape, means
from tests.unit.report.made import evaluation, p95


def rows(*values):
    made = {}
    for at, found in enumerate(values):
        made |= p95(f"x={at}", *found)
    return list(evaluation({"x": list(range(len(values)))}, made).table.rows)


def test_an_axis_begins_at_nought_and_holds_every_value():
    found = axis([0.01, 0.05, 0.12], "s")

    assert not found.logarithmic
    assert found.low == 0.0 and found.high > 0.12
    assert found.ticks == pytest.approx((0.0, 0.05, 0.1))


def test_an_axis_of_very_different_values_is_logarithmic():
    found = axis([0.002, 3.0], "s")

    assert found.logarithmic
    assert found.low < 0.002 and found.high > 3.0
    assert all(found.low <= tick <= found.high for tick in found.ticks)


def test_shares_always_begin_at_nought():
    assert not axis([0.001, 1.0], "share", from_zero=True).logarithmic


@pytest.mark.parametrize("values", [[], [0.0], [math.inf], [0.0, math.inf]])
def test_an_axis_without_positive_values_is_still_an_axis(values):
    found = axis(values, "s")

    assert found.high > found.low
    assert found.low <= found.place(math.inf) <= found.high


def test_every_tick_has_a_text():
    layout = axis([0.5, 7.3], "s").layout()

    assert len(layout["tickvals"]) == len(layout["ticktext"]) > 2


def test_points_carry_their_intervals():
    (row,) = rows((1.0, 2.0, 3.0))

    (trace,) = means("n", 0, [Point("1", row)], ["1"], axis([5.0], "s"))

    assert trace["y"] == [2.0]
    assert trace["error_y"]["array"] == pytest.approx([2.484138], abs=1e-5)
    assert trace["error_y"]["arrayminus"] == pytest.approx([2.0])


def test_a_point_without_bound_is_an_arrow_at_the_edge():
    found = rows((1.0, 2.0, 3.0), (math.inf, math.inf, 1.0))
    chosen = axis([5.0], "s")

    finite, endless = means(
        "n", 1, [Point(str(at), row) for at, row in enumerate(found)], ["0", "1"], chosen
    )

    assert len(finite["x"]) == len(endless["x"]) == 1
    assert endless["marker"]["symbol"] == "arrow-up"
    assert chosen.high * 0.9 < endless["y"][0] <= chosen.high
    assert "unbounded in 2 of 3 repeats" in endless["hovertext"][0]


def test_names_are_no_markup_in_a_drawing():
    assert escape("<b>&") == "&lt;b&gt;&amp;"
