# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.pkgctl.testbed.plugins.module_utils import diskmodel, mounting, nodestatus
from ansible_collections.pkgctl.testbed.plugins.module_utils.filling import Room
from ansible_collections.pkgctl.testbed.plugins.module_utils.nodestatus import (
    DISK_PROBLEM,
    MEMORY,
    MILLICORES,
    Finding,
    Having,
)
from pkgctl.cluster.quantities import whole

GIB = 1 << 30
NOW = 1_800_000_000.0
MOMENT, LATER, LONG_AFTER = "2027-01-15T08:00:00Z", "2027-01-15T08:04:00Z", "2027-01-15T08:05:00Z"
ROOM = Room(total=100, free=80, held=0)
PROBLEM = Finding("True", "DiskUnmounted", "data: unmounted")
WELL = Finding("False", nodestatus.WELL, "mounted, with room: data")


def applied(node, body):
    """Return a node after a patch, as the API merges it."""
    status = dict(node.get("status") or {})
    for key, value in (body or {"status": {}})["status"].items():
        if key == "conditions":
            others = [each for each in status.get(key, []) if each["type"] != DISK_PROBLEM]
            status[key] = [*others, *value]
        else:
            status[key] = {**status.get(key, {}), **value}
    return {**node, "status": status}


@pytest.mark.parametrize(
    ("limits", "cpu", "shown"),
    [
        ({}, 1.0, "1k"),
        ({"cpu": 0.2}, 1.0, "200"),
        ({"cpu": 0.29}, 1.0, "290"),
        ({"cpu": 4}, 1.5, "1500"),
        ({"cpu": 2000.0}, 2000.0, "2M"),
        ({"cpu": 0.0125}, 1.0, "12"),
    ],
)
def test_the_least_of_all_layers_counts_and_never_more_than_the_topology(limits, cpu, shown):
    found = nodestatus.resources({"memory": GIB, **limits}, cpu, 256 << 20)

    assert found == {MILLICORES: shown, MEMORY: str(256 << 20)}


def test_memory_is_lowered_by_a_layer_in_bytes():
    found = nodestatus.resources({"memory": 64 << 20}, 1, GIB)
    assert found[MEMORY] == str(64 << 20)


@given(st.integers(0, 1 << 62))
def test_a_quantity_says_its_number_and_is_as_short_as_the_api_makes_it(number):
    text = nodestatus.quantity(number)

    assert whole(text) == number
    assert number == 0 or not text.endswith("000") or text[-1].isalpha()


@pytest.mark.parametrize(
    ("found", "asked", "room", "word"),
    [
        (mounting.MOUNTED, "mounted", ROOM, ""),
        (mounting.MOUNTED, "mounted", Room(total=100, free=5, held=90), ""),
        (mounting.MOUNTED, "mounted", Room(total=100, free=4, held=90), "full"),
        (mounting.READONLY, "readonly", None, "readonly"),
        (mounting.READONLY, "mounted", None, "readonly"),
        (mounting.UNMOUNTED, "unmounted", None, "unmounted"),
        (mounting.UNMOUNTED, "detached", None, diskmodel.DETACHED),
        (mounting.MOUNTED, "detached", ROOM, ""),
        (mounting.DEAD, "mounted", None, "dead"),
        (mounting.FOREIGN, "unmounted", None, "foreign"),
    ],
)
def test_what_is_wrong_with_a_disk_is_what_is_found_there(found, asked, room, word):
    assert nodestatus.trouble(found, asked, room) == word


def test_the_harshest_trouble_is_the_reason_and_all_are_in_the_message():
    found = nodestatus.finding({"log": "full", "data": "detached", "own": ""})

    assert found == Finding(
        "True", "DiskDetached", "data: detached; log: full, less than 5% of it is free"
    )
    assert nodestatus.finding({"log": "", "data": ""}) == Finding(
        "False", nodestatus.WELL, "mounted, with room: data, log"
    )
    assert nodestatus.finding({}) is None


def test_every_trouble_has_its_reason():
    words = [*diskmodel.CONDITIONS[1:], mounting.DEAD, mounting.FOREIGN, nodestatus.FULL]
    reasons = [nodestatus.finding({"data": word}).reason for word in words]

    assert len(set(reasons)) == len(words) == 6


def test_a_bare_node_is_told_all_and_then_nothing():
    having = Having({MILLICORES: "200"}, PROBLEM)

    body = nodestatus.patch({"metadata": {}}, having, NOW)

    assert body == {
        "status": {
            "capacity": {MILLICORES: "200"},
            "allocatable": {MILLICORES: "200"},
            "conditions": [
                {
                    "type": DISK_PROBLEM,
                    "status": "True",
                    "reason": "DiskUnmounted",
                    "message": "data: unmounted",
                    "lastHeartbeatTime": MOMENT,
                    "lastTransitionTime": MOMENT,
                }
            ],
        }
    }
    assert nodestatus.patch(applied({}, body), having, NOW + 240) is None


def test_only_what_differs_is_said():
    there = applied({}, nodestatus.patch({}, Having({MILLICORES: "200", MEMORY: "1Gi"}), NOW))
    there["status"]["allocatable"][MEMORY] = "0"

    body = nodestatus.patch(there, Having({MILLICORES: "200", MEMORY: "1Gi"}), NOW)

    assert body == {"status": {"allocatable": {MEMORY: "1Gi"}}}


def conditions(*steps):
    """Return our condition after one thing was said after another, at some seconds after NOW."""
    node = {"status": {"conditions": [{"type": "Ready", "status": "True"}]}}
    for seconds, finding in steps:
        node = applied(node, nodestatus.patch(node, Having(disks=finding), NOW + seconds))
    first, ours = node["status"]["conditions"]
    assert first["type"] == "Ready"
    return ours


def test_a_condition_changes_its_time_only_with_its_status():
    worse = Finding("True", "DiskDetached", "data: detached")

    assert conditions((0, PROBLEM), (240, worse))["lastTransitionTime"] == MOMENT
    assert conditions((0, PROBLEM), (240, worse))["lastHeartbeatTime"] == LATER
    assert conditions((0, PROBLEM), (240, WELL))["lastTransitionTime"] == LATER


def test_a_condition_has_a_heartbeat():
    ours = conditions((0, WELL), (240, WELL), (300, WELL))

    assert (ours["lastTransitionTime"], ours["lastHeartbeatTime"]) == (MOMENT, LONG_AFTER)


def test_a_heartbeat_of_another_clock_is_replaced():
    assert conditions((7200, WELL), (0, WELL))["lastHeartbeatTime"] == MOMENT


@pytest.mark.parametrize(
    "status",
    [None, [], "x", {"capacity": 3, "conditions": "no"}, {"conditions": [None, 3, {"type": None}]}],
)
def test_an_object_that_is_none_is_told_all(status):
    body = nodestatus.patch({"status": status}, Having({MEMORY: "1Gi"}, WELL), NOW)

    assert set(body["status"]) == {"capacity", "allocatable", "conditions"}


def test_what_is_not_known_is_left_as_it_is():
    assert nodestatus.patch({"status": {"capacity": {MEMORY: "5"}}}, Having(), NOW) is None
