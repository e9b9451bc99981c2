# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import random

import pytest

from ansible_collections.pkgctl.testbed.plugins.module_utils import packets

ENDS4, ENDS6 = bytes([10, 77, 0, 1, 10, 77, 0, 2]), bytes([0xFD, 0x77, *[0] * 13, 1]) * 2


def ipv4(payload=b"hello", options=b"", ttl=64):
    head = bytes([0x45 + len(options) // 4, 0, 0, 0, 0, 0, 0, 0, ttl, 17, 0, 0])
    return head + ENDS4 + options + payload


def ipv6(payload=b"hello", hops=64):
    return bytes([0x60, 0, 0, 0, 0, len(payload), 17, hops]) + ENDS6 + payload


@pytest.mark.parametrize(
    ("packet", "start"), [(ipv4(), 20), (ipv4(options=b"\1" * 8), 28), (ipv6(), 40)]
)
def test_damage_is_one_bit_behind_the_header(packet, start):
    source = random.Random(1)
    places = set()
    for _ in range(400):
        changed = packets.damaged(packet, source)
        difference = int.from_bytes(changed, "big") ^ int.from_bytes(packet, "big")
        assert difference.bit_count() == 1
        assert changed[:start] == packet[:start]
        places.add(difference)

    assert len(places) == 8 * len(b"hello")


@pytest.mark.parametrize("packet", [ipv4(b""), ipv6(b""), ipv4()[:10]])
def test_a_packet_with_nothing_behind_its_header_stays_as_it_is(packet):
    assert packets.damaged(packet, random.Random(1)) == packet


@pytest.mark.parametrize(("packet", "place"), [(ipv4(), 8), (ipv6(), 7)])
def test_a_copy_has_gone_one_hop_further(packet, place):
    copy = packets.forwarded(packet)

    assert copy[place] == 63
    assert copy[:place] + copy[place + 1 :] == packet[:place] + packet[place + 1 :]


@pytest.mark.parametrize("packet", [ipv4(ttl=1), ipv6(hops=1), ipv4(ttl=0)])
def test_a_packet_at_its_last_hop_has_no_copy(packet):
    assert packets.forwarded(packet) == b""


def test_the_destination_is_read_from_the_header():
    assert packets.destination(ipv4()) == "10.77.0.2"
    assert packets.destination(ipv6()) == "fd77::1"
