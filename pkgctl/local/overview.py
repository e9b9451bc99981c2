# SPDX-License-Identifier: GPL-3.0-or-later
"""What a running testbed is like now: its nodes, their use, and the layers in force.

All of it is read and nothing is started, so it is true of a testbed whose agent is dead as well:
then only what is left of the layers' times is not known.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pkgctl.local.paths import Paths
from pkgctl.local.state import AGENT_SOCKET, read_state
from pkgctl.nodeside import cgroups, channel, condition, delayclient, layers
from pkgctl.nodeside import errors as node_errors
from pkgctl.watch import layering

# The file in a node's folder that holds its layers of each kind.
STORES = {
    "link": "links.json",
    "quota": "quota.json",
    "disk": "disk.json",
    "health": condition.STORE,
    "stress": "stress.json",
}
_PATIENCE = 5.0
_KEPT = ("site", "kind", "role", "address", "cpu", "memory", "disks")


def overview(paths: Paths) -> dict[str, Any]:
    """Return what is known of a running testbed, ready for JSON.

    Raises:
        TestbedError: if it is not up.
    """
    state = read_state(paths)
    stores = {name: read_stores(Path(known["directory"])) for name, known in state["nodes"].items()}
    outline = ask(paths, AGENT_SOCKET, "layer-list")
    now = time.monotonic()
    asked = layering.asked(stores, len(stores))
    found = layering.listing(asked, outline, now, len(stores))
    return {
        "testbed": paths.name,
        "topology": state["topology"]["name"],
        "nodes": {name: _node(known, stores[name]) for name, known in state["nodes"].items()},
        "layers": [layer.to_dict(now) for layer in found],
        "agent": outline is not None,
        "delay_line": ask(paths, delayclient.SOCKET, "status"),
    }


def read_stores(directory: Path) -> dict[str, layers.Layers]:
    """Return a node's layers by kind, base included."""
    return {kind: layers.load(directory / store) for kind, store in STORES.items()}


def _node(known: Mapping[str, Any], stores: Mapping[str, layers.Layers]) -> dict[str, Any]:
    group = cgroups.group(known["cgroup"])
    return {
        **{key: known[key] for key in _KEPT},
        "health": condition.composed(stores["health"]),
        "memory_used": group.memory_used(),
        "cpu_now": group.cpu(),
        "memory_now": group.memory(),
        "processes": sum(len(each.processes()) for each in group.descend()),
        "layers": by_layer(stores),
    }


def by_layer(stores: Mapping[str, layers.Layers]) -> dict[str, list[str]]:
    """Return the kinds of disturbance of each layer beside base, out of a node's layers by kind."""
    found: dict[str, list[str]] = {}
    for kind, stored in stores.items():
        for layer in stored:
            if layer != layers.BASE:
                found.setdefault(layer, []).append(kind)
    return found


def ask(paths: Paths, socket: str, op: str, **fields: Any) -> dict[str, Any] | None:
    """Return the answer of one of our processes; None if there is none."""
    try:
        with channel.Client(paths.agent / socket, timeout=_PATIENCE) as client:
            answer = client.call(op, **fields)
    except node_errors.AgentError:
        return None
    return {key: value for key, value in answer.items() if key != "ok"}
