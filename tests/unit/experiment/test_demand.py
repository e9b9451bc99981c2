# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest

from pkgctl.experiment import demand, plan
from pkgctl.scheduling.job import JobClass

from .conftest import SMALL

JOBS = """\
name: queue
question: Does it work?
topology: three-sites
jobs:
  crunch:
    from: {site: edge-a}
    arrivals: {at: [0s, 1s, 500ms]}
    duration: 5s
    work: 300ms
    in: 64Ki
    artifact: 1Mi
    deadline: 2s
    resources: {cpu: 200m, memory: 32Mi}
    place: {on: {site: cloud}, provision: prefetched}
"""
OPENB = """\
name,cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_spec,qos,pod_phase,creation_time,deletion_time,scheduled_time
a,12000,16384,1,1000,,LS,Running,100,160,101
b,1000,16384,1,460,,BE,Running,110,10000,110
c,1000,16384,1,460,,BE,Pending,120,130,
"""
REQUESTS = "time,cpu,in,out\n0,0.001,10,20\n10,,,\n400,0.1,1,1\n"


def first(experiment):
    run = plan.runs(experiment)[0]
    return run, demand.build(run, experiment)


def times(plans):
    return sorted(line[0] for lines in plans.values() for line in lines)


def test_the_cells_of_a_repeat_see_the_same_arrivals(small):
    experiment = small()
    made = [(run.repeat, demand.build(run, experiment).requests) for run in plan.runs(experiment)]

    of_first = [requests for repeat, requests in made if repeat == 0]
    of_second = [requests for repeat, requests in made if repeat == 1]
    assert all(each == of_first[0] for each in of_first)
    assert all(each == of_second[0] for each in of_second)
    assert of_first[0] != of_second[0]


def test_requests_come_from_the_chosen_nodes_at_the_rate_asked(small):
    _, found = first(small("load.0.duration=100s"))

    assert set(found.requests) == {"edge-4", "edge-5"}
    assert len(times(found.requests)) == pytest.approx(5000, rel=0.05)
    assert max(times(found.requests)) < 100
    assert all(line[1:] == ("web", 0.002, 1024, 8192) for line in found.requests["edge-4"])


def test_a_warm_up_sends_as_much_before_the_measuring(small):
    text = SMALL + "warm-up: 2s\n"

    _, found = first(small(text=text))

    assert min(times(found.requests)) < 0.5
    assert max(times(found.requests)) > 5.5


def test_a_load_that_starts_later_has_no_warm_up_of_its_own(small):
    _, found = first(small("load.0.start=3s", text=SMALL + "warm-up: 2s\n"))

    assert min(times(found.requests)) >= 5 and max(times(found.requests)) < 9


def test_replicas_carry_what_their_service_asks_for(small):
    _, found = first(small())

    replica = found.services["web"].replica(3)
    assert replica.id == "web-3"
    assert replica.job_class is JobClass.LATENCY
    assert replica.work is None
    assert replica.nodes == {"edge-1", "edge-2", "edge-3"}
    assert replica.resources.memory == 40 << 20
    assert replica.artifact.bytes == 1 << 20
    assert set(replica.clients) == {"edge-4", "edge-5"}
    assert sum(replica.clients.values()) == pytest.approx(len(times(found.requests)))


def test_jobs_arrive_when_and_as_they_are_described(small):
    _, found = first(small(text=JOBS))

    assert [each.moment for each in found.submissions] == [0.0, 0.5, 1.0]
    job = found.submissions[1].job
    assert (job.id, job.work, job.in_bytes) == ("crunch-1", 0.3, 64 << 10)
    assert job.origin in {"edge-1", "edge-2", "edge-3"}
    assert job.nodes == {"cloud-1", "cloud-2"}
    assert job.deadline == 2.5
    assert found.expected["prefetched"][0].artifact.name == "crunch"
    assert found.kept == {"crunch"}


def test_jobs_of_a_trace_are_sped_up_and_shrunk(small, tmp_path):
    (tmp_path / "pods.csv").write_text(OPENB)
    arrivals = f"{{trace: {tmp_path}/pods.csv, speed: 10x}}"
    shrink = "\n    shrink: {cpu: 0.02, memory: 0.001, longest: 4s}"

    _, found = first(small(text=JOBS.replace("{at: [0s, 1s, 500ms]}", arrivals + shrink)))

    long, cut, pending = (each.job for each in found.submissions)
    assert [each.moment for each in found.submissions] == [0.0, 1.0, 2.0]
    assert long.resources.cpu == pytest.approx(0.24)
    assert long.resources.memory == 20 << 20  # 16 MiB after shrinking, and 20 MiB are the least
    assert long.work == pytest.approx(0.24 * 4.0)  # 5.9 s after speeding up, and 4 s the longest
    assert (long.job_class, cut.job_class) == (JobClass.LATENCY, JobClass.BATCH)
    assert cut.work == pytest.approx(0.02 * 4.0)
    assert pending.work == 0.3  # the trace tells no run time: the queue's usual work


def test_a_trace_of_jobs_makes_no_requests_and_leaves_the_service_out(small, tmp_path):
    (tmp_path / "pods.csv").write_text(OPENB)

    _, found = first(small(f"load.0.arrivals={{trace: {tmp_path}/pods.csv}}"))

    assert found.requests == {}
    assert found.services == {}


def test_a_trace_of_requests_makes_no_jobs(small, tmp_path):
    (tmp_path / "r.csv").write_text(REQUESTS)

    _, found = first(small(f"jobs.crunch.arrivals={{trace: {tmp_path}/r.csv}}", text=JOBS))

    assert found.submissions == []


def test_requests_of_a_trace_keep_what_it_tells_of_them(small, tmp_path):
    (tmp_path / "r.csv").write_text(REQUESTS)

    _, found = first(small(f"load.0.arrivals={{trace: {tmp_path}/r.csv, speed: 10x}}"))

    lines = sorted(line for lines in found.requests.values() for line in lines)
    assert lines == [(0.0, "web", 0.001, 10, 20), (1.0, "web", 0.002, 1024, 8192)]


def test_a_service_that_nobody_loads_is_deployed_all_the_same(small):
    text = SMALL.replace("load:", "  idle: {replicas: 1}\nload:", 1)

    _, found = first(small(text=text))

    assert set(found.services) == {"web", "idle"}
