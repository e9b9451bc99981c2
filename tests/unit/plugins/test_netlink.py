# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import struct

import pytest
from pyroute2.netlink import nlmsg

from ansible_collections.pkgctl.testbed.plugins.module_utils import netlink
from ansible_collections.pkgctl.testbed.plugins.module_utils.netlink import Message

from .witness import plain, read


class EveryKind(nlmsg):
    """A message with an attribute of each kind that we write."""

    fields = (("family", "I"),)
    nla_map = (
        ("NONE", "none"),
        ("BYTE", "uint8"),
        ("SHORT", "uint16"),
        ("WORD", "uint32"),
        ("LONG", "uint64"),
        ("NETWORK", "be32"),
        ("TEXT", "asciiz"),
        ("RAW", "cdata"),
        ("INNER", "inner"),
    )

    class inner(nlmsg):  # noqa: N801 - pyroute2 finds it by this name
        nla_map = (("NONE", "none"), ("WORD", "uint32"))


def test_each_kind_of_attribute_is_read_by_the_witness_as_it_was_meant():
    body = struct.pack("=I", 5) + b"".join(
        [
            netlink.u32(3, 4_000_000_000),
            netlink.u64(4, 1 << 40),
            netlink.be32(5, 7067),
            netlink.text(6, "edge-1"),
            netlink.attribute(7, b"abcde"),
        ]
    )

    seen = read(Message(99, 0, body), EveryKind)

    assert plain(seen) == {
        "WORD": 4_000_000_000,
        "LONG": 1 << 40,
        "NETWORK": 7067,
        "TEXT": "edge-1",
        "RAW": b"abcde",
    }


@pytest.mark.parametrize("length", range(9))
def test_an_attribute_is_padded_to_four_bytes_and_read_back_without_the_padding(length):
    payload = b"x" * length

    packed = netlink.attribute(3, payload)

    assert len(packed) % 4 == 0
    assert netlink.attributes(packed) == {3: payload}


def test_nested_attributes_are_read_back_without_their_flag():
    packed = netlink.nested(2, netlink.u32(1, 10), netlink.text(4, "htb"))

    assert struct.unpack_from("=H", packed, 2)[0] == 2 | 0x8000
    inner = netlink.attributes(netlink.attributes(packed)[2])
    assert inner == {1: struct.pack("=I", 10), 4: b"htb\0"}


def test_attributes_of_one_type_are_listed_in_order():
    packed = netlink.attribute(1, b"\1") + netlink.attribute(1, b"\2")

    assert list(netlink.attribute_list(packed)) == [(1, b"\1"), (1, b"\2")]


def test_a_broken_attribute_ends_the_list():
    packed = netlink.attribute(1, b"\1") + struct.pack("=HH", 0, 9) + netlink.attribute(2, b"\2")

    assert list(netlink.attribute_list(packed)) == [(1, b"\1")]
