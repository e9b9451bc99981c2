# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from pkgctl.measure.evaluation import evaluate
from pkgctl.report.plan import plan_of
from pkgctl.report.tiles import tiles
from tests.unit.report.made import evaluation
from tests.unit.report.synthetic import Shape, write_run


def of(found):
    return {tile.label: tile for tile in tiles(found, plan_of(found.results.record))}


def test_the_extremes_are_those_of_the_table(found):
    rows = [row for row in found.table.rows if row.metric == "latency_p95"]
    tile = of(found)["highest p95 latency of web"]

    worst = max(row.mean for row in rows if row.phase == "during" and "slow" in row.cell)
    assert tile.value.replace("\xa0", " ") == f"{worst * 1000:.0f} ms"
    assert "during the disturbance" in tile.details


def test_the_requests_are_counted(found):
    tile = of(found)["requests"]

    assert tile.value.replace(" ", "") == str(found.results.requests.height)
    assert tile.details == ("none missed",) and not tile.bad


def test_misses_are_counted_and_marked(tmp_path):
    slow = Shape(factors={"replicas": [1]}, rate=90.0)
    found = evaluate(write_run(tmp_path / "run", slow))

    tile = of(found)["requests"]

    missed = (found.results.requests["status"] != "ok").sum()
    assert tile.bad
    assert tile.details[0].startswith(f"{missed} missed")


def test_links_that_failed_are_marked(found):
    assert of(found)["links as asked"].value == "18 of 19"
    assert of(found)["links as asked"].bad


def test_a_batch_run_shows_completion_and_no_latency(batch):
    labels = of(evaluate(batch))

    assert "lowest mean completion" in labels
    assert not any("latency" in label for label in labels)


def test_nothing_measured_shows_nothing():
    assert of(evaluation({}, {})) == {}
