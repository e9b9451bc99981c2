# SPDX-License-Identifier: GPL-3.0-or-later
"""One run of a cell: prepare the nodes, deploy, load and disturb on time, collect, tidy up.

Between the begin of the load and its end this process sleeps in the kernel, and wakes only for
what the plan or the agent brings.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from pkgctl.errors import ClusterError, PkgctlError, TestbedError
from pkgctl.experiment import demand, plan, strain, tables
from pkgctl.experiment.clients import Clients
from pkgctl.experiment.placing import Entry, Placer
from pkgctl.experiment.plan import Run
from pkgctl.local.backend import LocalBackend
from pkgctl.local.streams import Samples
from pkgctl.scheduling import registry
from pkgctl.scheduling.backend import (
    Event,
    JobState,
    LayerEvent,
    NodeEvent,
    NoticeEvent,
    StatusEvent,
)
from pkgctl.scheduling.provisioning import Evict, Prefetch
from pkgctl.spec import Experiment

DEPLOY_SECONDS = 60.0

Step = tuple[float, Callable[[], None]]
Tables = dict[str, list[dict[str, Any]]]


@dataclass
class Outcome:
    """What one run gave: its tables, its facts for run.json, its events, and what to warn of."""

    tables: Tables = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
    events: list[dict[str, Any]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


class Trial:
    """One run of a cell on a testbed."""

    def __init__(
        self,
        run: Run,
        experiment: Experiment,
        backend: LocalBackend,
        samples: Samples,
        timeline: str | None,
    ) -> None:
        self.outcome = Outcome()
        self._run = run
        self._head = experiment.head
        self._body = run.cell.body
        self._backend = backend
        self._samples = samples
        self._timeline = timeline
        self._demand = demand.build(run, experiment)
        schedulers = {name: registry.decider(name) for name in self._demand.schedulers}
        self._placer = Placer(backend, schedulers, plan.stream(run.seed, "placing"))
        self._clients = Clients(backend, self._demand.requests)
        self._leaving: set[str] = set()
        # Some of it comes before it is known when the load begins.
        self._noted: list[tuple[float, float | None, dict[str, str]]] = []
        self._t0 = 0.0
        self._wall = time.time() - time.monotonic()

    def perform(self) -> Outcome:
        """Make the run, and leave the nodes without anything of it.

        Raises:
            PkgctlError: if it cannot be made.
        """
        try:
            self._prepare()
            self._deploy()
            self._begin()
            self._follow(self._agenda())
            self._await_end()
            self._collect()
        finally:
            self._tidy()
        return self.outcome

    # Before the load.

    def _prepare(self) -> None:
        self._backend.drop_artifacts(keep=self._demand.kept)
        self._backend.prepare(self._demand.jobs)
        self._clients.start(self._demand.timeout, self._run.seed)
        fetching = []
        for name, wanted in self._demand.expected.items():
            for action in registry.provisioner(name).plan(self._backend.view(), wanted):
                if isinstance(action, Prefetch):
                    fetching.append(self._backend.prefetch(action.node, action.artifact))
                elif isinstance(action, Evict):
                    self._backend.evict(action.node, action.artifact)
                else:
                    self._warn(f"{name}: {type(action).__name__} is not carried out")
        self._wait(lambda: all(self._backend.jobs[job].has_ended for job in fetching), "prefetch")
        self._backend.remove(fetching)

    def _deploy(self) -> None:
        for name in self._demand.services:
            self._grow(name, self._demand.services[name].count, "deploy")
        self._placer.dispatch()
        self._wait(self._is_deployed, "deployment")
        for entry in self._placer.entries.values():
            if not (entry.state and entry.state.is_ready):
                self._warn(f"{entry.job.id}: {_complaint(entry)}")
        for name, service in self._demand.services.items():
            if service.count and not self._ready(name):
                raise PkgctlError(f"no replica of {name} became ready: {self._why_not(name)}")
            self._tell_endpoints(name)

    def _why_not(self, name: str) -> str:
        return _complaint(next(iter(self._placer.of(name))))

    def _is_deployed(self) -> bool:
        settled = all(entry.is_settled for entry in self._placer.entries.values())
        return settled and self._clients.are_ready()

    def _begin(self) -> None:
        begin = time.monotonic() + self._backend.reach.lead
        self._t0 = begin + self._head.warm_up
        self._wall = time.time() - time.monotonic()
        wall = self._t0 + self._wall
        facts = {"t0_wall": wall, "t0_mono": self._t0, "duration": self._body.duration}
        self.outcome.facts = facts
        self._clients.begin(begin)
        if self._timeline is not None:
            self._backend.begin_timeline(self._timeline, self._t0)

    # While the load runs.

    def _agenda(self) -> list[Step]:
        """Return what is to be done and when, in seconds after t0."""
        steps: list[Step] = []
        for name in self._demand.services:
            for step in self._body.services[name].scale:
                steps.append((step.at, self._scaling(name, step.replicas)))
        for submission in self._demand.submissions:
            steps.append((submission.moment, self._arrival(submission)))
        steps.append((self._body.duration, lambda: None))
        return sorted(steps, key=lambda step: step[0])

    def _follow(self, agenda: Sequence[Step]) -> None:
        for moment, action in agenda:
            self._listen(self._t0 + moment)
            action()

    def _scaling(self, name: str, replicas: int) -> Callable[[], None]:
        def scale() -> None:
            before = len(self._serving(name))
            self._event("scale", name, name, f"{before} → {replicas}")
            if replicas > before:
                self._grow(name, replicas - before, "scale")
                self._placer.dispatch()
            else:
                self._shrink(name, before - replicas)

        return scale

    def _arrival(self, one: demand.Submission) -> Callable[[], None]:
        def arrive() -> None:
            self._placer.submit(one.job, one.scheduler, service=one.queue, phase="scale")
            self._placer.dispatch()

        return arrive

    def _grow(self, name: str, count: int, phase: str) -> None:
        service = self._demand.services[name]
        for _ in range(count):
            job = service.replica(sum(1 for _ in self._placer.of(name)))
            self._placer.submit(job, service.scheduler, service=name, phase=phase)

    def _shrink(self, name: str, count: int) -> None:
        leaving = self._serving(name)[-count:] if count else []
        self._leaving |= {entry.job.id for entry in leaving}
        self._tell_endpoints(name)
        for entry in leaving:
            self._placer.withdraw(entry.job.id)
            if entry.node is not None:
                self._backend.stop(entry.job.id, grace=2.0)

    def _serving(self, name: str) -> list[Entry]:
        """Return the replicas of a service that serve, or will, in the order of their numbers."""
        return [
            entry
            for entry in self._placer.of(name)
            if not _has_ended(entry) and entry.job.id not in self._leaving
        ]

    def _listen(self, until: float) -> None:
        while (event := self._backend.event(until)) is not None:
            self._hear(event)

    def _hear(self, event: Event) -> None:
        if isinstance(event, LayerEvent):
            self._hear_layer(event)
        elif isinstance(event, NodeEvent):
            self._hear_node(event)
        elif isinstance(event, NoticeEvent):
            self._hear_notice(event)
        elif isinstance(event, StatusEvent):
            self._hear_status(event)
        elif self._placer.note(event):
            self._hear_job(event)

    def _hear_job(self, state: JobState) -> None:
        service = self._placer.entries[state.id].service
        if service in self._demand.services and self._t0 and _was_ready(state):
            self._tell_endpoints(service)
        if state.lost and service in self._demand.services and state.id not in self._leaving:
            self._event("replace", service, state.node, state.id)
            self._grow(service, 1, "replace")
        if state.has_ended and self._placer.has_waiting:
            self._placer.dispatch()

    def _hear_node(self, event: NodeEvent) -> None:
        kind = "node-back" if event.is_ready else "node-lost"
        self._event(kind, event.node, event.node, event.health, event.actual)
        if event.is_ready and self._placer.has_waiting:
            self._placer.dispatch()

    def _hear_notice(self, event: NoticeEvent) -> None:
        kind = "kubernetes-ready" if event.is_ready else "kubernetes-notready"
        self._event(kind, event.node, event.node, event.reason, event.actual)
        if event.is_ready and self._placer.has_waiting:
            self._placer.dispatch()

    def _hear_status(self, event: StatusEvent) -> None:
        self._event(f"kubernetes-{event.what}", event.node, event.node, event.detail, event.actual)
        if event.is_relief and self._placer.has_waiting:
            self._placer.dispatch()

    def _hear_layer(self, event: LayerEvent) -> None:
        kind = f"layer-{event.action}"
        self._event(kind, event.name, event.node, event.error or "", event.actual, event.planned)
        if event.error:
            self._warn(f"{event.name} on {event.node}: {event.error}")

    def _tell_endpoints(self, name: str) -> None:
        ready = [self._backend.endpoint(entry.job.id) for entry in self._ready(name)]
        self._clients.list_endpoints(name, self._body.services[name].route, ready)

    def _ready(self, name: str) -> list[Entry]:
        return [each for each in self._serving(name) if each.state and each.state.is_ready]

    # After the load.

    def _await_end(self) -> None:
        answered = self._t0 + self._body.duration + self._demand.timeout + 1.0
        self._backend.wait(self._clients.have_ended, answered, self._hear)
        drained = self._t0 + self._body.duration + self._head.drain
        self._backend.wait(self._is_drained, drained, self._hear)
        self._listen(time.monotonic() + self._head.cool_down)

    def _is_drained(self) -> bool:
        batch = (entry for entry in self._placer.entries.values() if entry.job.work is not None)
        return all(_has_ended(entry) or entry.verdict == "rejected" for entry in batch)

    def _collect(self) -> None:
        end = time.monotonic()
        if not self._clients.have_ended():
            self._clients.stop()
            self._backend.wait(self._clients.have_ended, end + 2.0, self._hear)
        rows = tables.requests(self._run, self._clients.results(), self._head.warm_up)
        taken = self._samples.take(self._t0 - 2 * self._backend.reach.sampling, end)
        loaded = [each for each in taken if each["mono"] <= self._t0 + self._body.duration]
        self.outcome.facts["strain"] = strain.strain(rows, loaded)
        self.outcome.events = [
            {**tables.moments(at, planned, self._t0, self._wall), **words}
            for at, planned, words in self._noted
        ]
        self.outcome.tables = {
            "requests": rows,
            "jobs": tables.jobs(self._run, self._placer.entries.values(), self._t0, rows),
            "samples": tables.samples(self._run, taken, self._t0),
        }

    def _tidy(self) -> None:
        ours = [*self._placer.entries, *self._clients.jobs]
        with contextlib.suppress(TestbedError, ClusterError):
            self._backend.remove([job for job in ours if job in self._backend.jobs])
        self._clients.clean()

    # Small things.

    def _wait(self, is_done: Callable[[], bool], what: str) -> None:
        patience = DEPLOY_SECONDS * self._backend.reach.patience
        if not self._backend.wait(is_done, time.monotonic() + patience, self._hear):
            raise PkgctlError(f"the {what} did not end within {patience:g} s")

    def _event(
        self,
        kind: str,
        name: str,
        target: str,
        detail: str,
        at: float | None = None,
        planned: float | None = None,
    ) -> None:
        moment = time.monotonic() if at is None else at
        words = {"kind": kind, "name": name, "target": target, "detail": detail}
        self._noted.append((moment, planned, words))

    def _warn(self, text: str) -> None:
        self.outcome.warnings.append(f"{self._run.cell.id}, repeat {self._run.repeat}: {text}")


def _has_ended(entry: Entry) -> bool:
    return entry.state is not None and entry.state.has_ended


def _was_ready(state: JobState) -> bool:
    """Whether a replica serves, or did: one may stop to for a while."""
    return state.is_ready or state.has_ended or "ready" in state.stamps


def _complaint(entry: Entry) -> str:
    if entry.state and entry.state.error:
        return entry.state.error
    return f"{entry.status}: {entry.reason}" if entry.reason else entry.status
