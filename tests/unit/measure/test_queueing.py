# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import math

import pytest

from pkgctl.measure import queueing
from tests.unit.measure.rows import jobs, run, values


def job(submitted, started, finished, **more):
    usual = {"class": "batch", "service": "sort", "status": "finished"}
    return usual | {"submitted": submitted, "started": started, "finished": finished} | more


def of(*rows, subject="batch"):
    return values(queueing.observe(jobs(*rows), [run()]), subject)


def deterministic(count, arrival=1.0, service=2.0):
    """Return the jobs of one server that takes longer than the arrivals are apart (D/D/1)."""
    return [job(at * arrival, at * service, (at + 1) * service) for at in range(count)]


def test_a_deterministic_queue_gives_its_closed_form():
    # Arrivals 1 s apart, 2 s of service: the n-th job waits n seconds.
    found = of(*deterministic(40))

    assert found["wait_mean", "all"] == pytest.approx(39 / 2)
    assert found["wait_p50", "all"] == pytest.approx(19.0)
    assert found["wait_p95", "all"] == pytest.approx(37.0)
    assert found["wait_max", "all"] == pytest.approx(39.0)
    assert found["completion_mean", "all"] == pytest.approx(39 / 2 + 2)
    assert found["makespan", "all"] == pytest.approx(80.0)
    assert found["job_throughput", "all"] == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("completion", "running", "bound", "expected"),
    [(20.0, 5.0, 10.0, 2.0), (20.0, 5.0, 1.0, 4.0), (3.0, 2.0, 10.0, 1.0), (30.0, 15.0, 10.0, 2.0)],
)
def test_slowdown_is_bounded_from_below_and_by_its_bound(completion, running, bound, expected):
    assert queueing.bounded_slowdown(completion, running, bound) == pytest.approx(expected)


def test_slowdown_is_a_mean_over_jobs():
    found = of(job(0.0, 15.0, 20.0), job(0.0, 0.0, 2.0))

    assert found["bounded_slowdown_10s", "all"] == pytest.approx((2.0 + 1.0) / 2)
    assert found["bounded_slowdown_1s", "all"] == pytest.approx((4.0 + 1.0) / 2)


@pytest.mark.parametrize("end", [{"status": "failed"}, {"status": "running", "finished": None}])
def test_jobs_that_do_not_end_well_are_counted_and_make_the_makespan_infinite(end):
    found = of(job(0.0, 1.0, 2.0), job(0.0, 1.0, 2.0) | end)

    assert found["jobs_finished", "all"] == 1
    assert found["jobs_unfinished", "all"] == 1
    assert found["makespan", "all"] == math.inf
    assert found["completion_mean", "all"] == pytest.approx(2.0)


def test_a_job_that_never_started_waits_for_ever():
    found = of(job(0.0, 1.0, 2.0), job(0.0, None, None, status="pulling"))

    assert found["wait_max", "all"] == math.inf
    assert found["wait_mean", "all"] == pytest.approx(1.0)


def test_waits_are_told_by_class_and_completions_of_batch_jobs_only():
    rows = [job(0.0, 1.0, 2.0), job(0.0, 3.0, None, **{"class": "latency", "status": "running"})]

    assert of(*rows, subject="latency")["wait_mean", "all"] == pytest.approx(3.0)
    assert ("completion_mean", "all") not in of(*rows, subject="latency")
    assert of(job(0.0, 1.0, 2.0, **{"class": "client"}), subject="client") == {}
