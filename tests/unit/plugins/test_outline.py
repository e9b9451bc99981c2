# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest

from ansible_collections.pkgctl.testbed.plugins.module_utils import channel, outline


def step(node="edge-1", kind="link", layer="slow", **changes):
    times = {"start": 1.0, "duration": 5.0, "seed": 3, "trace": 10_000, "lease": None}
    body = {"egress": {"cloud-1": {"rate": 5_000_000}}} if kind == "link" else {"cpu": 0.2}
    known = {"node": node, "kind": kind, "layer": layer, "body": body, "times": times}
    return {**known, "on": True, "next": 6.0, "ends": 6.0, "since": 1.0, **changes}


def timeline(*steps, name="slow", state="running"):
    return {"timeline": name, "state": state, "t0": 0.0, "steps": list(steps)}


def test_parts_that_act_alike_are_one():
    steps = [step(), step("edge-2"), step("edge-2", "quota")]

    found = outline.layers([timeline(*steps)], [])["layers"]

    assert found == [
        {
            "timeline": "slow",
            "state": "running",
            "t0": 0.0,
            "layer": "slow",
            "on": True,
            "next": 6.0,
            "ends": 6.0,
            "since": 1.0,
            "nodes": ["edge-1", "edge-2"],
            "kinds": ["link", "quota"],
            "setting": "",
            "times": {
                "start": 1.0,
                "duration": 5.0,
                "repeat": None,
                "flap": None,
                "when": None,
                "after": None,
            },
        }
    ]


@pytest.mark.parametrize("change", [{"on": False}, {"next": 9.0}, {"ends": None}, {"layer": "x"}])
def test_parts_that_differ_stay_apart(change):
    assert len(outline.layers([timeline(step(), step("b", **change))], [])["layers"]) == 2


def test_what_is_not_in_force_says_what_it_will_be():
    waiting = [step(on=False), step(on=False, kind="quota")]

    found = outline.layers([timeline(*waiting, state="armed")], [])["layers"]

    assert [(part["state"], part["setting"]) for part in found] == [("armed", "5mbit; cpu 0.2")]


def test_of_a_layers_leases_the_first_to_run_out_is_told():
    leases = [
        {"node": node, "layer": layer, "seconds": seconds, "ends": ends}
        for node, layer, seconds, ends in (
            ("a", "slow", 600.0, 90.0),
            ("b", "slow", 600.0, 80.0),
            ("a", "kept", None, None),
            ("b", "kept", 10.0, 50.0),
        )
    ]

    assert outline.layers([], leases)["leases"] == [
        {"layer": "slow", "seconds": 600.0, "ends": 80.0},
        {"layer": "kept", "seconds": 10.0, "ends": 50.0},
    ]


def test_many_layers_on_many_nodes_fit_a_message():
    steps = [
        step(f"node-{node}", layer=f"layer-{layer}") for layer in range(200) for node in range(100)
    ]

    encoded = channel.encode(outline.layers([timeline(*steps)], []))

    assert len(encoded) < channel.LONGEST / 2
