# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json

import pytest

from pkgctl.nodeside import Quality
from pkgctl.watch import layering
from pkgctl.watch.layering import Asked, Times

NOW = 100.0
SLOW = Quality(rate=5_000_000, delay=0.04).to_dict()
STORES = {
    "edge-1": {
        "link": {"base": {}, "slow": {"egress": {"cloud-1": SLOW}, "ingress": {"cloud-1": SLOW}}},
        "quota": {"base": {"cpu": 1.0}, "starved": {"cpu": 0.2, "memory": 64 << 20}},
    },
    "cloud-1": {
        "link": {"slow": {"egress": {"edge-1": SLOW}, "ingress": {"edge-1": SLOW}}},
        "disk": {"slow": {"data": {"condition": "detached"}}},
    },
    "edge-2": {"health": {"down": {"health": "crashed"}}},
}


def part(**changes):
    times = {"start": 0.0, "duration": None, "repeat": None, "flap": None, "when": None}
    times |= {"after": None, **changes.pop("times", {})}
    return {
        "layer": "slow",
        "timeline": "slow",
        "state": "running",
        "t0": 90.0,
        "nodes": ["edge-1"],
        "kinds": ["link"],
        "setting": "5mbit",
        "times": times,
        "on": True,
        "next": None,
        "ends": None,
        "since": 90.0,
        **changes,
    }


def outline(*parts, leases=()):
    return {"layers": list(parts), "leases": list(leases)}


def left(*parts, leases=()):
    known = layering.listing({}, outline(*parts, leases=leases), NOW, 3)
    return known[0].left(NOW)


def test_a_layer_is_its_kinds_nodes_place_and_setting():
    asked = layering.asked(STORES, 3)

    assert set(asked) == {"slow", "starved", "down"}
    assert asked["slow"] == Asked(
        ("link", "disk"),
        ("edge-1", "cloud-1"),
        "cloud-1 <-> edge-1; cloud-1",
        "5mbit 40ms; data detached",
    )
    assert asked["starved"].setting == "cpu 0.2 memory 64Mi"
    assert asked["down"] == Asked(("health",), ("edge-2",), "edge-2", "crashed")


@pytest.mark.parametrize(
    ("known", "text"),
    [
        (part(ends=142.0, times={"duration": 52.0}), "42s left"),
        (part(), "until healed"),
        (part(on=False, since=103.0, next=103.0, ends=113.0), "begins in 3.0s, for 10s"),
        (part(on=False, since=103.0, next=103.0), "begins in 3.0s"),
        (part(times={"flap": {"on": 1.0}}, next=101.2, ends=130.0), "off in 1.2s, 30s left"),
        (part(times={"flap": {"on": 1.0}}, on=False, next=100.8), "on in 0.8s"),
        (
            part(times={"repeat": {"period": 20.0}}, on=False, next=112.0, ends=150.0),
            "on in 12s, 50s left",
        ),
        (part(state="armed", t0=None, since=None, on=False), "armed"),
        (part(times={"when": "requests > 9"}, since=None, on=False), "waits for requests > 9"),
        (part(times={"after": "cut + 5s"}, since=None, on=False), "waits for the end of cut + 5s"),
        (part(times={"when": "requests > 9"}, since=95.0, ends=120.0), "20s left"),
        # The next step of a ramp is no turn.
        (part(times={"ramp": {"seconds": 5.0}}, next=100.1, ends=120.0), "20s left"),
    ],
)
def test_what_is_left_of_a_layers_time(known, text):
    assert left(known) == text


def test_a_lease_is_told_beside_a_timeline():
    lease = {"layer": "slow", "seconds": 600.0, "ends": 652.0}

    known = layering.listing(
        {"slow": Asked(("link",), ("a",), "a", "x")}, outline(leases=[lease]), NOW, 3
    )
    assert known[0].left(NOW) == "lease 9m12s"
    assert known[0].times.since == 52.0
    assert left(part(), leases=[lease]) == "lease 9m12s"


def test_a_lease_without_an_end_keeps_a_layer_until_it_is_healed():
    lease = {"layer": "slow", "seconds": None, "ends": None}

    assert left(part(), leases=[lease]) == "until healed"


def test_parts_on_several_nodes_count_as_one_and_the_earliest_end_holds():
    parts = [
        part(ends=150.0),
        part(nodes=["b"], ends=140.0),
        part(on=False, since=101.0, next=101.0),
    ]

    known = layering.times(outline(*parts), NOW)

    assert known["slow"] == Times(since=90.0, ends=140.0, timeline="slow")


def test_without_an_agent_layers_are_listed_and_their_times_are_not_known():
    known = layering.listing(layering.asked(STORES, 3), None, NOW, 3)

    assert [layer.name for layer in known] == ["down", "slow", "starved"]
    assert {layer.left(NOW) for layer in known} == {"?"}
    assert known[0].to_dict(NOW)["state"] is None


def test_an_armed_layer_is_listed_before_it_is_stored():
    waiting = part(
        layer="late", state="armed", t0=None, since=None, on=False, nodes=["a", "b", "c"]
    )

    known = layering.listing(layering.asked(STORES, 3), outline(waiting), NOW, 3)

    late = next(layer for layer in known if layer.name == "late")
    assert (late.asked.where, late.asked.setting) == ("all 3", "5mbit")


def test_a_stored_layer_of_which_the_agent_knows_nothing_stays_until_healed():
    known = layering.listing(layering.asked(STORES, 3), outline(), NOW, 3)

    assert {layer.left(NOW) for layer in known} == {"until healed"}


def test_a_layer_goes_to_json_with_seconds_from_now():
    known = layering.listing({}, outline(part(ends=142.0)), NOW, 3)[0].to_dict(NOW)

    assert json.loads(json.dumps(known)) == {
        "name": "slow",
        "kinds": ["link"],
        "nodes": ["edge-1"],
        "where": "edge-1",
        "setting": "5mbit",
        "state": "on",
        "age": 10.0,
        "turns_in": None,
        "ends_in": 42.0,
        "lease_in": None,
        "waits_for": None,
        "timeline": "slow",
        "left": "42s left",
    }
