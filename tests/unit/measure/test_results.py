# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json

import polars as pl
import pytest

from pkgctl.measure.results import REQUESTS, align, read_results
from tests.unit.report.synthetic import Shape, write_run

SMALL = Shape(factors={"replicas": [1, 2]}, repeats=2)


@pytest.fixture
def folder(tmp_path):
    return write_run(tmp_path / "run", SMALL)


def edit(folder, change):
    path = folder / "run.json"
    found = json.loads(path.read_text())
    change(found)
    path.write_text(json.dumps(found))


def runs(found):
    return [run for cell in found["cells"] for run in cell["runs"]]


def test_a_whole_folder_is_read_without_problems(folder):
    results = read_results(folder)

    assert results.problems == ()
    assert len(results.measured) == 4
    assert results.requests["cell"].unique().sort().to_list() == ["replicas=1", "replicas=2"]
    assert results.links.height == 20
    assert results.samples.height and results.jobs.height


def test_what_was_not_measured_is_told_in_a_line_for_each_cell(folder):
    def change(found):
        runs(found)[1]["status"] = "missing"
        runs(found)[2].update(status="failed", error="edge-a-1 did not answer")
        runs(found)[3].update(status="failed", error="edge-a-1 did not answer")

    edit(folder, change)
    results = read_results(folder)

    assert results.problems == (
        "replicas=1, repeat 1: not measured",
        "replicas=2, repeats 0, 1: failed: edge-a-1 did not answer",
    )
    assert results.requests["repeat"].unique().to_list() == [0]


@pytest.mark.parametrize("table", ["requests", "jobs", "samples"])
def test_a_table_that_is_missing_or_broken_leaves_the_others(folder, table):
    (folder / f"cells/000-r0/{table}.parquet").unlink()
    (folder / f"cells/000-r1/{table}.parquet").write_bytes(b"PAR1 and then nothing")

    results = read_results(folder)

    assert results.problems[0] == f"cells/000-r0/{table}.parquet: missing"
    assert results.problems[1].startswith(f"cells/000-r1/{table}.parquet: cannot be read")
    assert len(results.problems) == 2
    assert getattr(results, table)["cell"].unique().to_list() == ["replicas=2"]


@pytest.mark.parametrize("name", ["links", "events"])
def test_missing_tables_of_the_whole_run_are_told(folder, name):
    (folder / f"{name}.parquet").unlink()

    results = read_results(folder)

    assert results.problems == (f"{name}.parquet: missing",)
    assert getattr(results, name).height == 0


def test_the_plan_says_which_run_a_file_is_of(folder):
    path = folder / "cells/000-r1/requests.parquet"
    pl.read_parquet(path).with_columns(repeat=pl.lit(77), cell=pl.lit("?")).write_parquet(path)

    found = read_results(folder).requests

    assert found["repeat"].unique().sort().to_list() == [0, 1]
    assert "?" not in found["cell"].to_list()


def test_a_folder_outside_of_the_run_is_not_read(folder):
    edit(folder, lambda found: runs(found)[0].update(folder="../elsewhere"))

    assert "outside the run folder" in " ".join(read_results(folder).problems)


def test_a_table_without_a_column_that_is_needed_is_told(folder):
    path = folder / "cells/000-r0/requests.parquet"
    pl.read_parquet(path).drop("intended").write_parquet(path)

    assert "column intended is absent" in read_results(folder).problems[0]


def test_optional_columns_may_be_absent_and_others_are_dropped():
    frame = pl.DataFrame({"service": ["w"], "intended": [1], "status": ["ok"], "more": [5]})

    found = align(frame, REQUESTS, ("service", "intended", "status"))

    assert found.columns == list(REQUESTS)
    assert found["intended"].to_list() == [1.0]
    assert found["done"].to_list() == [None]


def test_the_journal_of_a_killed_run_is_read_up_to_its_torn_line(folder):
    (folder / "events.parquet").unlink()
    edit(folder, lambda found: found.update(status="interrupted"))
    line = {"cell": "replicas=1", "repeat": 0, "t": 2, "kind": "layer-on", "planned": 2.0}
    (folder / "events.jsonl").write_text(f'{json.dumps(line)}\n[1]\n{{"cell": "repl')

    results = read_results(folder)

    assert results.problems == ()
    assert results.events.select("t", "kind", "name").rows() == [(2.0, "layer-on", None)]
