# SPDX-License-Identifier: GPL-3.0-or-later
"""Schedulers that look at nothing but whether a job fits: one after the other, or by chance."""

from __future__ import annotations

import random
from collections.abc import Sequence

from pkgctl.scheduling.decision import Decision
from pkgctl.scheduling.job import Job
from pkgctl.scheduling.placing import Room, place_each
from pkgctl.scheduling.view import ClusterView


class RoundRobin:
    """Takes the nodes in turn, in the order of their names.

    It remembers the name it served last, not a position, so each node keeps its turn when others
    come or go. A node that cannot take a job is passed over.
    """

    def __init__(self) -> None:
        self._last = ""

    def place(
        self, queue: Sequence[Job], view: ClusterView, rng: random.Random
    ) -> Sequence[Decision]:
        """Place each job on the next node, by name, that can take it."""
        return place_each(queue, view, self._next)

    def _next(self, job: Job, rooms: Sequence[Room]) -> Room:
        later = [room for room in rooms if room.node.name > self._last]
        chosen = min(later or rooms, key=lambda room: room.node.name)
        self._last = chosen.node.name
        return chosen


class Random:
    """Takes any node that can run the job, each with the same probability."""

    def place(
        self, queue: Sequence[Job], view: ClusterView, rng: random.Random
    ) -> Sequence[Decision]:
        """Place each job on a node drawn from the generator handed in."""
        return place_each(queue, view, lambda job, rooms: rng.choice(rooms))
