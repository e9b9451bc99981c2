# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import pytest

from pkgctl.errors import NodeLostError
from pkgctl.experiment.placing import Placer
from pkgctl.scheduling.backend import JobState
from pkgctl.scheduling.decision import Preempt, Reject
from pkgctl.scheduling.job import Job
from pkgctl.scheduling.registry import scheduler
from pkgctl.scheduling.resources import Resources
from pkgctl.scheduling.view import ClusterView, NodeView, PlacedJob


class Nodes:
    """Two nodes with room for one job of half a core each, as a backend would offer them."""

    def __init__(self) -> None:
        self.running: dict[str, tuple[str, Job]] = {}
        self.starts: list[tuple[str, str, float, float]] = []
        self.stopped: list[str] = []
        self.lost: set[str] = set()

    def view(self) -> ClusterView:
        return ClusterView(nodes=tuple(self._node(name) for name in ("a", "b")))

    def _node(self, name: str) -> NodeView:
        room = Resources(0.5, 1 << 30)
        jobs = tuple(
            PlacedJob(id=job.id, job_class=job.job_class, resources=job.resources)
            for node, job in self.running.values()
            if node == name
        )
        return NodeView(name=name, capacity=room, allocatable=room, jobs=jobs)

    def start(
        self,
        job: Job,
        node: str,
        *,
        submitted: float,
        decided: float,
        labels: Mapping[str, Any] | None = None,
    ) -> None:
        if node in self.lost:
            raise NodeLostError(f"node {node} is crashed: nothing starts there")
        self.running[job.id] = (node, job)
        self.starts.append((job.id, node, submitted, decided))

    def displace(self, job: str) -> None:
        self.stopped.append(job)
        del self.running[job]


def job(name: str, cpu: float = 0.5) -> Job:
    return Job(id=name, resources=Resources(cpu, 1 << 20), work=1.0)


def state(name: str, status: str) -> JobState:
    return JobState(id=name, node="a", status=status)


@pytest.fixture
def nodes() -> Nodes:
    return Nodes()


@pytest.fixture
def placer(nodes: Nodes) -> Placer:
    ticks = iter(range(100))
    name = "least-allocated"
    return Placer(nodes, {name: scheduler(name)}, random.Random(1), lambda: float(next(ticks)))


def submit(placer: Placer, *names: str) -> None:
    for name in names:
        placer.submit(job(name), "least-allocated", service="s", phase="deploy")


def test_jobs_are_started_where_the_scheduler_decides(placer, nodes):
    submit(placer, "x", "y")

    placer.dispatch()

    assert sorted(node for _, node, _, _ in nodes.starts) == ["a", "b"]
    assert all(entry.status == "starting" for entry in placer.entries.values())


def test_a_start_carries_when_the_job_was_submitted_and_decided(placer, nodes):
    submit(placer, "x", "y")

    placer.dispatch()

    assert [(start[0], *start[2:]) for start in nodes.starts] == [("x", 0.0, 2.0), ("y", 1.0, 2.0)]


def test_a_job_without_room_waits_with_the_reason_and_is_offered_again(placer, nodes):
    submit(placer, "x", "y", "z")
    placer.dispatch()

    waiting = placer.entries["z"]
    assert (waiting.status, waiting.reason) == ("waiting", "0/2 nodes: 2 lack cpu")
    assert placer.has_waiting

    del nodes.running["x"]
    placer.dispatch()

    assert placer.entries["z"].node == nodes.starts[-1][1]
    assert not placer.has_waiting


def test_a_waiting_job_can_be_withdrawn(placer, nodes):
    submit(placer, "x", "y", "z")
    placer.dispatch()

    placer.withdraw("z")

    assert not placer.has_waiting


def test_what_the_backend_tells_is_kept_for_our_jobs_only(placer):
    submit(placer, "x")
    placer.dispatch()

    assert placer.note(state("x", "running"))
    assert not placer.note(state("other", "running"))
    assert placer.entries["x"].status == "running"
    assert placer.entries["x"].is_settled


def test_a_rejected_job_is_settled_with_the_reason(nodes):
    class Never:
        def place(self, queue, view, rng):
            return [Reject(job.id, "not today") for job in queue]

    placer = Placer(nodes, {"never": Never()}, random.Random(1))
    placer.submit(job("x"), "never", service="s", phase="deploy")

    placer.dispatch()

    entry = placer.entries["x"]
    assert (entry.status, entry.reason, entry.is_settled) == ("rejected", "not today", True)


def test_a_displaced_job_is_stopped_and_queued_again(placer, nodes):
    submit(placer, "x")
    placer.dispatch()

    class Ruthless:
        def place(self, queue, view, rng):
            return [Preempt(queue[0].id, "a", ("x",))]

    placer._schedulers = {"least-allocated": Ruthless()}
    submit(placer, "vip")
    placer.dispatch()

    assert nodes.stopped == ["x"]
    assert placer.entries["x-again"].status == "waiting"
    assert placer.entries["x-again"].submitted == placer.entries["x"].submitted


def test_who_is_still_ending_is_not_displaced_again(nodes, monkeypatch):
    class Pushy:
        def place(self, queue, view, rng):
            return [Preempt(job.id, "a", ("x", "somebody-elses")) for job in queue]

    placer = Placer(
        nodes, {"kind": scheduler("least-allocated"), "pushy": Pushy()}, random.Random(1)
    )
    placer.submit(job("x"), "kind", service="s", phase="deploy")
    placer.dispatch()
    monkeypatch.setattr(nodes, "displace", nodes.stopped.append)
    placer.submit(job("vip"), "pushy", service="s", phase="deploy")

    placer.dispatch()
    placer.dispatch()

    assert nodes.stopped == ["x"]
    assert sorted(placer.entries) == ["vip", "x", "x-again"]


def test_a_job_whose_node_was_lost_since_the_view_waits_for_the_next_offer(placer, nodes):
    nodes.lost = {"a", "b"}
    submit(placer, "one")

    placer.dispatch()

    assert placer.entries["one"].status == "waiting"
    assert placer.entries["one"].node is None
    assert "is crashed" in placer.entries["one"].reason
    nodes.lost = set()
    placer.dispatch()
    assert placer.entries["one"].node in ("a", "b")
    assert not placer.has_waiting
