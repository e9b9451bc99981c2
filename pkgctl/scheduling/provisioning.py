# SPDX-License-Identifier: GPL-3.0-or-later
"""Provisioning models: what is made ready before anybody asks for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from pkgctl.scheduling.job import Artifact
from pkgctl.scheduling.resources import NOTHING, Resources
from pkgctl.scheduling.view import ClusterView, NodeView


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """What is expected of one service, or of one kind of job.

    Attributes:
        service: its name.
        resources: what one replica asks of its node.
        replicas: how many of them should run.
        artifact: what a node must have before one can start there.
        nodes: the names of the nodes where they may run; None is any.
    """

    service: str
    resources: Resources = NOTHING
    replicas: int = 1
    artifact: Artifact | None = None
    nodes: frozenset[str] | None = None


@dataclass(frozen=True, slots=True)
class Prefetch:
    """The node gets the artifact now."""

    node: str
    artifact: Artifact


@dataclass(frozen=True, slots=True)
class Evict:
    """The node drops the artifact."""

    node: str
    artifact: str


@dataclass(frozen=True, slots=True)
class Start:
    """One more replica of the service is submitted to the scheduler."""

    service: str


@dataclass(frozen=True, slots=True)
class Stop:
    """That replica ends."""

    job: str


@dataclass(frozen=True, slots=True)
class Resize:
    """That replica goes on with other resources."""

    job: str
    resources: Resources


Action = Prefetch | Evict | Start | Stop | Resize


class Provisioner(Protocol):
    """Decides what to prepare; pure but for its own state."""

    def plan(self, view: ClusterView, demand: Sequence[Demand]) -> Sequence[Action]:
        """Return what should be done now, in this order, for what is expected."""


class Cold:
    """Prepares nothing: an artifact travels when the first job that needs it is placed."""

    def plan(self, view: ClusterView, demand: Sequence[Demand]) -> Sequence[Action]:
        """Return no actions."""
        return ()


class Prefetched:
    """Brings each artifact beforehand to every node on which a replica could be placed."""

    def plan(self, view: ClusterView, demand: Sequence[Demand]) -> Sequence[Action]:
        """Return a Prefetch for each missing pair of node and artifact, each pair once."""
        missing = {
            Prefetch(node.name, wanted.artifact): None
            for wanted in demand
            if wanted.artifact is not None
            for node in view.nodes
            if wanted.artifact.name not in node.artifacts and _could_host(node, wanted)
        }
        return tuple(missing)


def _could_host(node: NodeView, wanted: Demand) -> bool:
    """Return whether the node could take a replica if it were empty."""
    allowed = wanted.nodes is None or node.name in wanted.nodes
    asked, there = wanted.resources, node.allocatable
    fits = (
        asked.millicores <= there.millicores
        and asked.memory <= there.memory
        and asked.disk <= there.disk
    )
    return node.ready and allowed and fits
