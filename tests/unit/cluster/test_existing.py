# SPDX-License-Identifier: GPL-3.0-or-later
"""A testbed that is a cluster: what is refused, and how a node is seen."""

from __future__ import annotations

from typing import Any

import pytest

from pkgctl.cluster import podbodies, sight
from pkgctl.cluster.existing import check_nodes
from pkgctl.errors import ClusterError
from pkgctl.local.reach import Now


def node(name: str, ready: str = "True", **spec: Any) -> dict[str, Any]:
    room = {"cpu": "500m", "memory": "256Mi"}
    return {
        "metadata": {"name": name, "labels": {}},
        "spec": spec,
        "status": {
            "allocatable": room,
            "capacity": room,
            "conditions": [{"type": "Ready", "status": ready, "reason": "KubeletSays"}],
        },
    }


def test_a_cluster_has_all_nodes_of_the_testbed_and_may_have_more():
    check_nodes(["a", "b"], [node("a"), node("b"), node("c", ready="False")], "host:6443")


def test_a_node_that_the_cluster_lacks_is_named():
    with pytest.raises(ClusterError, match="the cluster at host:6443 has no node b, c;"):
        check_nodes(["a", "b", "c"], [node("a")], "host:6443")


def test_a_node_that_is_not_ready_is_named():
    with pytest.raises(ClusterError, match=r"not ready: b$"):
        check_nodes(["a", "b"], [node("a"), node("b", ready="Unknown")], "host:6443")


@pytest.mark.parametrize(
    ("here", "raw", "seen"),
    [
        (Now(True, None, None), node("a"), Now(True, 0.5, 256 << 20)),
        (Now(True, 0.25, 1 << 30), node("a"), Now(True, 0.25, 256 << 20)),
        # What the testbed knows of its health is not what Kubernetes knows.
        (Now(False, None, None), node("a"), Now(True, 0.5, 256 << 20)),
        (Now(True, None, None), node("a", ready="Unknown"), Now(False, 0.5, 256 << 20)),
        (Now(True, None, None), node("a", unschedulable=True), Now(False, 0.5, 256 << 20)),
        (Now(True, 1.0, 2), None, Now(False, 1.0, 2)),
    ],
)
def test_of_a_node_the_least_counts_that_is_known(here, raw, seen):
    there = None if raw is None else sight.read_node(raw)

    assert sight.both(here, there) == seen


def test_why_a_node_is_not_ready_is_kept():
    assert sight.read_node(node("a", ready="False")).reason == "KubeletSays"
    assert "has not said" in sight.read_node({"metadata": {"name": "a"}}).reason


def seen(cpu: str = "1k", memory: str = "268435456", problem: str = "") -> sight.SeenNode:
    raw = node("a")
    raw["status"]["allocatable"] = {
        **{"cpu": "500m", "memory": "256Mi", "ephemeral-storage": str(len(cpu))},
        **{"pkgctl.dev/millicores": cpu, "pkgctl.dev/memory": memory},
    }
    status = "True" if problem else "False"
    disks = {"type": "DataDiskProblem", "status": status, "message": problem or "mounted"}
    raw["status"]["conditions"].append(disks)
    return sight.read_node(raw)


@pytest.mark.parametrize(
    ("old", "new", "changes"),
    [
        (seen(), seen(), []),
        (seen(), seen(cpu="1000"), []),
        (seen(), seen(cpu="200"), [("capacity-lowered", "cpu 200m, memory 256Mi")]),
        (seen("200"), seen("300", "1048576"), [("capacity-lowered", "cpu 300m, memory 1Mi")]),
        (seen("200"), seen(), [("capacity-raised", "cpu 500m, memory 256Mi")]),
        (seen(), seen(problem="data: full"), [("disk-problem", "data: full")]),
        (seen(problem="x"), seen(problem="data: full"), [("disk-problem", "data: full")]),
        (seen(problem="data: full"), seen(), [("disk-well", "")]),
        (None, seen("200", problem="x"), []),
        (seen("200", problem="x"), None, []),
    ],
)
def test_what_kubernetes_is_told_of_a_node_is_what_changed(old, new, changes):
    assert list(sight.changes(old, new)) == changes


def test_room_and_disks_may_change_together():
    found = [word for word, _ in sight.changes(seen("200", problem="x"), seen())]

    assert found == ["capacity-raised", "disk-well"]


def pod(name: str, token: str | None, **more: Any) -> sight.Seen:
    notes = {} if token is None else {podbodies.TOKEN: token, "pkgctl.dev/artifact": "model"}
    container = {"name": "main", "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}}}
    return sight.read_pod(
        {
            "metadata": {"namespace": "x", "name": name, "uid": name, "annotations": notes},
            "spec": {"nodeName": "edge-1", "containers": [container], **more},
            "status": {"phase": "Running"},
        }
    )


def test_the_pods_of_others_take_their_part_of_a_node():
    seen = [pod("dns", None), pod("web-0", "ours"), pod("left", "of another")]

    found = list(sight.strangers(seen, {"ours"}))

    assert [(each.id, each.node, each.cpu) for each in found] == [
        ("x/dns", "edge-1", 0.1),
        ("x/left", "edge-1", 0.1),
    ]


def test_what_a_pod_has_fetched_is_on_its_node():
    waiting = pod("web-1", "ours", initContainers=[{"name": "fetch"}])

    assert list(sight.fetched([pod("web-0", "ours")], "edge-1")) == ["model"]
    assert list(sight.fetched([pod("web-0", "ours")], "edge-2")) == []
    assert list(sight.fetched([waiting, pod("dns", None)], "edge-1")) == []
