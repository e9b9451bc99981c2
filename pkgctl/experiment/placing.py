# SPDX-License-Identifier: GPL-3.0-or-later
"""The jobs of one run: those that wait for a decision, and what became of all of them."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

from pkgctl.errors import NodeLostError
from pkgctl.scheduling.backend import JobState
from pkgctl.scheduling.decision import Decision, Place, Preempt, Reject, Scheduler
from pkgctl.scheduling.job import Job
from pkgctl.scheduling.view import ClusterView


class Host(Protocol):
    """What runs the jobs, as far as placing is concerned."""

    def view(self) -> ClusterView:
        """Return the cluster as it is now."""

    def start(
        self,
        job: Job,
        node: str,
        *,
        submitted: float,
        decided: float,
        labels: Mapping[str, Any] | None = None,
    ) -> None:
        """Start a job on a node."""

    def displace(self, job: str) -> None:
        """End a job for the sake of another."""


@dataclass(frozen=True)
class Entry:
    """One job of a run, and what is known of it.

    Attributes:
        job: the job.
        service: the service or queue to which it belongs.
        phase: "deploy" before the load begins, "scale" after, "replace" for a replica that takes
            the place of one whose node was lost.
        submitted: when it was submitted (CLOCK_MONOTONIC).
        node: where it was placed; empty as long as another is to decide that.
        state: what the backend told last.
        verdict: why it has no place: "waiting" or "rejected"; empty once it has one.
        reason: the scheduler's words for that.
    """

    job: Job
    service: str
    phase: str
    submitted: float
    node: str | None = None
    state: JobState | None = None
    verdict: str = "waiting"
    reason: str = ""

    @property
    def status(self) -> str:
        """Where in its life the job is."""
        return self.verdict or (self.state.status if self.state else "starting")

    @property
    def is_settled(self) -> bool:
        """Whether nothing more is to be expected before something else changes."""
        return bool(self.verdict) or bool(
            self.state and (self.state.is_ready or self.state.has_ended)
        )


class Placer:
    """Offers waiting jobs to their schedulers, and starts them where these decide.

    Each scheduler has a queue of its own and sees only that; jobs stay in the order in which they
    were submitted.
    """

    def __init__(
        self,
        host: Host,
        schedulers: Mapping[str, Scheduler],
        rng: random.Random,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.entries: dict[str, Entry] = {}
        self._host = host
        self._schedulers = schedulers
        self._queues: dict[str, list[str]] = {name: [] for name in schedulers}
        self._rng = rng
        self._now = now
        self._labels: dict[str, Any] = {}

    def submit(self, job: Job, scheduler: str, *, service: str, phase: str) -> None:
        """Put a job into the queue of a scheduler."""
        self.entries[job.id] = Entry(job, service, phase, self._now())
        self._queues[scheduler].append(job.id)

    def dispatch(self) -> None:
        """Offer every waiting job once, and carry out what is decided."""
        for name, queue in self._queues.items():
            if queue:
                jobs = [self.entries[each].job for each in queue]
                decisions = self._schedulers[name].place(jobs, self._host.view(), self._rng)
                decided = self._now()
                for decision in decisions:
                    self._carry_out(decision, queue, decided)

    def note(self, state: JobState) -> bool:
        """Take up what the backend tells of a job; return whether it is one of ours."""
        entry = self.entries.get(state.id)
        if entry is None:
            return False
        # Where it is decided elsewhere, the state is the first to tell the node.
        self.entries[state.id] = replace(entry, state=state, node=state.node or entry.node)
        return True

    def withdraw(self, job: str) -> None:
        """Take a job out of its queue, if it waits there."""
        for queue in self._queues.values():
            if job in queue:
                queue.remove(job)

    def of(self, service: str) -> Iterator[Entry]:
        """Yield the jobs of a service, in the order in which they were submitted."""
        return (entry for entry in self.entries.values() if entry.service == service)

    @property
    def has_waiting(self) -> bool:
        """Whether any job waits for a place."""
        return any(self._queues.values())

    def _carry_out(self, decision: Decision, queue: list[str], decided: float) -> None:
        entry = self.entries[decision.job]
        if isinstance(decision, Place):
            self._start(entry, queue, decision.node, decided)
        elif isinstance(decision, Reject):
            queue.remove(decision.job)
            self.entries[decision.job] = replace(entry, verdict="rejected", reason=decision.reason)
        elif isinstance(decision, Preempt):
            for victim in decision.victims:
                self._displace(victim, queue)
        else:
            self.entries[decision.job] = replace(entry, reason=decision.reason)

    def _start(self, entry: Entry, queue: list[str], node: str, decided: float) -> None:
        """Start a job where it was placed; it waits on if its node was lost meanwhile."""
        self.entries[entry.job.id] = replace(entry, node=node, verdict="", reason="")
        labels = {"service": entry.service, "owner": "experiment"}
        times = {"submitted": entry.submitted, "decided": decided}
        try:
            self._host.start(entry.job, node, **times, labels=labels)
        except NodeLostError as lost:
            self.entries[entry.job.id] = replace(entry, reason=str(lost))
        else:
            queue.remove(entry.job.id)

    def _displace(self, victim: str, queue: list[str]) -> None:
        """Stop a job and put it back into the queue; what displaces it is offered again then.

        One that is displaced already, and is seen until it has ended, or is not of this run, stays.
        """
        entry, name = self.entries.get(victim), f"{victim}-again"
        if entry is None or name in self.entries:
            return
        self._host.displace(victim)
        again = replace(entry.job, id=name)
        self.entries[again.id] = Entry(again, entry.service, entry.phase, entry.submitted)
        queue.append(again.id)
