# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest

from pkgctl.experiment import plan, tables
from pkgctl.experiment.placing import Entry
from pkgctl.measure.results import JOBS, REQUESTS, SAMPLES
from pkgctl.scheduling.backend import JobState
from pkgctl.scheduling.job import Artifact, Job
from pkgctl.scheduling.resources import Resources


@pytest.fixture
def run(small):
    return plan.runs(small())[0]


def result(intended: float, **fields: object) -> dict[str, object]:
    return {
        "service": "web",
        "replica": "web-0",
        "node": "edge-1",
        "intended": intended,
        "sent": intended,
        "first_byte": intended + 0.02,
        "done": intended + 0.03,
        "status": "ok",
        "bytes_in": 10,
        "bytes_out": 20,
        "error": None,
    } | fields


def test_times_of_requests_count_from_the_end_of_the_warm_up(run):
    rows = tables.requests(run, [("edge-4", result(1.5)), ("edge-5", result(0.9))], 1.0)

    assert [(row["intended"], row["done"], row["client"]) for row in rows] == [
        (0.5, 0.53, "edge-4")
    ]
    assert set(rows[0]) == set(REQUESTS)


def test_a_request_that_got_no_answer_keeps_its_gaps(run):
    lost = result(2.0, first_byte=None, done=None, status="timeout", bytes_out=0)

    (row,) = tables.requests(run, [("edge-4", lost)], 0.0)

    assert (row["first_byte"], row["done"], row["status"]) == (None, None, "timeout")


def test_a_job_has_its_stamps_in_seconds_after_t0_and_its_first_byte(run):
    job = Job(id="web-0", resources=Resources(0.1, 64), artifact=Artifact("web", 9))
    stamps = {"submitted": 9.0, "decided": 9.1, "started": 9.5, "ready": 9.9}
    state = JobState(id="web-0", node="edge-1", status="running", cached=True, stamps=stamps)
    entry = Entry(job, "web", "deploy", 9.0, "edge-1", state, verdict="")
    answered = tables.requests(run, [("c", result(0.7)), ("c", result(0.2))], 0.0)

    (row,) = tables.jobs(run, [entry], 10.0, answered)

    assert (row["submitted"], row["ready"]) == (-1.0, pytest.approx(-0.1))
    assert "finished" not in row and "artifact" not in row
    assert row["first_byte"] == pytest.approx(0.22)
    assert (row["artifact_bytes"], row["cached"], row["status"]) == (9, True, "running")
    assert set(row) <= set(JOBS)


def test_a_job_that_never_got_a_place_is_a_row_too(run):
    entry = Entry(Job(id="web-1"), "web", "deploy", 9.0, reason="0/7 nodes: 7 lack cpu")

    (row,) = tables.jobs(run, [entry], 10.0, [])

    assert (row["node"], row["status"], row["submitted"]) == (None, "waiting", -1.0)


def test_samples_become_a_row_for_each_node_and_job(run):
    usage = dict.fromkeys(tables.USAGE, 1)
    taken = [{"mono": 10.5, "rows": [{"node": "a", "job": None, **usage}]}] * 2

    rows = tables.samples(run, taken, 10.0)

    assert [row["t"] for row in rows] == [0.5, 0.5]
    assert set(rows[0]) == set(SAMPLES)
