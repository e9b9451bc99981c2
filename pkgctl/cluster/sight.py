# SPDX-License-Identifier: GPL-3.0-or-later
"""The pods and nodes of a cluster as an experiment sees them, its own and those of others; pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from pkgctl.cluster import nodes, pods, podstates
from pkgctl.cluster.podstates import Facts
from pkgctl.local.reach import Now
from pkgctl.nodeside import units
from pkgctl.scheduling.backend import JobState

LOWERED, RAISED = "capacity-lowered", "capacity-raised"
DISK_PROBLEM, DISK_WELL = "disk-problem", "disk-well"


@dataclass(frozen=True, slots=True)
class Seen:
    """A pod of the cluster: what a scheduler knows of it, and what we do if it is ours."""

    pod: pods.Pod
    has_ended: bool
    facts: Facts | None


@dataclass(frozen=True, slots=True)
class SeenNode:
    """A node of the cluster, and why it is as ready as it is."""

    node: nodes.Node
    reason: str


def read_pod(raw: dict[str, Any]) -> Seen:
    """Return what matters of a pod."""
    phase = (raw.get("status") or {}).get("phase")
    return Seen(pods.read(raw), phase in ("Succeeded", "Failed"), podstates.read(raw))


def read_node(raw: dict[str, Any]) -> SeenNode:
    """Return what matters of a node."""
    conditions = (raw.get("status") or {}).get("conditions") or ()
    ready = next((each for each in conditions if each["type"] == "Ready"), dict[str, Any]())
    reason = ready.get("reason") or "its kubelet has not said that it is"
    return SeenNode(nodes.read(raw), str(reason))


def is_ready(seen: SeenNode | None) -> bool:
    """Whether Kubernetes takes a node for ready."""
    return seen is not None and seen.node.ready


def changes(old: SeenNode | None, new: SeenNode | None) -> Iterator[tuple[str, str]]:
    """Yield what Kubernetes says of a node now and did not before, but for whether it is ready.

    Each is one of the words below, and more words for whoever reads of it.
    """
    if old is None or new is None:
        return
    was, room = old.node.allocatable, new.node.allocatable
    if (was.cpu, was.memory) != (room.cpu, room.memory):
        is_less = room.cpu < was.cpu or room.memory < was.memory
        words = f"cpu {room.millicores}m, memory {units.show_size(room.memory)}"
        yield LOWERED if is_less else RAISED, words
    if old.node.disk_problem != new.node.disk_problem:
        yield DISK_PROBLEM if new.node.disk_problem else DISK_WELL, new.node.disk_problem


def both(here: Now, seen: SeenNode | None) -> Now:
    """Return what a node is like: ready as Kubernetes knows, and the least room of what is known.

    A layer lowers the node's own limits at once, and Kubernetes is told of it a moment later.
    """
    if seen is None:
        return Now(False, here.cpu, here.memory)
    node, room = seen.node, seen.node.allocatable
    return Now(
        ready=node.ready and not node.taints,
        cpu=room.cpu if here.cpu is None else min(here.cpu, room.cpu),
        memory=room.memory if here.memory is None else min(here.memory, room.memory),
    )


def strangers(seen: Iterable[Seen], own: Collection[str]) -> Iterator[JobState]:
    """Yield the pods of others, by the tokens of our own: they take their part of nodes too."""
    for each in seen:
        is_own = each.facts is not None and each.facts.token in own
        if not is_own and each.pod.node and not each.has_ended:
            asked = each.pod.asked
            yield JobState(
                each.pod.id, each.pod.node, "running", cpu=asked.cpu, memory=asked.memory
            )


def fetched(seen: Iterable[Seen], node: str) -> Iterator[str]:
    """Yield the artifacts that pods have brought to a node."""
    for each in seen:
        facts = each.facts
        if facts is not None and facts.node == node and facts.artifact and not facts.fetching:
            yield facts.artifact
