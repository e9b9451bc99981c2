# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import os

import pytest

from pkgctl.errors import ResultsError, SpecError
from pkgctl.experiment import folder, plan, record, resume


@pytest.fixture
def begun(tmp_path, small):
    """A run of which the first two runs are done and the third failed."""
    experiment = small()
    made = folder.Folder(folder.create(tmp_path, "small"), record.fresh(experiment, "as typed"))
    runs = plan.runs(experiment)
    for run in runs[:2]:
        made.write_run(run, {}, {"t0_wall": 5.0})
    made.mark(runs[2], status="failed", error="too bad")
    made.close()
    return made.path


def test_only_what_is_not_done_is_left_to_do(begun, small):
    experiment = small()
    runs = plan.runs(experiment)

    merged = resume.merge(resume.read(begun), experiment)

    assert [run.key for run in resume.missing(merged, runs)] == [run.key for run in runs[2:]]


def test_what_is_done_keeps_its_facts_and_the_failed_begins_anew(begun, small):
    experiment = small()
    runs = plan.runs(experiment)

    merged = resume.merge(resume.read(begun), experiment)

    assert folder.find_entry(merged, runs[0])["t0_wall"] == 5.0
    assert folder.find_entry(merged, runs[2])["status"] == "missing"
    assert merged["command"] == "as typed"
    assert merged["status"] == "running"


def test_the_same_inputs_are_gone_on_with(begun, small):
    resume.check(resume.read(begun), small(), begun)


@pytest.mark.parametrize(
    "setting", ["seed=8", "repeats=3", "load.0.duration=5s", "perturbations.slow.bw=4mbit"]
)
def test_other_inputs_are_refused(begun, small, setting):
    other = small(setting)

    with pytest.raises(SpecError, match="--force"):
        resume.check(resume.read(begun), other, begun)


def test_another_trace_in_the_same_place_is_noticed(small, tmp_path):
    trace = tmp_path / "t.csv"
    trace.write_text("time\n0\n")
    setting = f"load.0.arrivals={{trace: {trace}}}"
    before = record.digest(small(setting))

    trace.write_text("time\n1\n")

    assert record.digest(small(setting)) != before


def test_the_latest_run_of_the_experiment_is_found(begun, tmp_path, small):
    later = tmp_path / "small-99999999-000000"
    other = tmp_path / "small-but-other-20990101-000000"
    for path, name in ((later, "small"), (other, "small-but-other")):
        path.mkdir()
        folder.write_whole(path / "run.json", f'{{"format": 1, "name": "{name}"}}')
    os.utime(begun / "run.json", (1, 1))

    assert resume.find(tmp_path, "small", "latest") == later
    assert resume.find(tmp_path, "small", begun.name) == begun
    assert resume.find(tmp_path, "small", str(begun)) == begun


def test_nothing_to_go_on_with_is_said(tmp_path):
    with pytest.raises(ResultsError, match="no run of small"):
        resume.find(tmp_path, "small", "latest")
    with pytest.raises(ResultsError, match="no run folder"):
        resume.find(tmp_path, "small", "nowhere")


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format": 2, "name": "x"}', '{"format": 1}'])
def test_a_record_that_cannot_be_read_is_one_line(tmp_path, text):
    (tmp_path / "run.json").write_text(text)

    with pytest.raises(ResultsError) as caught:
        resume.read(tmp_path)

    assert "\n" not in str(caught.value)
