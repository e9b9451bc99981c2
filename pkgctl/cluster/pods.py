# SPDX-License-Identifier: GPL-3.0-or-later
"""From a pod as the API has it to what a scheduler needs of it; pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

from pkgctl.cluster import quantities
from pkgctl.scheduling.job import Artifact, Job, JobClass
from pkgctl.scheduling.resources import NOTHING, Resources

ANNOTATION = "pkgctl.dev/"
_CLASSIC = ("cpu", "memory", "ephemeral-storage")
_LOST = ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable")
Amounts = dict[str, int]
Port = tuple[str, str, int]  # protocol, the host's address, port


@dataclass(frozen=True, slots=True, kw_only=True)
class Pod:
    """A pod in the eyes of a scheduler.

    Attributes:
        namespace, name, uid: who it is.
        node: where it is; empty as long as it is nowhere.
        scheduler: who is to find a node for it.
        priority: the higher goes first.
        created: when, as the API writes it.
        asked: CPU, memory and disk that it asks for.
        scarce: amounts of other resources that it asks for, by name.
        ports: ports of the node that it takes.
        wish: where it may run, as a text that ``selectors`` reads; empty is anywhere.
        beyond: what it demands that this scheduler does not know how to give; empty is nothing.
        waits: whether it must not be placed: it is on its way out, or a gate keeps it.
        hints: annotations of ours, without the part before the slash.
        image: of its first container.
    """

    namespace: str
    name: str
    uid: str
    node: str = ""
    scheduler: str = ""
    priority: int = 0
    created: str = ""
    asked: Resources = NOTHING
    scarce: tuple[tuple[str, int], ...] = ()
    ports: frozenset[Port] = frozenset()
    wish: str = ""
    beyond: str = ""
    waits: bool = False
    hints: Mapping[str, str] = field(default_factory=dict)
    image: str = ""

    @property
    def id(self) -> str:
        """The name by which jobs know it."""
        return f"{self.namespace}/{self.name}"

    @property
    def is_alone(self) -> bool:
        """Whether it asks for what only one pod of a batch can be judged on."""
        return bool(self.scarce or self.ports)


def read(raw: Mapping[str, Any]) -> Pod:
    """Return what matters of a pod."""
    meta, spec = raw["metadata"], raw["spec"]
    asked = requests(spec, raw.get("status") or {})
    node = spec.get("nodeName", "")
    return Pod(
        namespace=meta["namespace"],
        name=meta["name"],
        uid=meta["uid"],
        node=node,
        scheduler=spec.get("schedulerName", ""),
        priority=spec.get("priority") or 0,
        created=meta.get("creationTimestamp") or "",
        asked=_resources(asked),
        scarce=tuple(sorted((name, n) for name, n in asked.items() if n and name not in _CLASSIC)),
        ports=frozenset(_ports(spec)),
        wish="" if node else _wish(spec),
        beyond="" if node else ", ".join(_beyond(spec)),
        waits=bool(meta.get("deletionTimestamp") or spec.get("schedulingGates")),
        hints=_hints(meta.get("annotations") or {}),
        image=spec["containers"][0].get("image", ""),
    )


def job(pod: Pod, nodes: frozenset[str] | None) -> Job:
    """Return a pod as the job that policies know."""
    return Job(
        id=pod.id,
        job_class=JobClass.LATENCY if pod.hints.get("class") == "latency" else JobClass.BATCH,
        resources=pod.asked,
        origin=pod.hints.get("origin"),
        clients=_weights(pod.hints.get("clients", "")),
        nodes=nodes,
        artifact=Artifact(pod.image, 0) if pod.image else None,
        priority=pod.priority,
        tenant=pod.namespace,
    )


def requests(spec: Mapping[str, Any], status: Mapping[str, Any]) -> Amounts:
    """Return what a pod counts for on its node, as the kubelet and kube-scheduler count it.

    Containers together, or the largest moment of starting up if that is more; sidecars count from
    their own start on; the overhead of its runtime on top. CPU is in millicores. While a resize is
    under way, the larger of what is asked and what is given counts.
    """
    states = (status.get(kind) or () for kind in ("containerStatuses", "initContainerStatuses"))
    given = {each["name"]: each for each in chain.from_iterable(states)}
    running = _sum(_container(each, given) for each in spec["containers"])
    sidecars: Amounts = {}
    peak: Amounts = {}
    for each in spec.get("initContainers") or ():
        own = _container(each, given)
        if each.get("restartPolicy") == "Always":
            sidecars = _sum((sidecars, own))
            peak = _max(peak, sidecars)
        else:
            peak = _max(peak, _sum((sidecars, own)))
    whole = _amounts((spec.get("resources") or {}).get("requests"))
    counted = {**_max(_sum((running, sidecars)), peak), **whole}
    return _sum((counted, _amounts(spec.get("overhead"))))


def _container(container: Mapping[str, Any], given: Mapping[str, Any]) -> Amounts:
    asked = _amounts((container.get("resources") or {}).get("requests"))
    state = given.get(container["name"])
    if state is None:
        return asked
    actual = _amounts((state.get("resources") or {}).get("requests"))
    return _max(asked, _max(_amounts(state.get("allocatedResources")), actual))


def _amounts(texts: Mapping[str, Any] | None) -> Amounts:
    return {name: amount(name, str(text)) for name, text in (texts or {}).items()}


def amount(name: str, text: str) -> int:
    """Return an amount of a resource: CPU in millicores, all else in whole units."""
    return quantities.millicores(text) if name == "cpu" else quantities.whole(text)


def _sum(parts: Iterable[Amounts]) -> Amounts:
    total: Amounts = {}
    for part in parts:
        for name, number in part.items():
            total[name] = total.get(name, 0) + number
    return total


def _max(one: Amounts, other: Amounts) -> Amounts:
    return {name: max(one.get(name, 0), other.get(name, 0)) for name in {**one, **other}}


def _resources(asked: Amounts) -> Resources:
    cpu, memory, disk = (asked.get(name, 0) for name in _CLASSIC)
    return Resources(cpu / 1000, memory, disk)


def _ports(spec: Mapping[str, Any]) -> Iterator[Port]:
    containers = [*spec["containers"], *(spec.get("initContainers") or ())]
    for container in containers:
        for each in container.get("ports") or ():
            if number := each.get("hostPort"):
                yield each.get("protocol", "TCP"), each.get("hostIP") or "0.0.0.0", number


def _wish(spec: Mapping[str, Any]) -> str:
    """Return where a pod may run as one text, the same for all pods with the same wish."""
    affinity = (spec.get("affinity") or {}).get("nodeAffinity") or {}
    needed = affinity.get("requiredDuringSchedulingIgnoredDuringExecution") or {}
    terms = needed.get("nodeSelectorTerms")
    tolerations = [each for each in spec.get("tolerations") or () if not _is_everyones(each)]
    selector = spec.get("nodeSelector")
    if not (terms or tolerations or selector):
        return ""
    return json.dumps([selector or {}, terms, tolerations], sort_keys=True)


def _is_everyones(toleration: Mapping[str, Any]) -> bool:
    """Whether it is one that the API gives to every pod, on how long it stays on a lost node."""
    return toleration.get("effect") == "NoExecute" and toleration.get("key") in _LOST


def _beyond(spec: Mapping[str, Any]) -> Iterator[str]:
    """Name each demand that is not met by anything here, so that it is not passed over."""
    affinity = spec.get("affinity") or {}
    for name in ("podAffinity", "podAntiAffinity"):
        if (affinity.get(name) or {}).get("requiredDuringSchedulingIgnoredDuringExecution"):
            yield f"required {name}"
    spread = spec.get("topologySpreadConstraints") or ()
    if any(each.get("whenUnsatisfiable") == "DoNotSchedule" for each in spread):
        yield "topologySpreadConstraints that must hold"
    volumes = spec.get("volumes") or ()
    if any("persistentVolumeClaim" in each or "ephemeral" in each for each in volumes):
        yield "volumes by claim"
    if spec.get("resourceClaims"):
        yield "resource claims"


def _hints(annotations: Mapping[str, str]) -> dict[str, str]:
    start = len(ANNOTATION)
    return {key[start:]: text for key, text in annotations.items() if key.startswith(ANNOTATION)}


def _weights(text: str) -> dict[str, float]:
    """Return clients with their weights, from ``edge-1=2,edge-2``; what is no number is 1."""
    found = {}
    for part in filter(None, text.replace(" ", "").split(",")):
        name, _, weight = part.partition("=")
        try:
            found[name] = max(0.0, float(weight or 1))
        except ValueError:
            found[name] = 1.0
    return found
