# SPDX-License-Identifier: GPL-3.0-or-later
"""What a scheduler can decide about a job, and the protocol of schedulers."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from pkgctl.scheduling.job import Job
from pkgctl.scheduling.view import ClusterView


@dataclass(frozen=True, slots=True)
class Place:
    """The job runs on that node."""

    job: str
    node: str


@dataclass(frozen=True, slots=True)
class Wait:
    """The job stays in the queue; it is offered again when something has changed."""

    job: str
    reason: str


@dataclass(frozen=True, slots=True)
class Reject:
    """The job will not run."""

    job: str
    reason: str


@dataclass(frozen=True, slots=True)
class Preempt:
    """The job runs on that node when those placed jobs have been stopped, which requeues them."""

    job: str
    node: str
    victims: tuple[str, ...]


Decision = Place | Wait | Reject | Preempt


class Scheduler(Protocol):
    """Decides where jobs run; pure but for its own state."""

    def place(
        self, queue: Sequence[Job], view: ClusterView, rng: random.Random
    ) -> Sequence[Decision]:
        """Return one decision for each job of the queue, in the queue's order.

        Args:
            queue: the jobs that wait, first the one that should be served first.
            view: the cluster. What this very call gives away must be counted by the scheduler.
            rng: the only source of chance, so that a seed repeats every decision.
        """
