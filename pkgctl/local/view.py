# SPDX-License-Identifier: GPL-3.0-or-later
"""A running testbed as schedulers see it: nodes, what is placed on them, links now in force."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pkgctl.nodeside import Quality, cgroups, condition, layers, links
from pkgctl.scheduling.backend import JobState
from pkgctl.scheduling.job import JobClass
from pkgctl.scheduling.resources import Resources
from pkgctl.scheduling.view import ClusterView, NodeView, PlacedJob

_UNSHAPED = Quality()


class LinksNow(Mapping[str, Mapping[str, Quality]]):
    """The quality now in force of each directed pair, read where and when it is asked for."""

    def __init__(self, stores: Mapping[str, Path]) -> None:
        """Read from the store of each node's link layers."""
        self._stores = stores
        self._read: dict[str, tuple[int, Mapping[str, Quality]]] = {}

    def __getitem__(self, source: str) -> Mapping[str, Quality]:
        """Return the qualities from a node to each other."""
        store = self._stores[source]
        written = store.stat().st_mtime_ns if store.exists() else 0
        known = self._read.get(source)
        if known is None or known[0] != written:
            egress = links.wanted(layers.load(store)).egress
            row = {node: egress.get(node, _UNSHAPED) for node in self._stores if node != source}
            known = self._read[source] = (written, row)
        return known[1]

    def __iter__(self) -> Iterator[str]:
        """Yield the nodes."""
        return iter(self._stores)

    def __len__(self) -> int:
        """Return how many nodes there are."""
        return len(self._stores)


def stores(state: Mapping[str, Any]) -> dict[str, Path]:
    """Return where each node's link layers are kept."""
    return {name: Path(node["directory"], links.STORE) for name, node in state["nodes"].items()}


def view(
    state: Mapping[str, Any],
    jobs: Iterable[JobState],
    artifacts: Mapping[str, Iterable[str]],
    links_now: LinksNow,
) -> ClusterView:
    """Return the snapshot that a testbed's state and its jobs amount to."""
    placed: dict[str, list[PlacedJob]] = {name: [] for name in state["nodes"]}
    for job in jobs:
        if not job.has_ended and not job.labels.get("outside") and job.node in placed:
            placed[job.node].append(_placed(job))
    nodes = tuple(
        _node(name, node, placed[name], artifacts.get(name, ()))
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
    name: str, node: Mapping[str, Any], jobs: list[PlacedJob], artifacts: Iterable[str]
) -> NodeView:
    capacity = Resources(node["cpu"], node["memory"])
    return NodeView(
        name=name,
        site=node["site"],
        labels=node["labels"],
        capacity=capacity,
        allocatable=_allocatable(node["cgroup"], capacity),
        ready=condition.is_up(condition.load(node["directory"])),
        artifacts=frozenset(artifacts),
        jobs=tuple(jobs),
    )


def _allocatable(path: str, capacity: Resources) -> Resources:
    """Return what the node's limits leave of its capacity now."""
    group = cgroups.group(path)
    cpu, memory = group.cpu(), group.memory()
    return Resources(
        capacity.cpu if cpu is None else min(cpu, capacity.cpu),
        capacity.memory if memory is None else min(memory, capacity.memory),
    )
