# SPDX-License-Identifier: GPL-3.0-or-later
"""A running testbed at a glance: nodes, their use, layers in force, our processes' health."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pkgctl.local import testbed
from pkgctl.local.paths import Paths
from pkgctl.nodeside import cgroups, channel, delayclient, disks, layers, links, quotas
from pkgctl.nodeside import errors as node_errors

_STORES = {"link": links.STORE, "quota": quotas.STORE, "disk": disks.STORE}


def overview(paths: Paths) -> dict[str, Any]:
    """Return what is known of a running testbed, ready for JSON.

    Raises:
        TestbedError: if it is not up.
    """
    state = testbed.read_state(paths)
    return {
        "testbed": paths.name,
        "topology": state["topology"]["name"],
        "nodes": {name: _node(paths, name, known) for name, known in state["nodes"].items()},
        "agent": answers(paths, testbed.AGENT_SOCKET, "ping"),
        "delay_line": answers(paths, delayclient.SOCKET, "status"),
    }


def _node(paths: Paths, name: str, known: Mapping[str, Any]) -> dict[str, Any]:
    group = cgroups.group(known["cgroup"])
    kept = ("site", "kind", "role", "address", "cpu", "memory", "disks")
    return {
        **{key: known[key] for key in kept},
        "memory_used": group.memory_used(),
        "cpu_now": group.cpu(),
        "memory_now": group.memory(),
        "processes": sum(len(each.processes()) for each in group.descend()),
        "layers": active_layers(paths, name),
    }


def active_layers(paths: Paths, node: str) -> dict[str, list[str]]:
    """Return the kinds of disturbance that are in force on a node, by layer name."""
    found: dict[str, list[str]] = {}
    for kind, store in _STORES.items():
        for layer in layers.load(paths.node(node) / store):
            if layer != layers.BASE:
                found.setdefault(layer, []).append(kind)
    return found


def answers(paths: Paths, socket: str, op: str) -> bool:
    """Return whether one of our processes answers."""
    try:
        channel.call(paths.agent / socket, op)
    except node_errors.AgentError:
        return False
    return True
