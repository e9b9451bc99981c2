# SPDX-License-Identifier: GPL-3.0-or-later
"""The scheduler that keeps jobs close to those who use them."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence

from pkgctl.scheduling.decision import Decision, Reject
from pkgctl.scheduling.job import Job
from pkgctl.scheduling.placing import Room, place_each
from pkgctl.scheduling.view import ClusterView, NodeView

NOBODY = "nearest needs to know who uses the job: it has neither clients nor an origin"


class Nearest:
    """Takes the node with the smallest delay from the job's clients, else from its origin.

    With clients c of weights w the delay to a node n is sum(w(c) * delay(c, n)) / sum(w(c)), one
    way, over the links as they are now. Among equals the first name wins. When the nearest is
    full, the next takes the job; a node that one of the clients cannot reach never does.
    """

    def place(
        self, queue: Sequence[Job], view: ClusterView, rng: random.Random
    ) -> Sequence[Decision]:
        """Place each job on the nearest node that can take it; reject those nobody uses."""

        def forbid(job: Job, node: NodeView) -> str | None:
            return None if math.isfinite(delay_to(node.name, job, view)) else "out of reach"

        def choose(job: Job, rooms: Sequence[Room]) -> Room:
            ranks = [(delay_to(room.node.name, job, view), room.node.name) for room in rooms]
            return rooms[ranks.index(min(ranks))]

        placed = iter(place_each((job for job in queue if users(job)), view, choose, forbid))
        return [next(placed) if users(job) else Reject(job.id, NOBODY) for job in queue]


def users(job: Job) -> Mapping[str, float]:
    """Return the nodes that the job should be near to, with their weights above zero."""
    if job.clients:
        return {node: weight for node, weight in job.clients.items() if weight > 0}
    return {job.origin: 1.0} if job.origin else {}


def delay_to(node: str, job: Job, view: ClusterView) -> float:
    """Return the weighted mean delay in seconds from those who use the job to a node."""
    weights = users(job)
    delays = math.fsum(weight * view.delay(user, node) for user, weight in weights.items())
    return delays / math.fsum(weights.values())
