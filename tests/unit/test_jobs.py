# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest

from pkgctl import jobs
from pkgctl.scheduling.backend import JobState
from pkgctl.scheduling.job import JobClass


def test_a_service_is_a_latency_job_without_work():
    job = jobs.Wish("web", artifact=2 << 20).job(3, frozenset({"edge-1"}))

    assert (job.id, job.job_class, job.work) == ("web-3", JobClass.LATENCY, None)
    assert (job.artifact.name, job.artifact.bytes) == ("web", 2 << 20)
    assert job.nodes == {"edge-1"}


def test_a_batch_job_has_work_and_an_origin():
    job = jobs.Wish("crunch", work=2.0, bytes_in=10, source="edge-1").job(0, None)

    assert (job.job_class, job.work, job.in_bytes, job.origin) == (
        JobClass.BATCH,
        2.0,
        10,
        "edge-1",
    )
    assert job.artifact is None


def test_the_labels_of_a_job_tell_how_to_make_another():
    wish = jobs.Wish("web", replicas=3, cpu=0.2, on={"site": "edge-a"}, scheduler="nearest")

    assert jobs.Wish(**wish.to_labels()["wish"]) == wish


def test_overheads_are_the_differences_of_the_stamps_that_are_there():
    stamps = {"submitted": 1.0, "decided": 1.5, "started": 3.5, "ready": 3.75}
    state = JobState(id="web-0", node="edge-1", status="running", stamps=stamps)

    assert jobs.overheads(state) == {"decided": 0.5, "started": 2.0, "ready": 0.25}


@pytest.mark.parametrize("status", ["finished", "failed", "stopped", "removed"])
def test_a_job_that_has_ended_is_not_ready(status):
    state = JobState(id="x", node="edge-1", status=status)

    assert state.has_ended
    assert not state.is_ready
