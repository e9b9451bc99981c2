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
from bisect import bisect_left, insort
from collections.abc import Callable, Sequence

from pkgctl.scheduling.decision import Decision
from pkgctl.scheduling.job import Job
from pkgctl.scheduling.placing import (
    Choose,
    Room,
    Rooms,
    place_each,
)
from pkgctl.scheduling.resources import scored_memory, scored_millicores
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
    """Return what picks from the rooms with the highest score, each equally likely."""
    tops: dict[tuple[Rooms, int, int], Ranking] = {}

    def choose(job: Job, rooms: Rooms) -> Room:
        kind = (rooms, scored_millicores(job.resources), scored_memory(job.resources))
        ranking = tops.get(kind)
        if ranking is None:
            ranking = tops[kind] = Ranking(rooms, lambda room: node_score(score, job, room))
        return rooms.every[rng.choice(ranking.best())]

    return choose


class Ranking:
    """The scores of rooms for jobs that ask for the same, brought up to date where rooms changed.

    It holds positions among all rooms, those with one score together and in ascending order, so
    that the draw among equals is the one among rooms in the view's order.
    """

    def __init__(self, rooms: Rooms, rate: Callable[[Room], int]) -> None:
        self._rooms, self._rate = rooms, rate
        self._scores: dict[int, int] = {}
        self._equals: dict[int, list[int]] = {}
        self._seen = len(rooms.taken)
        for at in rooms.order:
            self._add(at)

    def best(self) -> Sequence[int]:
        """Return the positions of the rooms with the highest score."""
        rooms = self._rooms
        for at in set(rooms.taken[self._seen :]):
            self._refresh(at)
        self._seen = len(rooms.taken)
        return self._equals[max(self._equals)]

    def _add(self, at: int) -> None:
        score = self._scores[at] = self._rate(self._rooms.every[at])
        insort(self._equals.setdefault(score, []), at)

    def _refresh(self, at: int) -> None:
        if at not in self._scores:
            return
        score = self._scores.pop(at)
        equals = self._equals[score]
        del equals[bisect_left(equals, at)]
        if not equals:
            del self._equals[score]
        if self._rooms.has(at):
            self._add(at)
