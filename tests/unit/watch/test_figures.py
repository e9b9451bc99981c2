# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json

import pytest

from pkgctl.nodeside import Quality
from pkgctl.watch import figures
from pkgctl.watch.figures import Carried
from tests.unit.watch.made import picture

ROW = {
    "node": "edge-1",
    "job": None,
    "cpu_seconds": 1.0,
    "throttled_seconds": 0.0,
    "memory_bytes": 1000,
    "rx_bytes": 100,
    "tx_bytes": 200,
    "read_bytes": 0,
    "write_bytes": 50,
}


def sample(mono, *rows):
    return {"mono": mono, "rows": [{**ROW, **row} for row in rows]}


def test_rates_are_differences_over_the_time_between_two_samples():
    before = sample(10.0, {})
    after = sample(12.0, {"cpu_seconds": 1.5, "throttled_seconds": 0.2, "rx_bytes": 1100})

    used = figures.use(before, after)["edge-1"]

    assert used["cpu"] == pytest.approx(0.25)
    assert used["throttled"] == pytest.approx(0.1)
    assert used["rx"] == pytest.approx(4000.0)
    assert (used["tx"], used["write"], used["memory"]) == (0.0, 0.0, 1000)


def test_jobs_are_counted_for_their_node():
    rows = ({}, {"job": "web-0"}, {"job": "web-1"}, {"node": "edge-2"})

    used = figures.use(None, sample(1.0, *rows))

    assert {name: each["jobs"] for name, each in used.items()} == {"edge-1": 2, "edge-2": 0}


def test_what_a_single_sample_cannot_tell_is_not_known():
    used = figures.use(None, sample(1.0, {}))["edge-1"]

    assert (used["cpu"], used["rx"], used["memory"]) == (None, None, 1000)


def test_a_counter_that_began_anew_gives_no_rate():
    used = figures.use(sample(1.0, {"rx_bytes": 500}), sample(2.0, {"rx_bytes": 100}))["edge-1"]

    assert used["rx"] is None


def test_a_node_that_is_new_has_no_rates_yet():
    used = figures.use(sample(1.0, {}), sample(2.0, {}, {"node": "edge-2"}))

    assert used["edge-2"]["cpu"] is None


def test_disks_that_nobody_counts_have_no_rate():
    bare = {"read_bytes": None}

    assert figures.use(sample(1.0, bare), sample(2.0, bare))["edge-1"]["read"] is None


SHAPED = Quality(rate=5_000_000)
ASKED = {"a": {"b": SHAPED, "c": Quality(delay=0.01)}, "b": {"a": SHAPED}}
BEFORE = {("a", "b"): Carried(1000, 10, 0, 1.0), ("b", "a"): Carried(0, 0, 0, 1.0)}
AFTER = {("a", "b"): Carried(2000, 18, 2, 3.0), ("b", "a"): Carried(9000, 6, 0, 3.0)}


def test_the_busiest_links_come_first_with_what_they_carried():
    found = figures.links(ASKED, {}, BEFORE, AFTER)

    assert [(link.src, link.dst, link.seen) for link in found] == [
        ("b", "a", 36000.0),
        ("a", "b", 4000.0),
        ("a", "c", None),
    ]
    assert [link.dropped for link in found] == [0.0, 0.2, None]


def test_disturbed_links_come_before_other_idle_ones():
    found = figures.links(ASKED, {"a": {"c"}}, {}, {})

    assert next((link.src, link.dst, link.disturbed) for link in found) == ("a", "c", True)


def test_a_class_that_was_made_anew_gives_no_rate():
    again = {("a", "b"): Carried(10, 1, 0, 3.0)}

    assert all(link.seen is None for link in figures.links(ASKED, {}, BEFORE, again))


def test_an_idle_link_has_no_share_of_drops():
    later = {("a", "b"): Carried(1000, 10, 0, 3.0)}

    found = {link.dst: link for link in figures.links({"a": ASKED["a"]}, {}, BEFORE, later)}

    assert (found["b"].seen, found["b"].dropped) == (0.0, None)


def test_losses_are_shares_of_the_packets_that_were_met():
    found = figures.links({"a": ASKED["a"]}, {}, {}, {})

    seen = figures.with_losses(found, {("a", "b"): (200, 5), ("a", "c"): (0, 0)})

    assert [(link.dst, link.lost, link.met) for link in seen] == [("b", 0.025, 200), ("c", None, 0)]


def test_a_picture_goes_to_json():
    facts = json.loads(json.dumps(picture(3).to_dict()))

    assert facts["nodes"][1]["name"] == "edge-1"
    assert facts["links"][0]["asked"]["rate"] == 5_000_000
    assert facts["layers"][0]["left"] == "30s left"
