# SPDX-License-Identifier: GPL-3.0-or-later
"""From a node as the API has it to what a scheduler needs of it; pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from pkgctl.cluster.pods import amount
from pkgctl.nodeside import nodestatus
from pkgctl.scheduling.resources import NOTHING, Resources

SITE_LABELS = ("topology.kubernetes.io/zone", "pkgctl.dev/site")
# What a node may use now, which a layer lowers without its kubelet being told. Who asks for them
# has them counted like any other resource, as the kubelet does when it admits the pod.
MILLICORES, MEMORY = nodestatus.RESOURCES
UNSCHEDULABLE = "node.kubernetes.io/unschedulable"
FORBIDDING = ("NoSchedule", "NoExecute")
_NOT_SCARCE = ("cpu", "memory", "ephemeral-storage", "pods")


@dataclass(frozen=True, slots=True)
class Taint:
    """What keeps pods off a node that do not say that they bear it."""

    key: str
    value: str
    effect: str

    def __str__(self) -> str:
        """Show it as kubectl does."""
        return (
            f"{self.key}={self.value}:{self.effect}" if self.value else f"{self.key}:{self.effect}"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A node in the eyes of a scheduler.

    Attributes:
        name: who it is.
        site: where it stands, from its labels.
        labels: its labels.
        taints: those that keep pods away, one for a cordon among them.
        ready: whether its kubelet says that it is.
        disk_problem: what is wrong with its data disks, in words; empty if nothing is.
        capacity: all that it has.
        allocatable: what pods may have of it.
        slots: how many pods may be on it.
        scarce: amounts of other resources that pods may have, by name.
        artifacts: the names of the images that it holds.
    """

    name: str
    site: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    taints: tuple[Taint, ...] = ()
    ready: bool = True
    disk_problem: str = ""
    capacity: Resources = NOTHING
    allocatable: Resources = NOTHING
    slots: int = 0
    scarce: Mapping[str, int] = field(default_factory=dict)
    artifacts: frozenset[str] = frozenset()


def read(raw: Mapping[str, Any]) -> Node:
    """Return what matters of a node."""
    meta, spec, status = raw["metadata"], raw.get("spec") or {}, raw.get("status") or {}
    labels = meta.get("labels") or {}
    given = _amounts(status.get("allocatable") or {})
    return Node(
        name=meta["name"],
        site=next((labels[each] for each in SITE_LABELS if labels.get(each)), ""),
        labels=labels,
        taints=tuple(_taints(spec)),
        ready=_is_ready(status),
        disk_problem=_disk_problem(status),
        capacity=_resources(_amounts(status.get("capacity") or {})),
        allocatable=_lowered(given),
        slots=given.get("pods", 0),
        scarce={name: number for name, number in given.items() if name not in _NOT_SCARCE},
        artifacts=frozenset(
            name for image in status.get("images") or () for name in image.get("names") or ()
        ),
    )


def _amounts(texts: Mapping[str, Any]) -> dict[str, int]:
    return {name: amount(name, str(text)) for name, text in texts.items()}


def _resources(amounts: Mapping[str, int]) -> Resources:
    cpu, memory = amounts.get("cpu", 0), amounts.get("memory", 0)
    return Resources(cpu / 1000, memory, amounts.get("ephemeral-storage", 0))


def _lowered(amounts: Mapping[str, int]) -> Resources:
    """Return what pods may have, the lower of what the kubelet says and what a layer left."""
    said = _resources(amounts)
    millicores = min(said.millicores, amounts.get(MILLICORES, said.millicores))
    memory = min(said.memory, amounts.get(MEMORY, said.memory))
    return Resources(millicores / 1000, memory, said.disk)


def _taints(spec: Mapping[str, Any]) -> Iterator[Taint]:
    found = [
        Taint(each["key"], each.get("value") or "", each["effect"])
        for each in spec.get("taints") or ()
        if each["effect"] in FORBIDDING
    ]
    if spec.get("unschedulable") and all(each.key != UNSCHEDULABLE for each in found):
        yield Taint(UNSCHEDULABLE, "", "NoSchedule")
    yield from found


def _is_ready(status: Mapping[str, Any]) -> bool:
    return any(each["type"] == "Ready" for each in _true(status))


def _disk_problem(status: Mapping[str, Any]) -> str:
    found = (each for each in _true(status) if each["type"] == nodestatus.DISK_PROBLEM)
    return next((str(each.get("message") or each.get("reason") or "yes") for each in found), "")


def _true(status: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield the conditions that hold."""
    return (each for each in status.get("conditions") or () if each["status"] == "True")
