# SPDX-License-Identifier: GPL-3.0-or-later
"""What a testbed of virtual machines is like now, asked of libvirt, the nodes and the controller.

A node that does not answer is described all the same: by what was declared, and by libvirt.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from pkgctl.errors import MissingCapability, TestbedError
from pkgctl.local import overview as local
from pkgctl.local.state import AGENT_SOCKET, read_state
from pkgctl.nodeside import condition, delayclient, layers
from pkgctl.remote import asking, ssh, virsh
from pkgctl.remote.places import Places
from pkgctl.watch import layering

HEALTH = "health"
RUNNING = "running"
_KEPT = ("site", "kind", "role", "address", "cpu", "memory", "disks", "host", "hypervisor")
_TOLD = ("memory_used", "cpu_now", "memory_now", "processes")
_MOMENTS = ("t0", "next", "ends", "since")
Facts = dict[str, Any]


def overview(places: Places) -> Facts:
    """Return what is known of a testbed, ready for JSON.

    Raises:
        TestbedError: if it is not up.
    """
    record = read_state(places)
    domains = _domains(record)
    answers, silent = _answers(record, domains)
    health = {name: layers.load(places.node(name) / condition.STORE) for name in record["nodes"]}
    stores = {
        name: {**answers.get(name, {}).get("stores", {}), HEALTH: health[name]}
        for name in record["nodes"]
    }
    outline = _joined([_watchman(places), *(_outline(each) for each in answers.values())])
    now = time.monotonic()
    found = layering.listing(layering.asked(stores, len(stores)), outline, now, len(stores))
    return {
        "testbed": places.name,
        "provider": record["provider"],
        "topology": record["topology"]["name"],
        "nodes": {
            name: {
                **_node(known, answers.get(name)),
                "health": condition.composed(health[name]),
                "domain": domains[name],
                "layers": local.by_layer(stores[name]),
            }
            for name, known in record["nodes"].items()
        },
        "layers": [layer.to_dict(now) for layer in found],
        "agent": all(answers.get(name, {}).get("outline") is not None for name in _up(domains)),
        "silent": silent,
        "delay_line": _delay_line(answers),
    }


def _up(domains: Mapping[str, str]) -> list[str]:
    return [name for name, state in domains.items() if state == RUNNING]


def _domains(record: Mapping[str, Any]) -> dict[str, str]:
    """Return the state of each node's domain; one that nobody can tell is unknown."""
    known: dict[str, dict[str, str] | None] = {}
    for uri in {node["uri"] for node in record["nodes"].values()}:
        try:
            known[uri] = virsh.states(uri)
        except (MissingCapability, TestbedError):
            known[uri] = None
    found = {}
    for name, node in record["nodes"].items():
        states = known[node["uri"]]
        found[name] = "unknown" if states is None else states.get(node["domain"], "gone")
    return found


def _answers(
    record: Mapping[str, Any], domains: Mapping[str, str]
) -> tuple[dict[str, Facts], dict[str, str]]:
    """Return what each node tells that can be asked, and why others do not."""
    asked = [name for name, state in domains.items() if state in (RUNNING, "unknown")]
    found = ssh.everywhere(
        (ssh.target(record, name) for name in asked),
        lambda there: _answer(there, record["nodes"][there.node]),
    )
    told = {name: answer for name, answer in found.items() if not isinstance(answer, str)}
    return told, {name: why for name, why in found.items() if isinstance(why, str)}


def _answer(there: ssh.Target, known: Mapping[str, Any]) -> Facts | str:
    """Return what a node tells of itself, or why it does not."""
    before = time.monotonic()
    try:
        answer: Facts = asking.ask(
            there,
            "overview",
            directory=known["directory"],
            cgroup=known["cgroup"],
            stores=local.STORES,
            agent=AGENT_SOCKET,
            delay_line=delayclient.SOCKET,
        )
    except TestbedError as error:
        return str(error)
    # The node's clock against ours, half-way between the question and the answer.
    answer["offset"] = (before + time.monotonic()) / 2 - answer["mono"]
    return answer


def _outline(answer: Mapping[str, Any]) -> Facts | None:
    """Return the times of a node's layers by this machine's clock."""
    outline: Facts | None = answer["outline"]
    if outline is None:
        return None
    return {
        key: [_shifted(each, answer["offset"]) for each in outline[key]]
        for key in ("layers", "leases")
    }


def _shifted(part: Mapping[str, Any], offset: float) -> Facts:
    moments = {key: part[key] + offset for key in _MOMENTS if part.get(key) is not None}
    return {**part, **moments}


def _watchman(places: Places) -> Facts | None:
    return local.ask(places, AGENT_SOCKET, "layer-list")


def _joined(outlines: list[Facts | None]) -> Facts | None:
    """Return the outlines of several agents as one; None if none answers."""
    known = [outline for outline in outlines if outline is not None]
    if not known:
        return None
    return {
        key: [each for outline in known for each in outline[key]] for key in ("layers", "leases")
    }


def _delay_line(answers: Mapping[str, Facts]) -> Facts | None:
    """Return the figures of all delay lines together; None where nodes have the kernel's netem."""
    found = [each["delay_line"] for each in answers.values() if each.get("delay_line")]
    if not found:
        return None
    sums = {
        key: sum(each[key] for each in found) for key in ("pairs", "delayed", "lost", "waiting")
    }
    packets = sums["delayed"] or 1
    late = sum(each["mean_late"] * each["delayed"] for each in found) / packets
    return {**sums, "mean_late": late, "most_late": max(each["most_late"] for each in found)}


def _node(known: Mapping[str, Any], answer: Mapping[str, Any] | None) -> Facts:
    return {
        **{key: known.get(key) for key in _KEPT},
        **{key: None if answer is None else answer[key] for key in _TOLD},
        "answers": answer is not None,
    }
