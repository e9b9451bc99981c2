# SPDX-License-Identifier: GPL-3.0-or-later
"""The seam to whatever runs jobs: processes here, pods or a simulation elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from pkgctl.scheduling.job import Job
from pkgctl.scheduling.resources import Resources
from pkgctl.scheduling.view import ClusterView

ENDED = ("finished", "failed", "stopped", "removed")


@dataclass(frozen=True, slots=True)
class JobState:
    """Where in its life a job is.

    Attributes:
        id: the job.
        node: where it runs.
        status: pulling, starting, running, finished, failed, stopped or removed.
        cached: whether its artifact was on the node already.
        cpu: cores that it may use, None without a limit.
        memory: bytes that it may use, None without a limit.
        stamps: submitted, decided, artifact, started, ready, finished, on the clock of the backend.
        labels: what its starter noted about it.
        error: why it failed, in words.
        lost: whether it ended because its node went down.
    """

    id: str
    node: str
    status: str
    cached: bool = False
    cpu: float | None = None
    memory: int | None = None
    stamps: Mapping[str, float] = field(default_factory=dict)
    labels: Mapping[str, Any] = field(default_factory=dict)
    error: str | None = None
    lost: bool = False

    @property
    def has_ended(self) -> bool:
        """Whether it will not run again."""
        return self.status in ENDED

    @property
    def is_ready(self) -> bool:
        """Whether it serves, or is at its work."""
        return self.status == "running"


@dataclass(frozen=True, slots=True)
class LayerEvent:
    """A disturbance that began, changed or ended on a node; times are the backend's clock.

    Attributes:
        name: the disturbance.
        node: where.
        action: ``on``, ``change`` (a step of a ramp or a trace) or ``off``.
        planned: when it should have.
        actual: when it did.
        error: why it could not, in words.
    """

    name: str
    node: str
    action: str
    planned: float
    actual: float
    error: str | None = None


@dataclass(frozen=True, slots=True)
class NodeEvent:
    """A node that was lost, or is back.

    Attributes:
        node: the node.
        health: running, paused, stopped or crashed; unreachable if nobody can tell.
        actual: when it became so, on the backend's clock.
    """

    node: str
    health: str
    actual: float

    @property
    def is_ready(self) -> bool:
        """Whether it can take jobs."""
        return self.health == "running"


@dataclass(frozen=True, slots=True)
class NoticeEvent:
    """What Kubernetes noticed of a node, which may be long after it happened.

    Attributes:
        node: the node.
        is_ready: whether Kubernetes takes it for ready now.
        reason: in words.
        actual: when we were told, on the backend's clock.
    """

    node: str
    is_ready: bool
    reason: str
    actual: float


@dataclass(frozen=True, slots=True)
class StatusEvent:
    """What else Kubernetes says of a node now: other room, or a data disk that fails.

    Attributes:
        node: the node.
        what: in one of the words that ``pkgctl.cluster.sight`` has for it.
        detail: in words.
        actual: when we were told, on the backend's clock.
        is_relief: whether what waits may find its place now.
    """

    node: str
    what: str
    detail: str
    actual: float
    is_relief: bool


Event = JobState | LayerEvent | NodeEvent | NoticeEvent | StatusEvent


class Backend(Protocol):
    """Runs jobs on nodes, and tells what becomes of them."""

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
        """Start a job on a node; returns before it is ready.

        Args:
            job: a batch job if it has work, else a service's replica.
            node: where.
            submitted: when it was submitted, on the backend's clock.
            decided: when its node was chosen.
            labels: what to note about it.

        Raises:
            NodeLostError: if the node cannot take jobs any more.
        """

    def resize(self, job: str, resources: Resources) -> None:
        """Let a running job go on with other resources."""

    def stop(self, job: str, *, grace: float) -> None:
        """Tell a job to end, and kill it after ``grace`` seconds; returns before it has ended."""

    def event(self, until: float | None) -> Event | None:
        """Return the next event, or None if none came by a time on the backend's clock."""
