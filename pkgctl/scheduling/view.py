# SPDX-License-Identifier: GPL-3.0-or-later
"""What a scheduler sees of the cluster: an immutable snapshot."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from pkgctl.nodeside import Quality
from pkgctl.scheduling.job import JobClass
from pkgctl.scheduling.resources import Resources, scored_memory, scored_millicores, total


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacedJob:
    """A job that has its place: what it holds there, and whether it may be displaced."""

    id: str
    job_class: JobClass
    resources: Resources
    priority: int = 0
    since: float = 0.0


@dataclass(frozen=True, kw_only=True)
class NodeView:
    """One node at the moment of the snapshot.

    Attributes:
        name: the node.
        capacity: all that it has.
        allocatable: what jobs may have of it; a capacity perturbation lowers it.
        site: where it stands.
        labels: what its topology says about it.
        used: what was measured last, None if nothing was.
        ready: whether it can take jobs.
        artifacts: the names of the artifacts that it holds.
        jobs: what is placed on it, whether started or not.
        slots: how many jobs may be on it together; None is any number.
    """

    name: str
    capacity: Resources
    allocatable: Resources
    site: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    used: Resources | None = None
    ready: bool = True
    artifacts: frozenset[str] = frozenset()
    jobs: tuple[PlacedJob, ...] = ()
    slots: int | None = None

    @cached_property
    def requested(self) -> Resources:
        """What the jobs on the node have asked for, together."""
        return total(job.resources for job in self.jobs)

    @cached_property
    def scored(self) -> tuple[int, int]:
        """What they count for in scores together: millicores, and bytes of memory."""
        asked = [job.resources for job in self.jobs]
        return sum(map(scored_millicores, asked)), sum(map(scored_memory, asked))


@dataclass(frozen=True, kw_only=True)
class ClusterView:
    """All nodes, in an order that stays, and the links between them.

    Attributes:
        nodes: in the topology's order.
        links: the quality now in force of each directed pair, by source and destination. Any
            mapping will do, also one that computes what is asked for.
        now: the time of the decision, in seconds on the experiment's clock.
        age: how many seconds ago the snapshot was taken.
    """

    nodes: tuple[NodeView, ...]
    links: Mapping[str, Mapping[str, Quality]] = field(default_factory=dict)
    now: float = 0.0
    age: float = 0.0

    @cached_property
    def by_name(self) -> Mapping[str, NodeView]:
        """The nodes by name."""
        return {node.name: node for node in self.nodes}

    def link(self, source: str, destination: str) -> Quality | None:
        """Return the quality from one node to another, None if no packet passes."""
        quality = self.links.get(source, {}).get(destination)
        return None if quality is None or quality.is_down else quality

    def delay(self, source: str, destination: str) -> float:
        """Return the one-way delay in seconds: 0 on a node itself, infinite if none passes."""
        if source == destination:
            return 0.0
        quality = self.link(source, destination)
        return math.inf if quality is None else quality.delay
