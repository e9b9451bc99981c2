# SPDX-License-Identifier: GPL-3.0-or-later
"""Nodes of a cluster as rows for people."""

from __future__ import annotations

from pkgctl.cluster import listing


def item(name, ready="True", **changes):
    return {
        "metadata": {"name": name, "labels": {"topology.kubernetes.io/zone": "edge-a"}},
        "spec": {},
        "status": {
            "nodeInfo": {"kubeletVersion": "v1.34.4"},
            "allocatable": {"cpu": "1500m", "memory": "256Mi", "pods": "110"},
            "addresses": [{"type": "InternalIP", "address": "10.77.0.2"}],
            "conditions": [
                {"type": "MemoryPressure", "status": "False", "reason": "Enough"},
                {"type": "Ready", "status": ready, "reason": "NodeStatusUnknown"},
            ],
            **changes,
        },
    }


def test_a_node_is_a_row():
    assert listing.rows([item("edge-1")]) == [
        {
            "node": "edge-1",
            "ready": "yes",
            "role": "agent",
            "version": "v1.34.4",
            "site": "edge-a",
            "cpu": "1.5",
            "memory": "256Mi",
            "address": "10.77.0.2",
            "troubles": "",
        }
    ]


def test_rows_come_by_name_and_say_what_is_wrong():
    lost = item("b", ready="Unknown")
    lost["spec"] = {"taints": [{"key": "away", "effect": "NoSchedule"}]}
    server = item("a")
    server["metadata"]["labels"]["node-role.kubernetes.io/control-plane"] = "true"

    first, second = listing.rows([lost, server])

    assert (first["node"], first["role"]) == ("a", "server")
    assert (second["ready"], second["troubles"]) == ("no", "NodeStatusUnknown, away:NoSchedule")


def test_a_node_that_has_said_nothing_yet_is_a_row_too():
    (row,) = listing.rows([{"metadata": {"name": "new"}}])

    assert (row["ready"], row["cpu"], row["address"]) == ("no", "0", "")
