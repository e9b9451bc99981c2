# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json

import polars as pl
import pytest

from pkgctl.measure.catalogue import METRICS
from pkgctl.measure.evaluation import evaluate, summary, write
from tests.unit.report.synthetic import Shape, write_run


@pytest.fixture(scope="module")
def evaluation(tmp_path_factory):
    shape = Shape(factors={"replicas": [1, 2], "perturb": ["none", "slow-uplink"]}, batch=True)
    return evaluate(write_run(tmp_path_factory.mktemp("results") / "run", shape))


def test_a_whole_run_has_every_metric(evaluation):
    of_pods = {"provisioning_cold_place", "provisioning_warm_place"}
    of_clusters = {"notice_delay", "notice_back_delay", "replaced", "replace_delay"}
    found = {row.metric for row in evaluation.table.rows}
    assert found == set(METRICS) - of_pods - of_clusters


def test_more_replicas_and_no_disturbance_are_faster(evaluation):
    def p95(replicas, perturb):
        cell = f"replicas={replicas},perturb={perturb}"
        return evaluation.table.find("latency_p95", "web", "during", cell).mean

    assert p95(2, "none") < p95(1, "none") < p95(1, "slow-uplink")


def test_offered_load_is_what_was_generated(evaluation):
    requests = evaluation.results.requests
    cell = "replicas=1,perturb=none"

    found = evaluation.table.find("offered", "web", "all", cell)

    count = requests.filter(pl.col("cell") == cell).height
    assert found.mean == pytest.approx(count / 3 / 6.0)


def test_the_metrics_are_written_with_their_factors(evaluation):
    write(evaluation, ["An answer."])

    frame = pl.read_parquet(evaluation.results.folder / "metrics.parquet")

    assert frame.height == len(evaluation.table.rows)
    assert frame.schema["replicas"] == pl.Int64
    one = frame.filter(metric="latency_p95", phase="during", replicas=1, perturb="slow-uplink")
    assert one.height == 1
    assert one["n_repeats"].to_list() == [3]
    assert len(one["values"].to_list()[0]) == 3
    assert one["low"].item() < one["mean"].item() < one["high"].item()


def test_the_summary_is_json_without_single_nodes(evaluation):
    write(evaluation, ["An answer."])

    found = json.loads((evaluation.results.folder / "summary.json").read_text())

    assert found["answer"] == ["An answer."]
    assert found["links"] == {"pass": 18, "fail": 1, "unmeasured": 1}
    assert [cell["runs_measured"] for cell in found["cells"]] == [3, 3, 3, 3]
    subjects = {row["subject"] for cell in found["cells"] for row in cell["metrics"]}
    assert "all nodes" in subjects and "edge-a-1" not in subjects


def test_an_infinite_number_is_a_text_in_json(tmp_path):
    slow = Shape(factors={"replicas": [1]}, rate=90.0)
    evaluation = evaluate(write_run(tmp_path / "run", slow))

    rows = summary(evaluation)["cells"][0]["metrics"]

    (p99,) = [row for row in rows if (row["metric"], row["phase"]) == ("latency_p99", "all")]
    assert p99["mean"] == "inf"
    assert "unbounded" in p99["note"]
    json.dumps(summary(evaluation), allow_nan=False)
