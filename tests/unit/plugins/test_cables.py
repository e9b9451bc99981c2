# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from ansible_collections.pkgctl.testbed.plugins.module_utils import cables
from ansible_collections.pkgctl.testbed.plugins.module_utils.cables import Way

from .agents import node

ADDRESSES = {"address": "10.77.1.2", "network": "10.77.0.0/16", "address6": "fd77:7067::102"}


def test_the_way_to_all_others_is_the_switch_in_both_networks(tmp_path):
    both = cables.ways(node(tmp_path, **ADDRESSES))

    assert both == [
        Way("10.77.1.2", "10.77.0.0/16", "10.77.255.254"),
        Way("fd77:7067::102", "fd77:7067::/64", "fd77:7067::fffe"),
    ]
    assert [way.length for way in both] == ["16", "64"]
    assert cables.ways(node(tmp_path, **{**ADDRESSES, "address6": ""})) == both[:1]


def test_a_hardware_address_is_made_of_the_address():
    assert cables.hardware("10.77.1.2").hex(":") == "02:00:0a:4d:01:02"


def test_others_are_known_by_their_cards_in_both_networks(tmp_path):
    here = node(tmp_path, **ADDRESSES, peers={"b": "10.77.0.2"}, peers6={"b": "fd77:7067::2"})

    mac = cables.hardware("10.77.0.2")
    assert cables.beyond(here) == {"10.77.0.2": mac, "fd77:7067::2": mac}


def test_a_node_is_told_its_addresses_the_way_and_the_switch(tmp_path):
    told = [message.what for message in cables.settled(node(tmp_path, **ADDRESSES), 7)]

    assert told == [
        "set link 1 up",
        "set link 7 up",
        "set address 10.77.1.2/16",
        "set the route to 10.77.0.0/16",
        "set the neighbour 10.77.255.254",
        "set address fd77:7067::102/64",
        "set the route to fd77:7067::/64",
        "set the neighbour fd77:7067::fffe",
    ]


def test_the_switch_is_told_the_way_to_a_node():
    told = [each.what for each in cables.toward(["10.77.1.2", "fd77:7067::102"], 3, b"\2" * 6)]

    assert told == [
        "set the route to 10.77.1.2/32",
        "set the neighbour 10.77.1.2",
        "set the route to fd77:7067::102/128",
        "set the neighbour fd77:7067::102",
    ]
