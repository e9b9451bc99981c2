# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import struct

import pytest
from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg
from pyroute2.netlink.rtnl.ndmsg import ndmsg
from pyroute2.netlink.rtnl.rtmsg import rtmsg
from pyroute2.netlink.rtnl.tcmsg import common, sched_htb, tcmsg

from ansible_collections.pkgctl.testbed.plugins.module_utils import netlink, rtnl
from ansible_collections.pkgctl.testbed.plugins.module_utils.rtnl import Queue, Rates

from .witness import framed, plain, read, written

ROOT = 0x7067 << 16
MAC, OTHER_MAC = b"\2\0\n\x4d\0\1", b"\2\0\n\x4d\0\2"


def options(message):
    return plain(read(message, tcmsg))["TCA_OPTIONS"]


class Listing:
    """A socket on which the kernel lists what it was told."""

    def __init__(self, *messages):
        self._bodies = [message.body for message in messages]

    def dump(self, kind, body, *, what):
        return self._bodies


def test_the_htb_qdisc_is_the_one_that_the_witness_asks_for():
    seen = read(rtnl.htb(3, ROOT, 2), tcmsg)

    assert (seen["index"], seen["handle"], seen["parent"]) == (3, ROOT, 0xFFFFFFFF)
    assert seen.get_attr("TCA_KIND") == "htb"
    asked = sched_htb.get_parameters({"default": 2})
    assert options(rtnl.htb(3, ROOT, 2)) == dict(asked["attrs"])


@pytest.mark.parametrize(
    ("rate", "ceil"),
    [
        (125, 125),
        (125_000, 625_000),
        (12_500_000, 125_000_000),
        ((1 << 32) - 1, (1 << 32) - 1),
        (1 << 32, 1 << 32),
        (125_000, 12_500_000_000),
    ],
)
def test_a_class_has_the_rates_bursts_and_quantum_that_the_witness_computes(rate, ceil):
    given = {"rate": rate, "ceil": ceil, "quantum": 15140}
    bursts = {"burst": rtnl.burst(rate), "cburst": rtnl.burst(ceil)}

    seen = options(rtnl.htb_class(3, ROOT, ROOT | 0x10, Rates(rate, ceil)))

    expected = dict(sched_htb.get_class_parameters({**given, **bursts})["attrs"])
    parms, wanted = seen["TCA_HTB_PARMS"], expected["TCA_HTB_PARMS"]
    # pyroute2 cuts to whole microseconds: 16 ticks.
    for key in ("buffer", "cbuffer"):
        assert parms[key] == pytest.approx(wanted.pop(key), abs=16)
    assert {key: parms[key] for key in wanted} == wanted
    for key in ("TCA_HTB_RATE64", "TCA_HTB_CEIL64"):
        assert seen.get(key) == expected.get(key)


def test_a_class_has_its_place_and_counts_ethernet_frames():
    seen = read(rtnl.htb_class(3, ROOT | 1, ROOT | 0x10, Rates(125_000, 125_000)), tcmsg)

    assert (seen["handle"], seen["parent"], seen["index"]) == (ROOT | 0x10, ROOT | 1, 3)
    parms = plain(seen)["TCA_OPTIONS"]["TCA_HTB_PARMS"]
    link_layers = {parms["rate___reserved"], parms["ceil___reserved"]}
    assert link_layers == {common.LINKLAYER_ETHERNET}


def test_a_class_is_changed_in_place_where_it_is_there():
    message = rtnl.htb_class(3, ROOT, ROOT | 1, Rates(1000, 1000))

    assert message.flags & netlink.NLM_F_CREATE
    assert not message.flags & (netlink.NLM_F_EXCL | netlink.NLM_F_REPLACE)


def test_the_burst_of_the_slowest_class_is_a_frame_and_its_ticks_fit():
    assert rtnl.burst(125) == 1514
    parms = options(rtnl.htb_class(3, ROOT, ROOT | 1, Rates(1, 1)))["TCA_HTB_PARMS"]

    assert parms["buffer"] == 0xFFFFFFFF


def test_the_leaf_is_a_token_bucket_of_the_queues_size_far_faster_than_any_class():
    message = rtnl.leaf(3, ROOT | 0x10, 0x10 << 16, Queue(32768, 3028))

    seen = read(message, tcmsg)
    assert (seen["handle"], seen["parent"]) == (0x10 << 16, ROOT | 0x10)
    assert seen.get_attr("TCA_KIND") == "tbf"
    parms = plain(seen)["TCA_OPTIONS"]["TCA_TBF_PARMS"]
    assert (parms["limit"], parms["rate"], parms["peak"]) == (32768, 0xFFFFFFFF, 0)
    # The witness does not know these two: linux/pkt_sched.h, TCA_TBF_RATE64 and TCA_TBF_BURST.
    inner = netlink.attributes(netlink.attributes(message.body, 20)[2])
    assert struct.unpack("=Q", inner[4]) == (125_000_000_000,)
    assert struct.unpack("=I", inner[6]) == (3028,)


@pytest.mark.parametrize(
    ("message", "kind", "handle"),
    [
        (rtnl.delete_root(3, ROOT), "RTM_DELQDISC", ROOT),
        (rtnl.delete_class(3, ROOT | 5), "RTM_DELTCLASS", ROOT | 5),
    ],
)
def test_a_deletion_names_what_goes(message, kind, handle):
    seen = read(message, tcmsg)

    assert rtnl_name(message.kind) == kind
    assert (seen["index"], seen["handle"]) == (3, handle)


def rtnl_name(kind):
    from pyroute2.netlink import rtnl as witness

    return next(name for name, number in vars(witness).items() if number == kind and "RTM" in name)


def test_a_veth_pair_has_its_far_end_in_the_other_namespace():
    near, far = rtnl.End("p0-1", MAC), rtnl.End("eth0", OTHER_MAC, namespace=9)

    seen = read(rtnl.veth(near, far, mtu=1500), ifinfmsg)

    assert (seen["flags"], seen["change"]) == (1, 1)
    assert plain(seen) == {
        "IFLA_IFNAME": "p0-1",
        "IFLA_ADDRESS": "02:00:0a:4d:00:01",
        "IFLA_MTU": 1500,
        "IFLA_LINKINFO": {
            "IFLA_INFO_KIND": "veth",
            "IFLA_INFO_DATA": {
                "VETH_INFO_PEER": {
                    "IFLA_IFNAME": "eth0",
                    "IFLA_ADDRESS": "02:00:0a:4d:00:02",
                    "IFLA_MTU": 1500,
                    "IFLA_NET_NS_FD": 9,
                }
            },
        },
    }


def test_links_go_up_and_away():
    up, gone = (read(make(4), ifinfmsg) for make in (rtnl.link_up, rtnl.delete_link))

    assert (up["index"], up["flags"], up["change"]) == (4, 1, 1)
    assert (gone["index"], rtnl_name(gone["header"]["type"])) == (4, "RTM_DELLINK")


def test_a_route_through_a_gateway_is_the_witnesss_byte_for_byte():
    fields = {"family": 2, "dst_len": 16, "table": 254, "proto": 4, "scope": 0, "type": 1}
    parts = [("RTA_DST", "10.77.0.0"), ("RTA_OIF", 3), ("RTA_GATEWAY", "10.77.255.254")]

    ours = rtnl.route(3, "10.77.0.0/16", "10.77.255.254")

    # RTNH_F_ONLINK: the gateway is outside every network that the link has a route to.
    assert ours.body == written(rtmsg, {**fields, "flags": 4}, parts)


def test_a_route_without_a_gateway_is_of_link_scope():
    seen = read(rtnl.route(3, "10.77.0.2/32"), rtmsg)

    assert (seen["dst_len"], seen["scope"], seen["flags"]) == (32, 253, 0)
    assert plain(seen) == {"RTA_DST": "10.77.0.2", "RTA_OIF": 3}


def test_a_neighbour_is_the_witnesss_byte_for_byte_and_never_asked_for():
    fields = {"family": 2, "ifindex": 3, "state": 0x80}
    parts = [("NDA_DST", "10.77.0.2"), ("NDA_LLADDR", "02:00:0a:4d:00:02")]

    assert rtnl.neighbour(3, "10.77.0.2", OTHER_MAC).body == written(ndmsg, fields, parts)


def test_an_address_is_the_witnesss_byte_for_byte_and_makes_no_route():
    fields = {"family": 2, "prefixlen": 16, "index": 3}
    parts = [("IFA_LOCAL", "10.77.0.1"), ("IFA_ADDRESS", "10.77.0.1"), ("IFA_FLAGS", 0x200)]

    assert rtnl.address(3, "10.77.0.1/16").body == written(ifaddrmsg, fields, parts)


def test_an_address_of_version_6_has_its_family():
    seen = read(rtnl.address(3, "fd00::1/64"), ifaddrmsg)

    assert (seen["family"], seen["prefixlen"]) == (10, 64)
    assert seen.get_attr("IFA_LOCAL") == "fd00::1"


@pytest.mark.parametrize(
    "rates", [Rates(125, 625_000), Rates(625_000, 1 << 33), Rates(1 << 32, 1 << 40)]
)
def test_classes_are_read_back_as_they_were_set(rates):
    listing = Listing(rtnl.htb_class(3, ROOT, ROOT | 0x10, rates))

    assert rtnl.classes(listing, 3) == {ROOT | 0x10: rates}


def test_disciplines_are_read_back_and_those_of_other_links_left_out():
    listing = Listing(
        rtnl.htb(3, ROOT, 0),
        rtnl.leaf(3, ROOT | 0x10, 0x10 << 16, Queue(50_000, 9000)),
        rtnl.htb(4, ROOT, 0),
    )

    assert rtnl.disciplines(listing, 3) == [
        rtnl.Discipline("htb", ROOT, rtnl.ROOT),
        rtnl.Discipline("tbf", 0x10 << 16, ROOT | 0x10, Queue(50_000)),
    ]


def test_links_are_listed_by_name():
    listing = Listing(rtnl.veth(rtnl.End("p0-1", MAC), rtnl.End("eth0", OTHER_MAC), mtu=1500))

    assert rtnl.link_indexes(listing) == {"p0-1": 0}


def test_a_frame_says_its_own_length():
    message = rtnl.link_up(4)

    assert struct.unpack_from("=I", framed(message)) == (len(framed(message)),)


def test_a_handle_is_shown_as_tc_writes_it():
    assert rtnl.show_handle(ROOT | 0x10) == "7067:10"
