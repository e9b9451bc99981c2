# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest

from ansible_collections.pkgctl.testbed.plugins.module_utils import parts
from ansible_collections.pkgctl.testbed.plugins.module_utils.change import Change
from ansible_collections.pkgctl.testbed.plugins.module_utils.errors import DisturbanceError
from ansible_collections.pkgctl.testbed.plugins.module_utils.identity import Disk

from .agents import node

PLAIN = {"rate": None, "delay": 0.0, "jitter": 0.0, "loss": 0.0}


def test_the_texts_for_links_become_numbers_for_each_way_and_peer(tmp_path):
    body = parts.link_body(
        node(tmp_path),
        {"egress": {"cloud-1": {"rate": "5mbit"}}, "ingress": {"cloud-1": {"delay": "40ms"}}},
        {},
    )

    assert body == {
        "egress": {"cloud-1": {**PLAIN, "rate": 5_000_000}},
        "ingress": {"cloud-1": {**PLAIN, "delay": 0.04}},
    }


def test_a_star_is_every_peer_that_is_not_listed(tmp_path):
    egress = {"*": {"delay": "10ms"}, "edge-2": {"loss": "1%"}}

    body = parts.link_body(node(tmp_path), {"egress": egress}, {})

    assert body["egress"] == {
        "cloud-1": {**PLAIN, "delay": 0.01},
        "edge-2": {**PLAIN, "loss": 0.01},
    }


def test_what_a_layer_holds_already_stays_unless_it_is_named_again(tmp_path):
    held = {"egress": {"cloud-1": {**PLAIN, "rate": 9, "delay": 0.5}, "edge-2": {**PLAIN}}}

    body = parts.link_body(node(tmp_path), {"egress": {"cloud-1": {"rate": "1mbit"}}}, held)

    assert body["egress"] == {
        "cloud-1": {**PLAIN, "rate": 1_000_000, "delay": 0.5},
        "edge-2": PLAIN,
    }
    assert held["egress"]["cloud-1"]["rate"] == 9


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"egress": {"cloud-1": {"rate": "5mbps"}}}, "egress.cloud-1.rate: rate '5mbps'"),
        ({"ingress": {"*": {"dealy": "1ms"}}}, "ingress.*.dealy: unknown quality; did you mean"),
        ({"ingress": {"edge-2": {}}}, "ingress.edge-2: {} is no quality"),
        ({"ingress": {"edge-2": "slow"}}, "ingress.edge-2: 'slow' is no quality"),
        ({"egress": ["edge-2"]}, "egress: ['edge-2'] is no mapping of peers"),
        ({"egress": {"edge-9": {"rate": "1mbit"}}}, "edge-1 has no peer 'edge-9'"),
    ],
)
def test_a_wrong_option_for_links_is_refused_with_way_peer_and_key(tmp_path, options, error):
    with pytest.raises((ValueError, DisturbanceError)) as caught:
        parts.link_body(node(tmp_path), options, {})

    assert str(caught.value).startswith(error)


def test_the_options_for_capacity_that_were_not_given_are_no_limits():
    options = {"cpu": "200m", "memory": None, "pids": 64, "force": True}

    assert parts.quota_body(options) == {"cpu": 0.2, "pids": 64}


def test_a_limit_that_nobody_knows_is_refused():
    with pytest.raises(ValueError, match=r"^mem: unknown limit"):
        parts.quota_body({"mem": "1Gi"})


def test_the_only_disk_of_a_node_needs_no_name(tmp_path):
    body = parts.disk_body(node(tmp_path), {"condition": "readonly"})

    assert body == {"disk": "data", "state": "readonly"}


def test_one_disk_of_several_needs_its_name(tmp_path):
    disks = {"data": Disk("a", "/data", 1), "logs": Disk("b", "/logs", 1)}
    several = node(tmp_path, disks=disks)

    with pytest.raises(DisturbanceError, match=r"name one of the disks of edge-1 .*data, logs"):
        parts.disk_body(several, {"condition": "readonly"})
    with pytest.raises(DisturbanceError, match="name one of the disks of edge-1"):
        parts.disk_body(several, {"condition": "readonly", "disk": "more"})
    assert parts.disk_body(several, {"condition": "mounted", "disk": "logs"})["disk"] == "logs"


def test_a_star_is_every_layer_when_it_is_taken_away_only():
    assert parts.Layer("*", present=False).stored is None
    assert parts.Layer("slow").stored == "slow"
    with pytest.raises(DisturbanceError, match=r"^layer: '\*' is no name"):
        parts.Layer("*")
    with pytest.raises(DisturbanceError, match=r"^layer: 'base' is the testbed's own layer"):
        parts.Layer("base")


def test_a_report_is_changed_if_any_part_is_and_shows_each():
    report = parts.result(
        {
            "link": Change(False, "a\n", "a\n"),
            "disk": Change(True, "data: mounted\n", "data: unmounted\n", ["data: unmounted"]),
        }
    )

    assert report["changed"] is True
    assert report["actions"] == ["data: unmounted"]
    assert [part["before_header"] for part in report["diff"]] == ["link", "disk"]
    assert report["diff"][1]["after"] == "data: unmounted\n"
