# SPDX-License-Identifier: GPL-3.0-or-later
"""Small clusters and jobs for the tests of the schedulers."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence

from pkgctl.nodeside import Quality
from pkgctl.scheduling.decision import Decision, Place, Scheduler
from pkgctl.scheduling.job import Artifact, Job, JobClass
from pkgctl.scheduling.resources import Resources
from pkgctl.scheduling.view import ClusterView, NodeView, PlacedJob

MEBIBYTE = 2**20


def amounts(cpu: float, memory_mebibytes: int, disk: int = 0) -> Resources:
    return Resources(cpu, memory_mebibytes * MEBIBYTE, disk)


def node(
    name: str,
    cpu: float = 4.0,
    memory: int = 4096,
    *,
    holds: Sequence[Resources] = (),
    ready: bool = True,
    artifacts: Iterable[str] = (),
) -> NodeView:
    there = amounts(cpu, memory, disk=100)
    jobs = tuple(
        PlacedJob(id=f"{name}-{number}", job_class=JobClass.BATCH, resources=held)
        for number, held in enumerate(holds)
    )
    return NodeView(
        name=name,
        capacity=there,
        allocatable=there,
        ready=ready,
        artifacts=frozenset(artifacts),
        jobs=jobs,
    )


def cluster(
    *nodes: NodeView, delays: Mapping[str, Mapping[str, float]] | None = None
) -> ClusterView:
    links = {
        source: {there: Quality(delay=delay) for there, delay in row.items()}
        for source, row in (delays or {}).items()
    }
    return ClusterView(nodes=nodes, links=links)


def job(
    number: int = 0,
    cpu: float = 1.0,
    memory: int = 64,
    *,
    disk: int = 0,
    nodes: Iterable[str] | None = None,
    origin: str | None = "client",
    clients: Mapping[str, float] | None = None,
    artifact: Artifact | None = None,
) -> Job:
    return Job(
        id=f"job-{number}",
        resources=amounts(cpu, memory, disk),
        nodes=None if nodes is None else frozenset(nodes),
        origin=origin,
        clients=clients or {},
        artifact=artifact,
    )


def jobs(count: int, cpu: float = 1.0, memory: int = 64) -> list[Job]:
    return [job(number, cpu, memory) for number in range(count)]


def decide(
    scheduler: Scheduler, queue: Sequence[Job], view: ClusterView, seed: int = 1
) -> Sequence[Decision]:
    return scheduler.place(queue, view, random.Random(seed))


def places(decisions: Sequence[Decision]) -> list[str | None]:
    """Return each job's node, None for those that got none."""
    return [each.node if isinstance(each, Place) else None for each in decisions]
