# SPDX-License-Identifier: GPL-3.0-or-later
"""Jobs by hand: services and batch jobs placed by a scheduler on a testbed that is up.

What a service is made of is kept in the labels of its replicas, so that it can be scaled later by
somebody who knows no more than its name.
"""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pkgctl.errors import SpecError, TestbedError, nearest
from pkgctl.local.backend import LocalBackend
from pkgctl.nodeside import selection
from pkgctl.scheduling import registry
from pkgctl.scheduling.backend import JobState
from pkgctl.scheduling.decision import Decision, Place, Preempt
from pkgctl.scheduling.job import Artifact, Job, JobClass
from pkgctl.scheduling.resources import Resources

STEPS = ("submitted", "decided", "artifact", "started", "ready", "finished")
STOP_GRACE = 2.0


@dataclass(frozen=True)
class Wish:
    """What somebody wants to run.

    Attributes:
        name: the service's or the job's name.
        work: CPU seconds of a batch job; None is a service.
        replicas: how many of them.
        cpu: cores for each.
        memory: bytes for each.
        artifact: bytes that a node needs before it can start one.
        bytes_in, bytes_out: input and output of a batch job.
        scheduler: who decides where.
        on: where it may run, as keys and values of a choice of nodes; empty is anywhere.
        source: the node where its users are, or from which its input comes.
    """

    name: str
    work: float | None = None
    replicas: int = 1
    cpu: float = 0.1
    memory: int = 48 * 2**20
    artifact: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    scheduler: str = "least-allocated"
    on: Mapping[str, str] | None = None
    source: str | None = None

    def job(self, number: int, nodes: frozenset[str] | None) -> Job:
        """Return one replica, or one job."""
        return Job(
            id=f"{self.name}-{number}",
            job_class=JobClass.LATENCY if self.work is None else JobClass.BATCH,
            resources=Resources(self.cpu, self.memory),
            origin=self.source,
            nodes=nodes,
            artifact=Artifact(self.name, self.artifact) if self.artifact else None,
            work=self.work,
            in_bytes=self.bytes_in,
            out_bytes=self.bytes_out,
        )

    def to_labels(self) -> dict[str, Any]:
        """Return what is noted of it with each of its jobs."""
        kept = {key: value for key, value in vars(self).items() if value is not None}
        return {"service": self.name, "wish": kept}


@dataclass(frozen=True)
class Started:
    """The jobs that were started, and why others could not be: their names and the reasons."""

    jobs: tuple[str, ...]
    refused: Mapping[str, str]


def run(backend: LocalBackend, wish: Wish) -> Started:
    """Start what is wished.

    Raises:
        SpecError: if the name is taken, or the choice of nodes names nothing.
        TestbedError: if the agent refuses.
    """
    if taken := [name for name in _jobs_of(backend, wish.name) if _lives(backend.jobs[name])]:
        raise SpecError(f"{wish.name!r} is there already ({', '.join(taken[:3])}); scale or rm it")
    _remove_ended(backend, wish.name)
    return _place(backend, wish, range(wish.replicas))


def scale(backend: LocalBackend, name: str, replicas: int) -> Started:
    """Bring a service to a number of replicas; those that go are the youngest.

    Raises:
        SpecError: if there is no such service.
    """
    known = [each for each in _jobs_of(backend, name) if _lives(backend.jobs[each])]
    if not known:
        raise SpecError(f"no service {name!r}; {nearest(name, sorted(_services(backend)))}")
    wish = Wish(**backend.jobs[known[0]].labels["wish"])
    if wish.work is not None:
        raise SpecError(f"{name} is a batch job; only services are scaled")
    if replicas < len(known):
        remove(backend, known[replicas:])
        return Started((), {})
    numbers = {_number(each) for each in known}
    free = (number for number in range(10**6) if number not in numbers)
    missing = [next(free) for _ in range(replicas - len(known))]
    _remove_ended(backend, name)
    return _place(backend, wish, missing)


def resize(backend: LocalBackend, name: str, cpu: float | None, memory: int | None) -> JobState:
    """Let a running job go on with other resources.

    Raises:
        SpecError: if there is no such job.
        TestbedError: if it needs more than it would be left.
    """
    find(backend, name)
    backend.resize(name, Resources(cpu or 0.0, memory or 0))
    return backend.jobs[name]


def remove(backend: LocalBackend, names: Iterable[str]) -> list[str]:
    """Stop jobs, or all of a service, and forget them; return their names.

    Raises:
        SpecError: if there is neither a job nor a service of that name.
    """
    chosen = [job for name in names for job in _named(backend, name)]
    for job in chosen:
        if _lives(backend.jobs[job]):
            backend.stop(job, grace=STOP_GRACE)
    until = time.monotonic() + STOP_GRACE + 1.0
    backend.wait(
        lambda: not any(_lives(backend.jobs[job]) for job in chosen), until, lambda _: None
    )
    backend.remove(chosen)
    return chosen


def find(backend: LocalBackend, name: str) -> JobState:
    """Return a job.

    Raises:
        SpecError: if there is none of that name.
    """
    if name not in backend.jobs:
        raise SpecError(f"no job {name!r}; {nearest(name, list(backend.jobs))}")
    return backend.jobs[name]


def wait(backend: LocalBackend, names: Sequence[str], seconds: float) -> None:
    """Return when services are ready and batch jobs have ended.

    Raises:
        TestbedError: if one failed, in its own words, or if the time is over.
    """

    def is_done(job: JobState) -> bool:
        serves = job.labels.get("wish", {}).get("work") is None
        return job.has_ended or (serves and job.is_ready)

    until = time.monotonic() + seconds
    done = backend.wait(
        lambda: all(is_done(backend.jobs[name]) for name in names), until, lambda _: None
    )
    failed = [backend.jobs[name] for name in names if backend.jobs[name].status == "failed"]
    if failed:
        raise TestbedError("; ".join(f"{job.id}: {job.error}" for job in failed))
    if not done:
        late = [name for name in names if not is_done(backend.jobs[name])]
        raise TestbedError(f"after {seconds:g} s not ready: {', '.join(late)}")


def overheads(job: JobState) -> dict[str, float]:
    """Return how many seconds each step of a job's start took; absent steps are left out."""
    known = [(step, job.stamps[step]) for step in STEPS if step in job.stamps]
    pairs = itertools.pairwise(known)
    return {step: moment - before for (_, before), (step, moment) in pairs}


def _place(backend: LocalBackend, wish: Wish, numbers: Iterable[int]) -> Started:
    jobs = [wish.job(number, _allowed(backend, wish)) for number in numbers]
    scheduler = registry.scheduler(wish.scheduler)
    backend.prepare(jobs)
    submitted = time.monotonic()
    decisions = scheduler.place(jobs, backend.view(), random.Random(f"{wish.name}"))
    decided = time.monotonic()
    refused: dict[str, str] = {}
    started: list[str] = []
    for job, decision in zip(jobs, decisions, strict=True):
        if not isinstance(decision, Place):
            refused[job.id] = _reason(decision)
            continue
        labels = wish.to_labels()
        backend.start(job, decision.node, submitted=submitted, decided=decided, labels=labels)
        started.append(job.id)
    return Started(tuple(started), refused)


def _reason(decision: Decision) -> str:
    if isinstance(decision, Place | Preempt):
        return "it would displace other jobs, which is not done by hand"
    return decision.reason


def _allowed(backend: LocalBackend, wish: Wish) -> frozenset[str] | None:
    if not wish.on:
        return None
    try:
        return selection.read("on", dict(wish.on)).choose(_targets(backend))
    except ValueError as error:
        raise SpecError(str(error)) from error


def _targets(backend: LocalBackend) -> list[selection.Node]:
    return [
        selection.Node(name, node["site"], node["role"] or "", node["kind"] or "", node["labels"])
        for name, node in backend.state["nodes"].items()
    ]


def _named(backend: LocalBackend, name: str) -> list[str]:
    if name in backend.jobs:
        return [name]
    if found := _jobs_of(backend, name):
        return found
    known = [*backend.jobs, *sorted(_services(backend))]
    raise SpecError(f"no job or service {name!r}; {nearest(name, known)}")


def _jobs_of(backend: LocalBackend, service: str) -> list[str]:
    """Return the jobs of a service in the order of their numbers."""
    found = [name for name, job in backend.jobs.items() if _service(job) == service]
    return sorted(found, key=_number)


def _services(backend: LocalBackend) -> Iterator[str]:
    return (name for job in backend.jobs.values() if (name := _service(job)))


def _service(job: JobState) -> str:
    return str(job.labels["service"]) if "wish" in job.labels else ""


def _number(name: str) -> int:
    return int(name.rpartition("-")[2])


def _lives(job: JobState) -> bool:
    return not job.has_ended


def _remove_ended(backend: LocalBackend, service: str) -> None:
    backend.remove([name for name in _jobs_of(backend, service) if not _lives(backend.jobs[name])])
