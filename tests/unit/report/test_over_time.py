# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import math

import polars as pl
import pytest

from pkgctl.measure.evaluation import evaluate
from pkgctl.report.over_time import MOST_PANELS, MOST_POINTS, bin_width, bins_of, latency_over_time
from pkgctl.report.plan import plan_of
from tests.unit.report.synthetic import Shape, write_run


def test_bins_hold_the_quantiles_of_their_requests():
    rows = pl.DataFrame(
        {
            "intended": [0.01 * at for at in range(40)] + [1.2],
            "latency": [0.001 * (at % 20 + 1) for at in range(40)] + [9.0],
        }
    )

    first, second = bins_of(rows, 0.5)

    assert (first.middle, first.count) == (0.25, 40)
    assert first.p50 == pytest.approx(0.010)
    assert first.p95 == pytest.approx(0.019)
    assert (second.middle, second.p50, second.p95) == (1.25, None, None)


def test_failed_requests_push_a_bin_to_infinity():
    rows = pl.DataFrame({"intended": [0.1] * 20, "latency": [math.inf] * 2 + [0.01] * 18})

    assert bins_of(rows, 1.0)[0].p95 == math.inf


@pytest.mark.parametrize(
    ("duration", "count", "width"), [(6.0, 540, 0.5), (6.0, 60_000, 0.1), (3600.0, 10**6, 60.0)]
)
def test_bins_are_as_narrow_as_the_requests_allow(duration, count, width):
    assert bin_width(duration, count) == width


def test_few_requests_still_get_a_width():
    assert bin_width(6.0, 3) == pytest.approx(1.5)


@pytest.fixture(scope="module")
def figure(found):
    return latency_over_time(found, plan_of(found.results.record), "web")


def test_there_is_a_panel_for_each_cell_without_its_disturbance(figure):
    assert [panel.title.replace("\xa0", " ") for panel in figure.panels] == [
        f"replicas = {count}" for count in (1, 2, 4, 8)
    ]
    assert [name for name, _, _ in figure.legend] == ["none", "slow-uplink"]


def test_panels_share_their_axis_and_shade_the_window(figure):
    assert len({tuple(panel.layout["yaxis"]["range"]) for panel in figure.panels}) == 1
    for panel in figure.panels:
        (shape,) = panel.layout["shapes"]
        assert (shape["x0"], shape["x1"]) == (2.0, 4.0)


def test_every_line_has_dots_and_two_quantiles(figure):
    names = [trace.get("name") for trace in figure.panels[0].traces]

    assert names == [None, "none, p50", "none, p95", None, "slow-uplink, p50", "slow-uplink, p95"]
    assert all(len(trace["x"]) <= MOST_POINTS for trace in figure.panels[0].traces)


def test_the_disturbance_is_seen_in_the_drawn_p95(figure):
    trace = next(t for t in figure.panels[3].traces if t.get("name") == "slow-uplink, p95")
    pairs = list(zip(trace["x"], trace["y"], strict=True))

    during = [y for x, y in pairs if 2.0 <= x < 4.0]
    outside = [y for x, y in pairs if x < 2.0 or x >= 4.5]
    assert min(during) > max(outside)


def test_the_picture_is_told_in_words_and_as_a_table(figure):
    assert "p95 by bin between" in figure.panels[0].description
    assert len(figure.headers) == len(figure.rows[0]) == 5
    assert len(figure.rows) == 4 * 2 * 12


def test_many_combinations_are_drawn_along_the_scale_only(tmp_path):
    factors = {"replicas": [1, 2], "place": [str(at) for at in range(MOST_PANELS)]}
    shape = Shape(factors=factors, repeats=1, duration=2.0)
    evaluation = evaluate(write_run(tmp_path / "run", shape))

    figure = latency_over_time(evaluation, plan_of(evaluation.results.record), "web")

    assert len(figure.panels) == 2
    assert "2 of 24 combinations are drawn" in figure.caption


def test_a_service_without_requests_has_no_figure(found):
    assert latency_over_time(found, plan_of(found.results.record), "db") is None
