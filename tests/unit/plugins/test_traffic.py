# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import struct

import pytest

from ansible_collections.pkgctl.testbed.plugins.module_utils import netlink, shaping, traffic
from ansible_collections.pkgctl.testbed.plugins.module_utils.errors import AgentError, KernelError

from .agents import node


def class_body(classid, count, packets, drops, *, wide=False, queue=True, statistics=True):
    """Return a class as the kernel lists it: kind, options, statistics new and old."""
    basic = netlink.attribute(1, struct.pack("=QIxxxx", count, packets))
    waiting = netlink.attribute(3, struct.pack("=IIIII", 1, 1500, drops, 0, 7))
    inner = basic + (waiting if queue else netlink.attribute(2, bytes(20)))
    parts = [
        netlink.text(1, "htb"),
        netlink.nested(2, netlink.attribute(1, bytes(44)), *([netlink.u64(6, 1)] if wide else [])),
        netlink.attribute(7, inner) if statistics else b"",
        netlink.attribute(3, bytes(36)),
        netlink.attribute(4, bytes(20)),
    ]
    return struct.pack("=BxxxiIII", 0, 5, classid, shaping.ROOT, 0) + b"".join(parts)


def test_counters_are_read_from_each_class():
    listing = [
        class_body(0x70670010, 1 << 40, 7, 3),
        class_body(0x70670011, 0, 0, 0),
        class_body(0x70670012, 1500, 1, 0, wide=True),
    ]

    assert traffic.carried(listing) == {
        0x70670010: (1 << 40, 7, 3),
        0x70670011: (0, 0, 0),
        0x70670012: (1500, 1, 0),
    }


def test_a_class_without_a_queue_of_its_own_has_no_drops():
    assert traffic.carried([class_body(1, 10, 1, 9, queue=False)]) == {1: (10, 1, 0)}


@pytest.mark.parametrize("body", [class_body(1, 1, 1, 1, statistics=False), bytes(20), bytes(28)])
def test_what_has_no_statistics_is_passed_over(body):
    assert traffic.carried([body]) == {}


def test_a_message_cut_short_is_passed_over():
    whole = class_body(1, 1, 1, 1)

    for end in range(20, len(whole)):
        assert traffic.carried([whole[:end]]) in ({}, {1: (1, 1, 1)})


@pytest.fixture
def pairs(tmp_path, monkeypatch):
    """The pairs of a node with two peers, whose kernel lists a class for one of them."""
    folder = tmp_path / "nodes" / "edge-1"
    folder.mkdir(parents=True)
    here = node(folder)
    made = traffic.Pairs(tmp_path, lambda _: here)
    minor = shaping.peer_class(here, "cloud-1")
    listing = [class_body(shaping.ROOT | 1, 99, 9, 9), class_body(shaping.ROOT | minor, 5, 2, 1)]
    monkeypatch.setattr(made, "_dump", lambda *_: listing)
    return made


def test_a_pair_is_its_ends_and_counters_and_other_classes_are_no_pairs(pairs):
    answer = pairs.read({})

    assert answer["pairs"] == [["edge-1", "cloud-1", 5, 2, 1]]
    assert answer["mono"] > 0
    assert pairs.read({"nodes": ["edge-1"]})["pairs"] == answer["pairs"]
    assert pairs.read({"nodes": []})["pairs"] == []


def test_a_node_that_is_not_there_is_refused(pairs):
    with pytest.raises(AgentError, match="no node 'edge-9'"):
        pairs.read({"nodes": ["edge-9"]})


def test_a_node_that_goes_away_has_no_pairs(pairs, monkeypatch):
    def gone(*_):
        raise KernelError("find link eth0", 19)

    monkeypatch.setattr(pairs, "_dump", gone)

    assert pairs.read({})["pairs"] == []
