# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
import os
import random
import socket
import statistics
import struct

import pytest

from ansible_collections.pkgctl.testbed.plugins.module_utils import (
    channel,
    delayline,
    layers,
    links,
    nftables,
)
from ansible_collections.pkgctl.testbed.plugins.module_utils.delayline import DelayLine, Pair
from ansible_collections.pkgctl.testbed.plugins.module_utils.quality import Quality

from .agents import node

MS = 1_000_000
HOUR = 3600 * 1000 * MS
DROP, ACCEPT = 0, 1
PAIR = nftables.key("10.77.0.1", "10.77.0.2")


class Queue:
    """A kernel's packet queue that holds what a test put there, and notes the verdicts."""

    def __init__(self):
        self._ends = socket.socketpair()
        self.packets = []
        self.verdicts = []
        self.pairs = set()

    def fileno(self):
        return self._ends[0].fileno()

    def close(self):
        for end in self._ends:
            end.close()

    def set_pairs(self, pairs):
        self.pairs = pairs

    def receive(self, _):
        if not self.packets:
            raise BlockingIOError
        return self.packets.pop(0)

    def judge(self, ids, prefix):
        (verdict,) = struct.unpack_from(">I", prefix, 24)
        self.verdicts += [(struct.unpack(">I", each)[0], verdict) for each in ids]


def packet(number, pair=PAIR):
    """Return a queued packet as the kernel hands it over: header, id, and its addresses last."""
    head = struct.pack("=IHHII", 0, 3 << 8, 0, 0, 0) + b"\0" * 8
    return head + struct.pack(">I", number) + b"\0" * 40 + pair


@pytest.fixture
def queue():
    made = Queue()
    yield made
    made.close()


@pytest.fixture
def line(tmp_path, queue):
    with channel.listen(tmp_path / "delay.sock") as server:
        made = DelayLine(tmp_path, queue, server)
        yield made
        os.close(made._timer.descriptor)


def described(tmp_path, **ingress):
    folder = tmp_path / "nodes" / "edge-1"
    folder.mkdir(parents=True, exist_ok=True)
    here = node(folder)
    asked = {name.replace("_", "-"): quality for name, quality in ingress.items()}
    layers.save(folder / links.STORE, {"base": links.body({}, asked)})
    return here


def test_a_packet_without_jitter_is_due_after_exactly_the_delay(line):
    assert line._due(Pair(20 * MS, 0.0, 0.0), 1000) == 1000 + 20 * MS


def test_jitter_has_the_deviation_that_was_asked_for_where_it_need_not_keep_order(line):
    line._random = random.Random(1)

    # A pair of its own for each packet: nothing to overtake.
    seen = [line._due(Pair(20 * MS, 2.0 * MS, 0.0), 0) for _ in range(4000)]

    assert statistics.mean(seen) == pytest.approx(20 * MS, rel=0.01)
    assert statistics.stdev(seen) == pytest.approx(2 * MS, rel=0.05)


def test_packets_of_a_pair_keep_their_order_however_they_jitter(line):
    line._random = random.Random(2)
    pair = Pair(5 * MS, 5.0 * MS, 0.0)

    due = [line._due(pair, number * MS // 10) for number in range(2000)]

    assert due == sorted(due)


def test_no_packet_is_due_before_it_came(line):
    line._random = random.Random(3)

    due = [line._due(Pair(MS, 50.0 * MS, 0.0), now) for now in range(0, 2000 * MS, MS)]

    assert all(at >= now for at, now in zip(due, range(0, 2000 * MS, MS), strict=True))


def test_a_shorter_delay_does_not_overtake_what_is_on_its_way(line):
    pair = Pair(100 * MS, 0.0, 0.0)
    first = line._due(pair, 0)

    pair.delay = MS

    assert line._due(pair, 10) == first


def test_the_share_that_is_lost_is_the_one_asked_for(line, queue):
    line._random = random.Random(4)
    line._pairs = {PAIR: Pair(0, 0.0, 0.05)}
    queue.packets = [packet(number) for number in range(5000)]

    while queue.packets:
        line._receive()

    dropped = [number for number, verdict in queue.verdicts if verdict == DROP]
    # The 99.9 % interval of a binomial with 5000 tries at 0.05 is 201 to 301.
    assert 200 < len(dropped) < 301
    assert line._status()["lost"] == len(dropped)


def test_packets_that_are_due_are_let_go_in_order_and_the_others_wait(line, queue):
    other = nftables.key("10.77.0.3", "10.77.0.2")
    line._pairs = {PAIR: Pair(0, 0.0, 0.0), other: Pair(HOUR, 0.0, 0.0)}
    queue.packets = [packet(1), packet(2, other), packet(3)]

    line._receive()
    line._release()

    assert queue.verdicts == [(1, ACCEPT), (3, ACCEPT)]
    assert line._obey("status", "")["waiting"] == 1
    assert line._status()["delayed"] == 2


def test_a_pair_that_is_no_longer_delayed_passes_at_once(line, queue):
    queue.packets = [packet(9)]

    line._receive()

    assert queue.verdicts == [(9, ACCEPT)]
    assert line._status()["passed"] == 1


def test_what_is_no_packet_gets_no_verdict(line, queue):
    queue.packets = [struct.pack("=IHHIIi", 36, 2, 0, 0, 0, 0) + b"\0" * 16]

    line._receive()

    assert queue.verdicts == []


def test_the_table_is_read_from_what_the_layers_of_all_nodes_ask_for(line, queue, tmp_path):
    described(tmp_path, cloud_1=Quality(delay=0.02, jitter=0.001, loss=0.1), edge_2=Quality(rate=8))

    line.load()

    assert line._pairs == {PAIR: Pair(20 * MS, 1.0 * MS, 0.1)}
    assert queue.pairs == {PAIR}


def test_a_reload_of_one_node_remembers_who_was_on_the_way(line, tmp_path):
    described(tmp_path, cloud_1=Quality(delay=0.02))
    line.load()
    line._due(line._pairs[PAIR], 5)
    described(tmp_path, cloud_1=Quality(delay=0.01))

    assert line._answer(b'{"op": "reload", "node": "edge-1"}\n') == {"ok": True}

    assert line._pairs[PAIR] == Pair(10 * MS, 0.0, 0.0, last=5 + 20 * MS)


def test_a_node_that_is_gone_is_forgotten(line, queue, tmp_path):
    here = described(tmp_path, cloud_1=Quality(delay=0.02))
    line.load()
    (tmp_path / "nodes" / here.name / "node.json").unlink()

    line.load("edge-1")

    assert queue.pairs == set()


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        ({"op": "nonsense"}, "known are reload and status"),
        ([1], "no JSON object"),
    ],
)
def test_a_bad_request_is_answered_in_words(line, request_, words):
    answer = line._answer(json.dumps(request_).encode())

    assert answer["ok"] is False
    assert words in answer["error"]


def test_a_broken_store_is_an_answer_and_no_end(line, tmp_path):
    here = described(tmp_path, cloud_1=Quality(delay=0.02))
    (tmp_path / "nodes" / here.name / links.STORE).write_text("{")

    answer = line._answer(b'{"op": "reload"}')

    assert "not a store of layers" in answer["error"]


@pytest.mark.parametrize(
    ("prefix", "verdict"), [(delayline._ACCEPT_PREFIX, 1), (delayline._DROP_PREFIX, 0)]
)
def test_a_verdict_names_its_packet_and_its_queue(prefix, verdict):
    data = prefix + struct.pack(">I", 77)

    length, kind = struct.unpack_from("=IH", data)
    assert (length, kind) == (len(data), 3 << 8 | 1)
    assert struct.unpack_from(">BBH", data, 16) == (0, 0, nftables.QUEUE)
    assert struct.unpack_from("=HH", data, 20) == (12, 2)
    assert struct.unpack_from(">II", data, 24) == (verdict, 77)
