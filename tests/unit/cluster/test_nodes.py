# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest

from pkgctl.cluster import nodes
from pkgctl.cluster.nodes import Taint
from pkgctl.scheduling.resources import Resources
from tests.unit.cluster.objects import raw_node


def test_a_node_is_read_with_its_room_and_its_other_resources():
    node = nodes.read(raw_node("n", cpu="1900m", memory="4Gi", pods="30", **{"lab/thing": "3"}))

    assert node.allocatable == Resources(1.9, 4 * 2**30)
    assert (node.slots, dict(node.scarce), node.ready) == (30, {"lab/thing": 3}, True)


@pytest.mark.parametrize(
    ("labels", "site"),
    [
        ({"topology.kubernetes.io/zone": "north", "pkgctl.dev/site": "south"}, "north"),
        ({"pkgctl.dev/site": "south"}, "south"),
        ({}, ""),
    ],
)
def test_its_site_comes_from_a_label(labels, site):
    assert nodes.read(raw_node(labels=labels)).site == site


def test_what_a_layer_left_of_it_counts_and_never_more_than_its_kubelet_says():
    lowered = raw_node(cpu="4", **{nodes.MILLICORES: "500", nodes.MEMORY: "1Gi"})
    raised = raw_node(cpu="4", **{nodes.MILLICORES: "9000"})

    assert nodes.read(lowered).allocatable == Resources(0.5, 2**30)
    assert nodes.read(raised).allocatable.millicores == 4000


def test_what_a_layer_left_is_offered_in_its_units_to_who_asks_for_it():
    node = nodes.read(raw_node(cpu="4", **{nodes.MILLICORES: "4k", nodes.MEMORY: "1073741824"}))

    assert dict(node.scarce) == {nodes.MILLICORES: 4000, nodes.MEMORY: 2**30}
    assert not nodes.read(raw_node()).scarce


@pytest.mark.parametrize(
    ("status", "problem"), [("True", "data: unmounted"), ("False", ""), ("Unknown", "")]
)
def test_what_is_wrong_with_its_data_disks_is_kept(status, problem):
    raw = raw_node()
    raw["status"]["conditions"].append(
        {"type": "DataDiskProblem", "status": status, "message": "data: unmounted"}
    )

    assert (nodes.read(raw).disk_problem, nodes.read(raw).ready) == (problem, True)


def test_taints_that_keep_pods_away_and_a_cordon_are_kept():
    kept = {"key": "a", "value": "b", "effect": "NoSchedule"}
    wished = {"key": "c", "effect": "PreferNoSchedule"}

    node = nodes.read(raw_node(taints=[kept, wished], unschedulable=True))

    assert node.taints == (
        Taint(nodes.UNSCHEDULABLE, "", "NoSchedule"),
        Taint("a", "b", "NoSchedule"),
    )
    assert [str(each) for each in node.taints] == [
        "node.kubernetes.io/unschedulable:NoSchedule",
        "a=b:NoSchedule",
    ]


def test_a_cordon_is_one_taint_whether_kubernetes_added_it_or_not():
    taint = {"key": nodes.UNSCHEDULABLE, "effect": "NoSchedule"}

    assert len(nodes.read(raw_node(taints=[taint], unschedulable=True)).taints) == 1


def test_a_node_whose_kubelet_says_nothing_is_not_ready():
    silent = raw_node()
    silent["status"] = {}

    assert not nodes.read(raw_node(ready=False)).ready
    assert not nodes.read(silent).ready
    assert nodes.read(silent).slots == 0


def test_a_heartbeat_changes_nothing():
    before, after = raw_node(), raw_node()
    after["status"]["conditions"][1]["lastHeartbeatTime"] = "2026-01-01T00:00:10Z"

    assert nodes.read(before) == nodes.read(after)
