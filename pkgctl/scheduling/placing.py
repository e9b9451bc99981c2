# SPDX-License-Identifier: GPL-3.0-or-later
"""What the placing schedulers share: which nodes can take a job, and the room that is left.

A job fits a node that is ready and allowed to it, and whose allocatable CPU, memory and disk, less
what is placed there, are at least what it asks for; an amount of zero always fits. Jobs placed
in the same call count as placed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence

from pkgctl.scheduling.decision import Decision, Place, Wait
from pkgctl.scheduling.job import Job
from pkgctl.scheduling.resources import Resources
from pkgctl.scheduling.view import ClusterView, NodeView

# What a job that asks for nothing counts for in scores, in millicores and bytes; kube-scheduler's
# DefaultMilliCPURequest and DefaultMemoryRequest (pkg/scheduler/util/pod_resources.go).
DEFAULT_MILLICORES = 100
DEFAULT_MEMORY_BYTES = 200 * 2**20


def scored_millicores(asked: Resources) -> int:
    """Return the CPU that a job counts for in scores."""
    return asked.millicores or DEFAULT_MILLICORES


def scored_memory(asked: Resources) -> int:
    """Return the memory in bytes that a job counts for in scores."""
    return asked.memory or DEFAULT_MEMORY_BYTES


class Room:
    """What is still free on one node, and what its jobs count for in scores.

    Attributes:
        node: the node as the view has it.
        millicores, memory, disk: free; below zero after the node was made smaller.
        scored_millicores, scored_memory: asked for, with the defaults for jobs that ask nothing.
    """

    __slots__ = ("disk", "memory", "millicores", "node", "scored_memory", "scored_millicores")

    def __init__(self, node: NodeView) -> None:
        self.node = node
        free, taken = node.allocatable, node.requested
        self.millicores = free.millicores - taken.millicores
        self.memory = free.memory - taken.memory
        self.disk = free.disk - taken.disk
        self.scored_millicores = sum(scored_millicores(job.resources) for job in node.jobs)
        self.scored_memory = sum(scored_memory(job.resources) for job in node.jobs)

    def take(self, asked: Resources) -> None:
        """Give that much away."""
        self.millicores -= asked.millicores
        self.memory -= asked.memory
        self.disk -= asked.disk
        self.scored_millicores += scored_millicores(asked)
        self.scored_memory += scored_memory(asked)

    def obstacles(self, job: Job) -> Iterator[str]:
        """Yield each reason why the job cannot run here."""
        if not self.node.ready:
            yield "not ready"
        if job.nodes is not None and self.node.name not in job.nodes:
            yield "not allowed"
        asked = job.resources
        if asked.millicores > max(0, self.millicores):
            yield "lack cpu"
        if asked.memory > max(0, self.memory):
            yield "lack memory"
        if asked.disk > max(0, self.disk):
            yield "lack disk"


Choose = Callable[[Job, Sequence[Room]], Room]
Forbid = Callable[[Job, NodeView], str | None]


def place_each(
    queue: Iterable[Job], view: ClusterView, choose: Choose, forbid: Forbid | None = None
) -> tuple[Decision, ...]:
    """Place the jobs one after the other, each seeing where the ones before it went.

    Args:
        queue: the jobs.
        view: the cluster.
        choose: picks from the nodes that can take the job, of which there is at least one.
        forbid: a scheduler's own reason why a job must not run on a node, None if it may.
    """
    rooms = [Room(node) for node in view.nodes]
    return tuple(_place(job, rooms, choose, forbid) for job in queue)


def _place(job: Job, rooms: Sequence[Room], choose: Choose, forbid: Forbid | None) -> Decision:
    feasible, obstacles = [], Counter[str]()
    for room in rooms:
        found = list(room.obstacles(job))
        reason = forbid(job, room.node) if forbid and not found else None
        obstacles.update([*found, reason] if reason else found)
        if not found and not reason:
            feasible.append(room)
    if not feasible:
        return Wait(job.id, explain(len(rooms), obstacles))
    chosen = choose(job, feasible)
    chosen.take(job.resources)
    return Place(job.id, chosen.node.name)


def explain(count: int, obstacles: Counter[str]) -> str:
    """Return why none of so many nodes will do: ``0/7 nodes: 5 lack cpu, 2 not ready``.

    A node that lacks two things counts under both.
    """
    ordered = sorted(obstacles.items(), key=lambda item: (-item[1], item[0]))
    reasons = ", ".join(f"{number} {reason}" for reason, number in ordered)
    return f"0/{count} nodes: {reasons or 'there are none'}"
