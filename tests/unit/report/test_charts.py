# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest

from pkgctl.measure.catalogue import STEPS
from pkgctl.measure.evaluation import evaluate
from pkgctl.measure.record import Objective
from pkgctl.report import charts
from pkgctl.report.plan import plan_of
from pkgctl.report.steps import provisioning_figure
from tests.unit.report.made import evaluation, p95


@pytest.fixture(scope="module")
def parts(found):
    plan = plan_of(found.results.record)
    return plan, charts.grid_of(plan), found.table


def grid(factors, **more):
    return charts.grid_of(plan_of(evaluation(factors, {}, **more).results.record))


def test_cells_lie_along_the_scale_with_a_series_for_the_rest():
    found = grid({"replicas": [1, 8], "perturb": ["none", "slow"]})

    assert (found.factor, found.levels) == ("replicas", ("1", "8"))
    assert [name.replace("\xa0", " ") for name in found.series] == [
        "perturb = none",
        "perturb = slow",
    ]
    assert [cell.id for _, cell in found.series["perturb\xa0=\xa0slow"]] == [
        "replicas=1,perturb=slow",
        "replicas=8,perturb=slow",
    ]


def test_too_many_series_are_cut_to_the_disturbances():
    found = grid({"replicas": [1, 8], "perturb": ["none", "slow"], "place": list("abcd")})

    assert found.partial
    assert len(found.series) == 2
    assert all("place\xa0=\xa0a" in name for name in found.series)


def test_without_factors_the_only_cell_is_drawn():
    found = grid({})

    assert (found.factor, found.levels) == ("", ("the only cell",))


def test_latency_is_drawn_by_phase_with_one_axis(parts):
    figure = charts.latency_figure(*parts, "web")

    assert [panel.title for panel in figure.panels] == [
        f"p95 {phase} the disturbance" for phase in ("before", "during", "after")
    ]
    assert len({tuple(panel.layout["yaxis"]["range"]) for panel in figure.panels}) == 1
    assert len(figure.rows) == 3 * 8


def test_without_windows_three_quantiles_are_drawn():
    made = evaluation(
        {"replicas": [1, 2]}, p95("replicas=1", 0.1, 0.2) | p95("replicas=2", 0.1, 0.2)
    )
    plan = plan_of(made.results.record)

    figure = charts.latency_figure(plan, charts.grid_of(plan), made.table, "web")

    assert [panel.title for panel in figure.panels] == ["p95"]


def test_the_objective_is_a_line_at_its_share():
    values = {("slo_attainment", "web", "all", f"replicas={n}"): (0.9, 0.91) for n in (1, 2)}
    made = evaluation({"replicas": [1, 2]}, values, objective=Objective(0.15, 0.95))
    plan = plan_of(made.results.record)

    figure = charts.service_figure(plan, charts.grid_of(plan), made.table, "web")

    (panel,) = figure.panels
    assert panel.layout["shapes"][0]["y0"] == 0.95
    assert "within 150" in figure.caption


def test_misses_are_drawn_only_if_there_are_any(parts):
    titles = [panel.title for panel in charts.service_figure(*parts, "web").panels]

    assert titles == [
        "answered per second, during the disturbance",
        "objective attained, during the disturbance",
    ]


def test_the_bars_of_provisioning_add_up_to_its_total(parts):
    plan, layout, table = parts
    figure = provisioning_figure(plan, layout, table, "web")
    (panel,) = figure.panels

    # Processes have their place at once.
    assert len(panel.traces) == len(STEPS) - 1
    sums = [sum(values) for values in zip(*(trace["x"] for trace in panel.traces), strict=True)]
    totals = [note["x"] for note in panel.layout["annotations"]]
    assert sums == pytest.approx(totals, rel=1e-3)
    assert panel.traces[0]["y"][0].replace("\xa0", " ") == "replicas = 1, cold"


def test_what_was_not_measured_is_not_drawn():
    plan = plan_of(evaluation({"replicas": [1]}, {}).results.record)
    layout, table = charts.grid_of(plan), evaluation({"replicas": [1]}, {}).table

    assert charts.latency_figure(plan, layout, table, "web") is None
    assert charts.utilisation_figure(layout, table) is None
    assert charts.queue_figure(layout, table) is None
    assert provisioning_figure(plan, layout, table, "web") is None


def test_batch_jobs_have_their_own_figure(batch):
    found = evaluate(batch)
    layout = charts.grid_of(plan_of(found.results.record))

    titles = [panel.title for panel in charts.queue_figure(layout, found.table).panels]

    assert titles == ["queue wait p95", "mean completion time", "makespan"]
