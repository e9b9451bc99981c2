# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
import random
import socket
import struct

import pytest
from scipy.stats import binom

from ansible_collections.pkgctl.testbed.plugins.module_utils import channel, netlink, nftables
from ansible_collections.pkgctl.testbed.plugins.module_utils.delayline import DelayLine
from ansible_collections.pkgctl.testbed.plugins.module_utils.loop import Loop
from ansible_collections.pkgctl.testbed.plugins.module_utils.packetqueue import PacketQueue
from ansible_collections.pkgctl.testbed.plugins.module_utils.quality import Quality
from ansible_collections.pkgctl.testbed.plugins.module_utils.treatment import Treatment

MS = 1_000_000
HOUR = 3600.0
PAIR, OTHER = nftables.key("10.77.0.1", "10.77.0.2"), nftables.key("10.77.0.3", "10.77.0.2")
PAIR6 = nftables.key("fd77::1", "fd77::2")
ACCEPT, DROP = b"accept", b"drop"


class Queue:
    """A kernel's packet queue that holds what a test put there, and notes the verdicts."""

    accept, drop, room = ACCEPT, DROP, 1 << 17
    packet = PacketQueue.packet

    def __init__(self):
        self.ends = socket.socketpair()
        self.packets, self.ready, self.verdicts, self._start = [], [], [], 0

    def fileno(self):
        return self.ends[0].fileno()

    def receive(self, _):
        if not self.packets:
            raise BlockingIOError
        return self.packets.pop(0)

    def accept_as(self, number, packet):
        return b"as" + number + packet

    def flush(self):
        self.verdicts += self.ready
        self.ready.clear()

    def given(self, verdict):
        """Return the ids that got a verdict."""
        return [
            struct.unpack(">I", each[len(verdict) :])[0]
            for each in self.verdicts
            if each.startswith(verdict)
        ]


class Sets:
    def __init__(self):
        self.known = {}

    def members(self):
        return self.known

    def toward(self, ends):
        return {key: name for key, name in self.known.items() if key[len(key) // 2 :] in ends}

    def change(self, wanted):
        self.known = {key: name for key, name in {**self.known, **wanted}.items() if name}


class Switch:
    """The switch's side of the delay line, without a kernel."""

    def __init__(self):
        self.starts, self.whole = {8: Queue(), 32: Queue()}, {8: Queue(), 32: Queue()}
        self.sets, self.sender = Sets(), Queue()

    def close(self):
        for queue in (*self.starts.values(), *self.whole.values(), self.sender):
            for end in queue.ends:
                end.close()


def message(number, packet):
    """Return a queued packet as the kernel hands it over."""
    head = struct.pack("=IHHII", 0, 3 << 8, 0, 0, 0) + b"\0" * 4
    identity = netlink.attribute(1, struct.pack(">IHB", number, 0x800, 0))
    return head + identity + struct.pack("=HH", 4 + len(packet), 10) + packet


def start(number, pair=PAIR):
    """Return a message with the start of a packet only."""
    return message(number, b"\0" * (12 if len(pair) == 8 else 8) + pair)


def frame(number, pair=PAIR, payload=b"payload"):
    """Return a message with a whole frame."""
    if len(pair) == 8:
        return message(number, bytes([0x45, *[0] * 7, 64, *[0] * 3]) + pair + payload)
    return message(number, bytes([0x60, *[0] * 6, 64]) + pair + payload)


@pytest.fixture
def switch():
    made = Switch()
    yield made
    made.close()


@pytest.fixture
def line(tmp_path, switch):
    with channel.listen(tmp_path / "delay.sock") as server:
        made = DelayLine(tmp_path, switch, server, Loop())
        yield made
        made.close()


def treat(line, *, seed=1, **pairs):
    names = {"pair": PAIR, "other": OTHER, "pair6": PAIR6}
    for name, quality in pairs.items():
        line.pairs.by_key[names[name]] = Treatment(quality, random.Random(seed))


def hand(line, queue, *messages):
    """Give the delay line messages of a queue, and let it work until it took all."""
    queue.packets += messages
    handler = line._loop._handlers[queue.fileno()]
    while queue.packets:
        handler(1)


def test_packets_that_are_due_are_let_go_in_order_and_the_others_wait(line, switch):
    treat(line, pair=Quality(jitter=1e-9), other=Quality(delay=HOUR))
    queue = switch.starts[8]

    hand(line, queue, start(1), start(2, OTHER), start(3))

    assert queue.given(ACCEPT) == [1, 3]
    assert line.status()["waiting"] == 1
    assert line.status()["delayed"] == 2


@pytest.mark.parametrize(("size", "pair"), [(8, PAIR), (32, PAIR6)], ids=["4", "6"])
def test_both_families_have_queues_of_their_own(line, switch, size, pair):
    treat(line, pair=Quality(reorder=1.0), pair6=Quality(reorder=1.0))

    hand(line, switch.starts[size], start(1, pair))
    hand(line, switch.whole[size], frame(2, pair))

    assert switch.starts[size].given(ACCEPT) == [1]
    assert switch.whole[size].given(ACCEPT) == [2]
    assert line.status()["delayed"] == 2


def test_a_pair_that_is_no_longer_treated_passes_at_once(line, switch):
    hand(line, switch.starts[8], start(9))
    hand(line, switch.whole[32], frame(10, PAIR6))

    assert switch.starts[8].given(ACCEPT) == [9]
    assert switch.whole[32].given(ACCEPT) == [10]
    assert line.status()["passed"] == 2


@pytest.mark.parametrize("size", [8, 32])
def test_what_is_no_packet_gets_no_verdict(line, switch, size):
    error = struct.pack("=IHHIIi", 36, 2, 0, 0, 0, -1) + b"\0" * 16
    pieces = [error, error[:20], b"\0", b""]

    hand(line, switch.starts[size], *pieces)
    hand(line, switch.whole[size], *pieces)

    assert switch.starts[size].verdicts == switch.whole[size].verdicts == []


@pytest.mark.parametrize("packet", [b"", b"\x45", b"\x4f" * 20, b"\x60" * 39, b"\xff" * 41])
def test_a_malformed_packet_passes(line, switch, packet):
    for size in (8, 32):
        hand(line, switch.whole[size], message(5, packet))

        assert switch.whole[size].given(ACCEPT) == [5]


def test_a_malformed_packet_of_a_treated_pair_is_no_end(line, switch):
    everything = Quality(duplicate=1.0, corrupt=1.0)
    treat(line, pair=everything, pair6=everything)
    longer = bytes([0x4F, *[0] * 11]) + PAIR
    strange = bytes([0x15, *[0] * 11]) + PAIR

    hand(line, switch.whole[8], message(1, longer), message(2, strange))
    hand(line, switch.whole[32], message(3, bytes([0x60, *[0] * 7]) + PAIR6))

    assert switch.whole[8].verdicts == [
        b"as" + struct.pack(">I", number) + packet for number, packet in ((1, longer), (2, strange))
    ]
    assert len(switch.whole[32].verdicts) == 1


def test_of_a_lossy_pair_the_share_asked_for_is_dropped(line, switch):
    treat(line, pair=Quality(loss=0.05))
    queue = switch.whole[8]

    hand(line, queue, *map(frame, range(5000)))

    low, high = binom.interval(0.9999, 5000, 0.05)
    assert low <= len(queue.given(DROP)) <= high
    assert sorted(queue.given(DROP) + queue.given(ACCEPT)) == list(range(5000))
    assert line.status()["lost"] == len(queue.given(DROP))


@pytest.mark.parametrize(("size", "pair", "hops"), [(8, PAIR, 8), (32, PAIR6, 7)], ids=["4", "6"])
def test_a_copy_is_sent_one_hop_further_when_its_packet_is_due(line, switch, size, pair, hops):
    treat(line, pair=Quality(duplicate=1.0), pair6=Quality(duplicate=1.0))

    hand(line, switch.whole[size], frame(1, pair))

    (copy,) = switch.sender.verdicts
    assert copy[hops] == 63
    assert copy.endswith(b"payload")
    assert switch.whole[size].given(ACCEPT) == [1]
    assert line.status()["doubled"] == 1


def test_a_copy_waits_as_long_as_its_packet(line, switch):
    treat(line, pair=Quality(duplicate=1.0, delay=HOUR))

    hand(line, switch.whole[8], frame(1))

    assert switch.sender.verdicts == []
    assert line.status()["waiting"] == 2


@pytest.mark.parametrize(("size", "pair"), [(8, PAIR), (32, PAIR6)], ids=["4", "6"])
def test_a_damaged_packet_goes_on_with_one_bit_flipped(line, switch, size, pair):
    treat(line, pair=Quality(corrupt=1.0), pair6=Quality(corrupt=1.0))

    hand(line, switch.whole[size], frame(7, pair))

    (verdict,) = switch.whole[size].verdicts
    assert verdict.startswith(b"as" + struct.pack(">I", 7))
    changed, sound = verdict[-7:], b"payload"
    assert (int.from_bytes(changed, "big") ^ int.from_bytes(sound, "big")).bit_count() == 1
    assert line.status()["damaged"] == 1


def test_a_packet_that_overtakes_is_let_go_before_those_it_passes(line, switch):
    treat(line, pair=Quality(delay=HOUR, reorder=0.3))
    queue = switch.starts[8]

    hand(line, queue, *map(start, range(2000)))

    low, high = binom.interval(0.9999, 2000, 0.3)
    assert low <= len(queue.given(ACCEPT)) <= high
    assert line.status()["waiting"] == 2000 - len(queue.given(ACCEPT))


def asked(line, tmp_path, *requests):
    """Return the answers to raw requests, each on a connection of its own."""
    answers = []
    for request in requests:
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(tmp_path / "delay.sock"))
            client.sendall(request)
            turn(line)
            answers.append(json.loads(client.recv(1 << 16)))
    turn(line)
    return answers


def turn(line):
    """Let the loop do what there is to do, a few times over."""
    loop = line._loop
    for _ in range(10):
        for descriptor, mask in loop._poll.poll(0):
            loop._handlers[descriptor](mask)


def test_pairs_are_set_and_read_back_by_request(line, switch, tmp_path):
    change = {"op": "set", "pairs": [[[PAIR.hex()], {"delay": 0.02}]]}
    requests = (change, {"op": "pairs", "to": [PAIR[4:].hex()]}, {"op": "status"})

    done, listed, status = asked(
        line, tmp_path, *(json.dumps(each).encode() + b"\n" for each in requests)
    )

    assert done == {"ok": True}
    assert listed["pairs"] == [[PAIR.hex(), Quality(delay=0.02).to_dict(), True]]
    assert status["pairs"] == 1


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        (b'{"op": "nonsense"}', "known are set, pairs, losses, reload, status"),
        (b"[1]", "no JSON object"),
        (b"[" * 100_000, "not a message"),
        (b"\xff\xfe", "not a message"),
        (b'{"op": "set", "pairs": [[["zz"], 1]]}', "bad pairs"),
        (b'{"op": "pairs", "to": [5]}', "bad addresses"),
        (b'{"op": ["set"]}', "unknown request"),
    ],
)
def test_a_bad_request_is_answered_in_words(line, tmp_path, request_, words):
    (answer,) = asked(line, tmp_path, request_ + b"\n")

    assert answer["ok"] is False
    assert words in answer["error"]


def test_ten_thousand_lines_of_garbage_are_answered_and_change_nothing(line, switch, tmp_path):
    source = random.Random(8)
    sound = json.dumps({"op": "set", "pairs": [[[PAIR.hex()], {"delay": 0.02}]]}).encode()
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(tmp_path / "delay.sock"))
        client.settimeout(5)
        answers = client.makefile("rb")
        turn(line)
        for _ in range(10_000):
            spoilt = bytearray(sound)
            for _ in range(source.randrange(1, 9)):
                spoilt[source.randrange(len(spoilt))] = source.choice(b'[]{}":,0129-eE.x\0\xff ')
            # A key that was misspelt is still a key: only what is refused counts.
            spoilt[-3:] = source.choice((b"", b"]", b"}}}", b"\0\0\0"))
            client.sendall(bytes(spoilt).replace(b"\n", b"") + b"\n")
            turn(line)
            assert json.loads(answers.readline())["ok"] is False
        answers.close()
    turn(line)
    assert (line.pairs.by_key, switch.sets.known) == ({}, {})


def test_half_a_request_holds_up_no_packet(line, switch, tmp_path):
    treat(line, pair=Quality(reorder=1.0))
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(tmp_path / "delay.sock"))
        client.sendall(b'{"op": "sta')
        turn(line)
        switch.starts[8].packets.append(start(1))
        switch.starts[8].ends[1].send(b"x")
        turn(line)

        assert switch.starts[8].given(ACCEPT) == [1]
    turn(line)
