# SPDX-License-Identifier: GPL-3.0-or-later
"""Nodes and the pods on them as the view that policies decide by, kept up change by change.

Only nodes that something happened to are built anew, so a view of many nodes costs little when
few of them changed. No clock, no I/O.
"""

from __future__ import annotations

import bisect
from collections import Counter
from collections.abc import Iterator, Mapping

from pkgctl.cluster import selectors
from pkgctl.cluster.nodes import Node
from pkgctl.cluster.pods import Pod, Port
from pkgctl.cluster.selectors import Allowed
from pkgctl.nodeside import Quality
from pkgctl.scheduling.job import JobClass
from pkgctl.scheduling.view import ClusterView, NodeView, PlacedJob

Links = Mapping[str, Mapping[str, Quality]]
_ANY = "0.0.0.0"


class Snapshot:
    """All nodes, and which pods are on them."""

    def __init__(self) -> None:
        self._nodes: dict[str, Node] = {}
        self._order: list[str] = []
        self._pods: dict[str, dict[str, Pod]] = {}  # by node, then by uid
        self._places: dict[str, str] = {}  # from uid to node
        self._views: dict[str, NodeView] = {}
        self._allowed: dict[str, Allowed] = {}

    def __contains__(self, uid: str) -> bool:
        """Whether a pod is on a node."""
        return uid in self._places

    def set_node(self, node: Node) -> None:
        """Take in a node, new or changed."""
        before = self._nodes.get(node.name)
        if before is None:
            bisect.insort(self._order, node.name)
        if before is None or (before.labels, before.taints) != (node.labels, node.taints):
            self._allowed.clear()
        self._nodes[node.name] = node
        self._views.pop(node.name, None)

    def drop_node(self, name: str) -> None:
        """Forget a node; its pods stay known until they go themselves."""
        if self._nodes.pop(name, None) is not None:
            self._order.remove(name)
            self._views.pop(name, None)
            self._allowed.clear()

    def put(self, pod: Pod, node: str) -> None:
        """Have a pod on a node, whether it is there or only meant to be."""
        before = self._places.get(pod.uid)
        if before is not None and before != node:
            self.drop(pod.uid)
        self._places[pod.uid] = node
        self._pods.setdefault(node, {})[pod.uid] = pod
        self._views.pop(node, None)

    def drop(self, uid: str) -> None:
        """Have a pod nowhere."""
        node = self._places.pop(uid, None)
        if node is not None:
            self._pods[node].pop(uid, None)
            if not self._pods[node]:
                del self._pods[node]
            self._views.pop(node, None)

    def view(self, now: float = 0.0, links: Links | None = None) -> ClusterView:
        """Return the cluster as it is known."""
        return ClusterView(nodes=tuple(self._seen()), links=links or {}, now=now)

    def allowed(self, pod: Pod) -> Allowed:
        """Return where a pod may go, whatever room there is."""
        if pod.wish not in self._allowed:
            self._allowed[pod.wish] = selectors.allowed(pod.wish, self._nodes.values())
        found = self._allowed[pod.wish]
        return self._with_the_scarce(pod, found) if pod.is_alone else found

    def on(self, node: str) -> Mapping[str, Pod]:
        """Return the pods on a node, by uid."""
        return self._pods.get(node, {})

    def _seen(self) -> Iterator[NodeView]:
        for name in self._order:
            view = self._views.get(name)
            if view is None:
                view = self._views[name] = self._look(self._nodes[name])
            yield view

    def _look(self, node: Node) -> NodeView:
        return NodeView(
            name=node.name,
            capacity=node.capacity,
            allocatable=node.allocatable,
            site=node.site,
            labels=node.labels,
            ready=node.ready,
            artifacts=node.artifacts,
            jobs=tuple(_placed(pod) for pod in self.on(node.name).values()),
            slots=node.slots,
        )

    def _with_the_scarce(self, pod: Pod, wished: Allowed) -> Allowed:
        """Narrow down to nodes that have left what only this one pod of a batch asks for."""
        why, names = Counter(wished.why), list[str]()
        for name, node in self._nodes.items():
            if wished.nodes is not None and name not in wished.nodes:
                continue
            if obstacle := self._lacks(pod, node):
                why[obstacle] += 1
            else:
                names.append(name)
        return Allowed(frozenset(names), why)

    def _lacks(self, pod: Pod, node: Node) -> str:
        others = self.on(node.name).values()
        used = Counter[str]()
        for other in others:
            used.update(dict(other.scarce))
        for resource, asked in pod.scarce:
            if used[resource] + asked > node.scarce.get(resource, 0):
                return f"lack {resource}"
        if any(_collide(port, taken) for port in pod.ports for o in others for taken in o.ports):
            return "have the port taken"
        return ""


def _placed(pod: Pod) -> PlacedJob:
    return PlacedJob(
        id=pod.id,
        job_class=JobClass.LATENCY if pod.hints.get("class") == "latency" else JobClass.BATCH,
        resources=pod.asked,
        priority=pod.priority,
    )


def _collide(one: Port, other: Port) -> bool:
    """Whether two ports of a node cannot both be had."""
    same_address = one[1] == other[1] or _ANY in (one[1], other[1])
    return one[0] == other[0] and one[2] == other[2] and same_address
