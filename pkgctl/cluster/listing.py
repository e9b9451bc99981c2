# SPDX-License-Identifier: GPL-3.0-or-later
"""The nodes of a cluster as rows for people, from what the API says of them; pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pkgctl.cluster import nodes

COLUMNS = ("node", "ready", "role", "version", "site", "cpu", "memory", "address", "troubles")
_SERVER = "node-role.kubernetes.io/control-plane"
_MEBIBYTE = 2**20


def rows(items: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return a row for each node, by its name.

    A row's ``cpu`` is in cores and ``memory`` in texts such as 512Mi, both what pods may have;
    ``troubles`` names what the node's kubelet complains of, and what keeps pods off it.
    """
    return sorted((_row(item) for item in items), key=lambda row: str(row["node"]))


def _row(item: Mapping[str, Any]) -> dict[str, Any]:
    node = nodes.read(item)
    status = item.get("status") or {}
    addresses = {each["type"]: each["address"] for each in status.get("addresses") or ()}
    return {
        "node": node.name,
        "ready": "yes" if node.ready else "no",
        "role": "server" if _SERVER in node.labels else "agent",
        "version": (status.get("nodeInfo") or {}).get("kubeletVersion", ""),
        "site": node.site,
        "cpu": f"{node.allocatable.cpu:g}",
        "memory": f"{node.allocatable.memory // _MEBIBYTE}Mi",
        "address": addresses.get("InternalIP", ""),
        "troubles": ", ".join([*_complaints(status), *map(str, node.taints)]),
    }


def _complaints(status: Mapping[str, Any]) -> Iterable[str]:
    """Yield the conditions that are not as they should be, with their reasons."""
    for each in status.get("conditions") or ():
        wanted = "True" if each["type"] == "Ready" else "False"
        if each["status"] != wanted:
            yield str(each.get("reason") or each["type"])
