# SPDX-License-Identifier: GPL-3.0-or-later
"""What the placing schedulers share: which nodes can take a job, and the room that is left.

A job fits a node that is ready and allowed to it, that may take one more job, and whose allocatable
CPU, memory and disk, less what is placed there, are at least what it asks for; an amount of zero
always fits. Jobs placed in the same call count as placed.

Jobs that ask for the same are alike. What was found out for one of them holds for the next but
for the node that took it, so a long queue of such jobs costs little more for each than a look at
one node.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import overload

from pkgctl.scheduling.decision import Decision, Place, Wait
from pkgctl.scheduling.job import Job
from pkgctl.scheduling.resources import Resources, scored_memory, scored_millicores
from pkgctl.scheduling.view import ClusterView, NodeView


class Room:
    """What is still free on one node, and what its jobs count for in scores.

    Attributes:
        node: the node as the view has it.
        millicores, memory, disk: free; below zero after the node was made smaller.
        slots: how many more jobs it may take; None is any number.
        scored_millicores, scored_memory: asked for, with the defaults for jobs that ask nothing.
    """

    __slots__ = (
        "disk",
        "memory",
        "millicores",
        "node",
        "scored_memory",
        "scored_millicores",
        "slots",
    )

    def __init__(self, node: NodeView) -> None:
        self.node = node
        free, taken = node.allocatable, node.requested
        self.millicores = free.millicores - taken.millicores
        self.memory = free.memory - taken.memory
        self.disk = free.disk - taken.disk
        self.slots = None if node.slots is None else node.slots - len(node.jobs)
        self.scored_millicores, self.scored_memory = node.scored

    def take(self, asked: Resources) -> None:
        """Give that much away."""
        self.millicores -= asked.millicores
        self.memory -= asked.memory
        self.disk -= asked.disk
        if self.slots is not None:
            self.slots -= 1
        self.scored_millicores += scored_millicores(asked)
        self.scored_memory += scored_memory(asked)

    def obstacles(self, job: Job) -> Iterator[str]:
        """Yield each reason why the job cannot run here."""
        if not self.node.ready:
            yield "not ready"
        if job.nodes is not None and self.node.name not in job.nodes:
            yield "not allowed"
        if self.slots is not None and self.slots < 1:
            yield "no slot"
        asked = job.resources
        if asked.millicores > max(0, self.millicores):
            yield "lack cpu"
        if asked.memory > max(0, self.memory):
            yield "lack memory"
        if asked.disk > max(0, self.disk):
            yield "lack disk"

    def fits(self, job: Job) -> bool:
        """Whether nothing keeps the job from running here."""
        return next(self.obstacles(job), None) is None


class Rooms(Sequence[Room]):
    """Some rooms in the view's order, and which of all were given away from.

    Attributes:
        every: all rooms of the view.
        order: the positions in ``every`` of those that are meant, ascending.
        taken: the position of each room that took a job, in the order in which that happened; the
            same list for all that share ``every``.
    """

    __slots__ = ("every", "order", "taken")

    def __init__(self, every: Sequence[Room], order: list[int], taken: list[int]) -> None:
        self.every, self.order, self.taken = every, order, taken

    def has(self, at: int) -> bool:
        """Whether the room at a position in ``every`` is one of them."""
        position = bisect_left(self.order, at)
        return position < len(self.order) and self.order[position] == at

    def leave_out(self, at: int) -> None:
        """Let the room at a position in ``every`` be none of them any more."""
        if self.has(at):
            del self.order[bisect_left(self.order, at)]

    def __len__(self) -> int:
        """Return how many they are."""
        return len(self.order)

    @overload
    def __getitem__(self, index: int) -> Room: ...
    @overload
    def __getitem__(self, index: slice) -> list[Room]: ...
    def __getitem__(self, index: int | slice) -> Room | list[Room]:
        """Return one by its position among them, or several."""
        if isinstance(index, slice):
            return [self.every[at] for at in self.order[index]]
        return self.every[self.order[index]]

    def __iter__(self) -> Iterator[Room]:
        """Yield them in the view's order."""
        return map(self.every.__getitem__, self.order)


class Alike:
    """Jobs that ask for the same, and the rooms that can take one more of them.

    Within one call rooms only become smaller, so one that is out stays out.
    """

    __slots__ = ("_obstacles", "_seen", "job", "rooms")

    def __init__(self, job: Job, every: Sequence[Room], taken: list[int]) -> None:
        self.job = job
        fitting = [at for at, room in enumerate(every) if room.fits(job)]
        self.rooms = Rooms(every, fitting, taken)
        self._seen = len(taken)
        self._obstacles: tuple[int, Counter[str]] | None = None

    def fitting(self) -> Rooms:
        """Return the rooms that can take one of these jobs now."""
        rooms = self.rooms
        for at in rooms.taken[self._seen :]:
            if not rooms.every[at].fits(self.job):
                rooms.leave_out(at)
        self._seen = len(rooms.taken)
        return rooms

    def obstacles(self) -> Counter[str]:
        """Return how many rooms are out for which reason."""
        moment = len(self.rooms.taken)
        if self._obstacles is None or self._obstacles[0] != moment:
            found = Counter(word for room in self.rooms.every for word in room.obstacles(self.job))
            self._obstacles = (moment, found)
        return self._obstacles[1]


Choose = Callable[[Job, Rooms], Room]
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
    every = [Room(node) for node in view.nodes]
    positions = {node.name: at for at, node in enumerate(view.nodes)}
    taken: list[int] = []
    kinds: dict[object, Alike] = {}

    def place(job: Job) -> Decision:
        kind = (job.resources, job.nodes)
        alike = kinds.get(kind) or kinds.setdefault(kind, Alike(job, every, taken))
        rooms, obstacles = alike.fitting(), Counter[str]()
        if forbid is not None:
            rooms, obstacles = _spared(rooms, job, forbid)
        if not rooms:
            return Wait(job.id, explain(len(every), alike.obstacles() + obstacles))
        chosen = choose(job, rooms)
        chosen.take(job.resources)
        taken.append(positions[chosen.node.name])
        return Place(job.id, chosen.node.name)

    return tuple(place(job) for job in queue)


def _spared(rooms: Rooms, job: Job, forbid: Forbid) -> tuple[Rooms, Counter[str]]:
    """Return the rooms that a scheduler does not forbid, and why it forbids the others."""
    reasons = [forbid(job, room.node) for room in rooms]
    order = [at for at, reason in zip(rooms.order, reasons, strict=True) if not reason]
    return Rooms(rooms.every, order, rooms.taken), Counter(filter(None, reasons))


def explain(count: int, obstacles: Counter[str]) -> str:
    """Return why none of so many nodes will do: ``0/7 nodes: 5 lack cpu, 2 not ready``.

    A node that lacks two things counts under both.
    """
    ordered = sorted(obstacles.items(), key=lambda item: (-item[1], item[0]))
    reasons = ", ".join(f"{number} {reason}" for reason, number in ordered)
    return f"0/{count} nodes: {reasons or 'there are none'}"
