# SPDX-License-Identifier: GPL-3.0-or-later
"""kube-scheduler's NodeResourcesFit scores: spread over free nodes, or fill full ones first.

As in Kubernetes 1.34, ``pkg/scheduler/framework/plugins/noderesources/least_allocated.go`` and
``most_allocated.go``: integers throughout, CPU in millicores, memory in bytes, the weights 1 and 1,
what is requested *with* the job that is placed, and 100m and 200Mi for jobs that ask for none.

    least: (allocatable - requested) * 100 // allocatable, 0 if more is requested than there is
    most:  min(requested, allocatable) * 100 // allocatable
    node:  (cpu + memory) // 2, over the resources that the node has at all

The highest score wins. Among equals each is equally likely, drawn from the generator handed in.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from pkgctl.scheduling.decision import Decision
from pkgctl.scheduling.job import Job
from pkgctl.scheduling.placing import (
    Choose,
    Room,
    place_each,
    scored_memory,
    scored_millicores,
)
from pkgctl.scheduling.view import ClusterView

HIGHEST_SCORE = 100
Score = Callable[[int, int], int]


def least_allocated(requested: int, allocatable: int) -> int:
    """Return the share of a resource that stays free, 0..100."""
    if requested > allocatable:
        return 0
    return (allocatable - requested) * HIGHEST_SCORE // allocatable


def most_allocated(requested: int, allocatable: int) -> int:
    """Return the share of a resource that is taken, 0..100."""
    return min(requested, allocatable) * HIGHEST_SCORE // allocatable


def node_score(score: Score, job: Job, room: Room) -> int:
    """Return a node's score for a job, 0..100: the mean over CPU and memory, rounded down."""
    asked, there = job.resources, room.node.allocatable
    amounts = (
        (room.scored_millicores + scored_millicores(asked), there.millicores),
        (room.scored_memory + scored_memory(asked), there.memory),
    )
    scores = [score(requested, allocatable) for requested, allocatable in amounts if allocatable]
    return sum(scores) // len(scores) if scores else 0


class LeastAllocated:
    """Prefers the nodes with the largest share free: spreads."""

    def place(
        self, queue: Sequence[Job], view: ClusterView, rng: random.Random
    ) -> Sequence[Decision]:
        """Place each job on a node with the highest LeastAllocated score."""
        return place_each(queue, view, _highest(least_allocated, rng))


class MostAllocated:
    """Prefers the nodes with the smallest share free: packs."""

    def place(
        self, queue: Sequence[Job], view: ClusterView, rng: random.Random
    ) -> Sequence[Decision]:
        """Place each job on a node with the highest MostAllocated score."""
        return place_each(queue, view, _highest(most_allocated, rng))


def _highest(score: Score, rng: random.Random) -> Choose:
    def choose(job: Job, rooms: Sequence[Room]) -> Room:
        scores = [node_score(score, job, room) for room in rooms]
        top = max(scores)
        return rng.choice([room for room, own in zip(rooms, scores, strict=True) if own == top])

    return choose
