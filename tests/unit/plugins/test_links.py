# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from ansible_collections.pkgctl.testbed.plugins.module_utils import layers, links
from ansible_collections.pkgctl.testbed.plugins.module_utils.links import Wanted
from ansible_collections.pkgctl.testbed.plugins.module_utils.quality import Quality

MBIT = 1_000_000


def asked(egress=None, ingress=None):
    return Wanted(egress or {}, ingress or {})


def test_layers_add_up_per_peer_and_direction():
    one = links.body({"cloud-1": Quality(rate=5 * MBIT, delay=0.01)}, {})
    two = links.body({"cloud-1": Quality(delay=0.02)}, {"edge-2": Quality(loss=0.5)})

    total = links.wanted({layers.BASE: one, "slow": two})

    assert total.egress == {"cloud-1": Quality(rate=5 * MBIT, delay=0.03)}
    assert total.ingress == {"edge-2": Quality(loss=0.5)}


def test_a_peer_that_nothing_is_asked_of_is_left_out():
    assert links.wanted({layers.BASE: links.body({"cloud-1": Quality()}, {})}) == asked()


def test_equal_qualities_of_a_layer_share_one_dictionary():
    same = links.body({"a": Quality(delay=0.1), "b": Quality(delay=0.1)}, {})["egress"]

    assert same["a"] is same["b"]
