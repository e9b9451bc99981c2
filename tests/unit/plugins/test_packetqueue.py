# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import struct

import pytest

from ansible_collections.pkgctl.testbed.plugins.module_utils import netlink, packetqueue
from ansible_collections.pkgctl.testbed.plugins.module_utils.packetqueue import PacketQueue


class Socket:
    """A netlink socket that notes what is asked of it."""

    def __init__(self, _):
        self.socket = self
        self.requests = []
        self.sent = []

    def setsockopt(self, *_):
        pass

    def setblocking(self, _):
        pass

    def recv(self, _):
        raise BlockingIOError

    def request(self, messages):
        self.requests += messages

    def send(self, data):
        self.sent.append(data)


@pytest.fixture
def sockets(monkeypatch):
    made = []
    monkeypatch.setattr(packetqueue, "Socket", lambda kind: made.append(Socket(kind)) or made[-1])
    return made


def message(packet, *before):
    head = struct.pack("=IHHII", 0, 3 << 8, 0, 0, 0) + b"\0" * 4
    number = netlink.attribute(1, struct.pack(">IHB", 77, 0x800, 0))
    parts = [netlink.attribute(kind, content) for kind, content in before]
    # The last attribute has no padding.
    return head + number + b"".join(parts) + struct.pack("=HH", 4 + len(packet), 10) + packet


def settings(socket):
    parts = [netlink.attributes(each.body, 4) for each in socket.requests]
    return {kind: content for part in parts for kind, content in part.items()}


def test_of_most_packets_a_few_bytes_are_copied_and_super_packets_stay_whole(sockets):
    PacketQueue(7067, 20)

    found = settings(sockets[0])
    assert found[2] == struct.pack(">IB", 20, 2)
    assert (found[4], found[5]) == (struct.pack(">I", 4), struct.pack(">I", 4))


def test_whole_frames_are_copied_each_by_itself(sockets):
    queue = PacketQueue(7065, None)

    found = settings(sockets[0])
    assert found[2] == struct.pack(">IB", 0xFFFF, 2)
    assert (found[4], found[5]) == (struct.pack(">I", 4), struct.pack(">I", 0))
    assert queue.room > 0xFFFF


@pytest.mark.parametrize(("name", "verdict"), [("accept", 1), ("drop", 0)])
def test_a_verdict_names_its_packet_and_its_queue(sockets, name, verdict):
    data = getattr(PacketQueue(7066, 40), name) + struct.pack(">I", 77)

    length, kind = struct.unpack_from("=IH", data)
    assert (length, kind) == (len(data), 3 << 8 | 1)
    assert struct.unpack_from(">BBH", data, 16) == (0, 0, 7066)
    assert struct.unpack_from("=HH", data, 20) == (12, 2)
    assert struct.unpack_from(">II", data, 24) == (verdict, 77)


@pytest.mark.parametrize("size", [20, 21, 1500])
def test_a_verdict_may_hold_another_packet(sockets, size):
    data = PacketQueue(7065, None).accept_as(struct.pack(">I", 77), b"x" * size)

    assert struct.unpack_from("=I", data)[0] == len(data) == 32 + 4 + (size + 3) // 4 * 4
    assert netlink.attributes(data, 20)[10] == b"x" * size
    assert struct.unpack_from(">II", data, 24) == (1, 77)


def test_many_verdicts_are_few_system_calls(sockets):
    queue = PacketQueue(7067, 20)
    queue.ready += [queue.accept + struct.pack(">I", number) for number in range(600)]

    queue.flush()

    assert [len(each) // 32 for each in sockets[0].sent] == [256, 256, 88]
    assert queue.ready == []


def test_a_packet_is_found_wherever_it_is_in_its_message(sockets):
    queue = PacketQueue(7065, None)
    usual = ((5, b"1234"), (9, b"x" * 12))

    for packet in (b"a" * 20, b"b" * 61, b"c" * 1500, b"d"):
        for before in (usual, usual, (), ((3, b"mark"), *usual)):
            assert queue.packet(message(packet, *before)) == packet


@pytest.mark.parametrize("content", [b"", b"\0" * 5, b"\0" * 64, b"\1\0\1\0" * 9, b"\xff" * 80])
def test_a_message_without_a_packet_has_none(sockets, content):
    assert PacketQueue(7065, None).packet(content) == b""


def test_words_about_a_verdict_are_no_packets():
    assert packetqueue.is_packet(message(b"x"))
    assert not packetqueue.is_packet(struct.pack("=IHHIIi", 36, 2, 0, 0, 0, 0))
    assert not packetqueue.is_packet(b"")
