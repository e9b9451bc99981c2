# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
import signal
import subprocess
import sys

import polars as pl
import pytest

from pkgctl.errors import ResultsError
from pkgctl.experiment import folder, plan, record
from pkgctl.measure.results import EVENTS, JOBS, REQUESTS, SAMPLES, read_results

ROW = {"service": "web", "client": "edge-4", "intended": 0.5, "status": "ok", "done": 0.6}


@pytest.fixture
def experiment(small):
    return small()


@pytest.fixture
def made(tmp_path, experiment):
    found = folder.Folder(
        folder.create(tmp_path, "small"), record.fresh(experiment, "pkgctl experiment small")
    )
    yield found
    found.close()


def test_two_runs_of_the_same_second_get_folders_of_their_own(tmp_path):
    paths = {folder.create(tmp_path, "small") for _ in range(3)}

    assert len(paths) == 3
    assert all(path.name.startswith("small-") for path in paths)


def test_a_place_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")

    with pytest.raises(ResultsError, match="cannot be made"):
        folder.create(tmp_path / "file", "small")


def test_a_fresh_folder_plans_every_run_and_can_be_read(made, experiment):
    found = read_results(made.path)

    assert [run.status for run in found.record.runs] == ["missing"] * 8
    assert found.record.question == experiment.head.question
    assert found.record.objectives["web"].latency == 0.15


def test_every_cell_has_the_windows_but_only_the_disturbed_ones_are_active(made):
    windows = [cell["runs"][0]["windows"][0] for cell in made.record["cells"]]

    assert [window["active"] for window in windows] == [False, True, False, True]
    assert {(window["start"], window["end"]) for window in windows} == {(1.0, 3.0)}


def test_the_tables_of_a_run_are_there_before_it_counts_as_done(made, experiment):
    run = plan.runs(experiment)[0]

    made.write_run(run, {"requests": [ROW]}, {"t0_wall": 1.0})

    found = read_results(made.path)
    assert [each.status for each in found.record.runs].count("done") == 1
    assert found.requests["done"].to_list() == [0.6]
    assert found.requests["cell"].to_list() == [run.cell.id]


def test_tables_have_every_column_also_without_rows(made, experiment):
    run = plan.runs(experiment)[0]

    made.write_run(run, {}, {})

    for name, columns in (("requests", REQUESTS), ("jobs", JOBS), ("samples", SAMPLES)):
        frame = pl.read_parquet(made.path / run.folder / f"{name}.parquet")
        assert dict(frame.schema) == dict(columns)


def test_a_run_that_failed_keeps_its_reason_until_it_succeeds(made, experiment):
    run = plan.runs(experiment)[0]

    made.mark(run, status="failed", error="no replica became ready")
    assert folder.find_entry(made.record, run)["error"] == "no replica became ready"

    made.write_run(run, {}, {})
    assert "error" not in folder.find_entry(made.record, run)


def test_events_become_a_table_at_the_end(made, experiment):
    run = plan.runs(experiment)[0]
    made.note(run, kind="layer-on", name="slow", target="edge-1", t=1.0, planned=1.0)
    made.note(None, kind="note", detail="all")

    made.finish("complete")

    events = pl.read_parquet(made.path / "events.parquet")
    assert list(events.columns) == list(EVENTS)
    assert events["kind"].to_list() == ["layer-on", "note"]
    assert json.loads((made.path / "run.json").read_text())["status"] == "complete"


def test_a_warning_is_noted_once(made):
    made.warn("slow machine")
    made.warn("slow machine")

    assert made.record["warnings"] == ["slow machine"]


KILLED = """
import os, signal, sys
from pathlib import Path
sys.path[:0] = {paths!r}
from pkgctl import documents, spec
from pkgctl.experiment import folder, plan, record
text = {text!r}
experiment = spec.parse(documents.parse(text, "small.yaml", "experiment"), Path("small.yaml"))
made = folder.Folder(Path({place!r}), record.fresh(experiment, ""))
runs = plan.runs(experiment)
made.write_run(runs[0], {{"requests": [{row!r}]}}, {{}})
made.note(runs[1], kind="layer-on", name="slow", t=1.0)
made._events.write('{{"kind": "torn')
made._events.flush()
folder.write_table(made.path / "half.parquet", [], folder.LINKS)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_was_written_survives_a_kill_and_the_folder_can_be_gone_on_with(tmp_path, small):
    from .conftest import SMALL

    place = tmp_path / "small-1"
    place.mkdir()
    code = KILLED.format(paths=sys.path, text=SMALL, place=str(place), row=ROW)

    killed = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True)

    assert killed.returncode == -signal.SIGKILL, killed.stderr
    found = read_results(place)
    assert [run.status for run in found.record.runs].count("done") == 1
    assert found.requests.height == 1
    assert found.events["name"].to_list() == ["slow"]

    again = folder.Folder(place, json.loads((place / "run.json").read_text()))
    again.note(None, kind="note", detail="back")
    again.finish("complete")
    again.close()
    assert pl.read_parquet(place / "events.parquet")["kind"].to_list() == ["layer-on", "note"]
