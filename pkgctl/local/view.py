# SPDX-License-Identifier: GPL-3.0-or-later
"""A running testbed as schedulers see it: nodes, what is placed on them, links now in force."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from pkgctl.local.reach import Now, Stores
from pkgctl.nodeside import Quality, links
from pkgctl.scheduling.backend import JobState
from pkgctl.scheduling.job import JobClass
from pkgctl.scheduling.resources import Resources
from pkgctl.scheduling.view import ClusterView, NodeView, PlacedJob

_UNSHAPED = Quality()
_LINK = ("link",)


class LinksNow(Mapping[str, Mapping[str, Quality]]):
    """The quality now in force of each directed pair, read where and when it is asked for."""

    def __init__(self, names: Iterable[str], stores: Stores) -> None:
        """Read from the store of each node's link layers."""
        self._names = tuple(names)
        self._stores = stores
        self._read: dict[str, tuple[object, Mapping[str, Quality]]] = {}

    def __getitem__(self, source: str) -> Mapping[str, Quality]:
        """Return the qualities from a node to each other."""
        stamp = self._stores.stamp(source, _LINK)
        known = self._read.get(source)
        if known is None or known[0] != stamp:
            egress = links.wanted(self._stores.read(source, _LINK)["link"]).egress
            row = {node: egress.get(node, _UNSHAPED) for node in self._names if node != source}
            known = self._read[source] = (stamp, row)
        return known[1]

    def __iter__(self) -> Iterator[str]:
        """Yield the nodes."""
        return iter(self._names)

    def __len__(self) -> int:
        """Return how many nodes there are."""
        return len(self._names)


def view(
    state: Mapping[str, Any],
    jobs: Iterable[JobState],
    artifacts: Mapping[str, Iterable[str]],
    links_now: LinksNow,
    now: Mapping[str, Now],
) -> ClusterView:
    """Return the snapshot that a testbed's state and its jobs amount to."""
    placed: dict[str, list[PlacedJob]] = {name: [] for name in state["nodes"]}
    for job in jobs:
        if not job.has_ended and not job.labels.get("outside") and job.node in placed:
            placed[job.node].append(_placed(job))
    nodes = tuple(
        _node(name, node, placed[name], artifacts.get(name, ()), now[name])
        for name, node in state["nodes"].items()
    )
    return ClusterView(nodes=nodes, links=links_now, now=time.monotonic())


def _placed(job: JobState) -> PlacedJob:
    return PlacedJob(
        id=job.id,
        job_class=JobClass(job.labels.get("class", JobClass.BATCH)),
        resources=Resources(job.cpu or 0.0, job.memory or 0),
        since=job.stamps.get("decided", 0.0),
    )


def _node(
    name: str,
    node: Mapping[str, Any],
    jobs: list[PlacedJob],
    artifacts: Iterable[str],
    now: Now,
) -> NodeView:
    capacity = Resources(node["cpu"], node["memory"])
    return NodeView(
        name=name,
        site=node["site"],
        labels=node["labels"],
        capacity=capacity,
        allocatable=_allocatable(now, capacity),
        ready=now.ready,
        artifacts=frozenset(artifacts),
        jobs=tuple(jobs),
    )


def _allocatable(now: Now, capacity: Resources) -> Resources:
    """Return what the node's limits leave of its capacity now."""
    return Resources(
        capacity.cpu if now.cpu is None else min(now.cpu, capacity.cpu),
        capacity.memory if now.memory is None else min(now.memory, capacity.memory),
    )
