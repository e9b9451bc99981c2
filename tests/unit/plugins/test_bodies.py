# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json

import pytest

from ansible_collections.pkgctl.testbed.plugins.module_utils import bodies
from ansible_collections.pkgctl.testbed.plugins.module_utils.errors import DisturbanceError
from ansible_collections.pkgctl.testbed.plugins.module_utils.identity import Disk

from .agents import node

PLAIN = {"rate": None, "delay": 0.0, "jitter": 0.0, "loss": 0.0}


def test_the_texts_for_links_become_numbers_for_each_way_and_peer(tmp_path):
    body = bodies.link(
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

    body = bodies.link(node(tmp_path), {"egress": egress}, {})

    assert body["egress"] == {
        "cloud-1": {**PLAIN, "delay": 0.01},
        "edge-2": {**PLAIN, "loss": 0.01},
    }


def test_what_a_layer_holds_already_stays_unless_it_is_named_again(tmp_path):
    held = {"egress": {"cloud-1": {**PLAIN, "rate": 9, "delay": 0.5}, "edge-2": {**PLAIN}}}

    body = bodies.link(node(tmp_path), {"egress": {"cloud-1": {"rate": "1mbit"}}}, held)

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
        bodies.link(node(tmp_path), options, {})

    assert str(caught.value).startswith(error)


def test_the_options_for_capacity_that_were_not_given_are_no_limits(tmp_path):
    options = {"cpu": "200m", "memory": None, "pids": 64}

    assert bodies.quota(node(tmp_path), options, {}) == {"cpu": 0.2, "pids": 64}


def test_a_limit_that_nobody_knows_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"^mem: unknown limit"):
        bodies.quota(node(tmp_path), {"mem": "1Gi"}, {})


def test_the_only_disk_of_a_node_needs_no_name(tmp_path):
    body = bodies.disk(node(tmp_path), {"condition": "readonly"}, {})

    assert body == {"data": {"condition": "readonly"}}


def test_one_disk_of_several_needs_its_name(tmp_path):
    disks = {"data": Disk("a", "/data", 1), "logs": Disk("b", "/logs", 1)}
    several = node(tmp_path, disks=disks)

    with pytest.raises(DisturbanceError, match=r"name one of the disks of edge-1 .*data, logs"):
        bodies.disk(several, {"condition": "readonly"}, {})
    with pytest.raises(DisturbanceError, match="name one of the disks of edge-1"):
        bodies.disk(several, {"condition": "readonly", "disk": "more"}, {})
    body = bodies.disk(several, {"condition": "mounted", "disk": "logs"}, {"data": {"fill": 0.5}})
    assert body == {"data": {"fill": 0.5}, "logs": {"condition": "mounted"}}


def test_all_qualities_of_a_link_become_plain_numbers(tmp_path):
    texts = {
        **{"jitter": "1ms", "distribution": [-1.0, 1.0], "loss": "2%", "burst": "5"},
        **{"duplicate": "1%", "reorder": "0.25", "corrupt": "0%", "delay": "1ms"},
    }

    body = bodies.link(node(tmp_path), {"egress": {"cloud-1": texts}}, {})

    assert json.loads(json.dumps(body["egress"]["cloud-1"])) == {
        **{"rate": None, "delay": 0.001, "jitter": 0.001, "loss": 0.02, "burst": 5.0},
        **{"distribution": [-1.0, 1.0], "duplicate": 0.01, "reorder": 0.25},
    }


def test_a_quality_that_is_set_back_leaves_no_trace(tmp_path):
    held = {"egress": {"cloud-1": {**PLAIN, "duplicate": 0.5}}}

    body = bodies.link(node(tmp_path), {"egress": {"cloud-1": {"duplicate": "0%"}}}, held)

    assert body["egress"] == {"cloud-1": PLAIN}


def test_what_a_disk_is_told_is_laid_over_what_it_was_told(tmp_path):
    held = {"data": {"condition": "unmounted", "how": "lazy", "fill": 0.5}}

    again = bodies.disk(node(tmp_path), {"condition": "mounted", "size": "1Mi"}, held)
    fuller = bodies.disk(node(tmp_path), {"fill": "90%"}, held)

    assert again == {"data": {"condition": "mounted", "fill": 0.5, "size": 1 << 20}}
    assert fuller == {"data": {"condition": "unmounted", "how": "lazy", "fill": 0.9}}


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"fill": "most"}, "fill: ratio 'most'"),
        ({"size": "64Mb"}, "size: size '64Mb'"),
        ({"how": "lazy"}, "how: says how a disk goes; needs condition unmounted or readonly"),
        ({"condition": "detached", "how": "lazy"}, "how: says how a disk goes; needs condition"),
    ],
)
def test_a_wrong_option_for_a_disk_is_refused(tmp_path, options, error):
    with pytest.raises(ValueError) as caught:
        bodies.disk(node(tmp_path), options, {})

    assert str(caught.value).startswith(error)


def test_health_and_stress_are_told_in_numbers_and_states(tmp_path):
    here = node(tmp_path)

    assert bodies.body("health", here, {"health": "paused"}, {}) == {"health": "paused"}
    assert bodies.body("stress", here, {"cpu": "500m", "memory": "1Mi", "io": 2}, {"cpu": 3}) == {
        **{"cpu": 0.5, "memory": 1 << 20, "io": 2},
    }
    with pytest.raises(ValueError, match=r"^disk: unknown stress"):
        bodies.body("stress", here, {"disk": 1}, {})
