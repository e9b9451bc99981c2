# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
import select
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from ansible_collections.pkgctl.testbed.plugins.module_utils.programs import probe
from tests.unit.programs.starting import PATIENCE_SECONDS, Start, Started, run


@pytest.fixture
def far_end(start: Start) -> Started:
    return start("probe", "serve", "--port", 0)


def measure(*arguments: object) -> dict[str, Any]:
    done = run("probe", *arguments)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@contextmanager
def losing(port: int, every: int) -> Iterator[int]:
    """A relay to the far end that loses each n-th numbered packet on the way there."""
    there = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    here = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    ending, end = socket.socketpair()
    here.bind(("127.0.0.1", 0))
    there.connect(("127.0.0.1", port))

    def relay() -> None:
        sender: Any = None
        while True:
            ready, _, _ = select.select([here, there, ending], [], [], PATIENCE_SECONDS)
            if here in ready:
                data, sender = here.recvfrom(65536)
                kind, _, number, _ = probe.PACKET.unpack_from(data)
                if kind == probe.REPORT or number % every:
                    there.send(data)
            elif there in ready:
                here.sendto(there.recv(65536), sender)
            else:
                return

    thread = threading.Thread(target=relay)
    thread.start()
    try:
        yield here.getsockname()[1]
    finally:
        end.close()
        thread.join(PATIENCE_SECONDS)
        for sock in (here, there, ending):
            sock.close()


def test_round_trips_are_counted_and_ordered(far_end: Started) -> None:
    found = measure("rtt", "127.0.0.1", far_end.port, "--count", 20, "--interval", 0.001)

    assert (found["count"], found["lost"]) == (20, 0)
    assert 0 < found["min"] <= found["p50"] <= found["p95"] <= found["max"]
    assert found["min"] <= found["mean"] <= found["max"]


def test_lost_round_trips_are_counted(far_end: Started) -> None:
    with losing(far_end.port, every=4) as port:
        found = measure(
            *("rtt", "127.0.0.1", port, "--count", 20, "--interval", 0.001, "--wait", 0.2)
        )

    assert (found["count"], found["lost"]) == (20, 5)


def test_round_trips_without_a_far_end_are_all_lost(free_port: int) -> None:
    found = measure(
        *("rtt", "127.0.0.1", free_port, "--count", 3, "--interval", 0.001, "--wait", 0.05)
    )

    assert (found["lost"], found["p50"]) == (3, None)


def test_nothing_is_lost_on_a_good_way(far_end: Started) -> None:
    found = measure("loss", "127.0.0.1", far_end.port, "--count", 200, "--pace", 20000)

    assert found == {"count": 200, "lost": 0, "loss": 0.0}


def test_loss_is_counted_on_the_way_there_only(far_end: Started) -> None:
    with losing(far_end.port, every=10) as port:
        found = measure(
            *("loss", "127.0.0.1", port, "--count", 200, "--pace", 20000, "--wait", 0.05)
        )

    assert found == {"count": 200, "lost": 20, "loss": 0.1}


def test_goodput_is_what_the_sink_received(far_end: Started) -> None:
    found = measure("goodput", "127.0.0.1", far_end.port, "--seconds", 0.2)

    assert found["goodput"] == pytest.approx(found["bytes"] * 8 / found["seconds"])
    assert 0 < found["bytes"] < found["total_bytes"]


def test_the_sink_leaves_out_the_first_third() -> None:
    ours, theirs = socket.socketpair()
    sink = probe.Sink(ours)

    sink.take(b"3.0\n" + bytes(50_000), 10.0)
    sink.take(bytes(50_000), 10.9)
    sink.take(bytes(1_000), 11.0)
    sink.take(bytes(1_000), 12.0)
    over = sink.take(bytes(1_000), 13.0)

    ours.close()
    theirs.close()
    assert over
    assert json.loads(sink.result()) == {
        "goodput": 8000.0,
        "bytes": 2000,
        "seconds": 2.0,
        "total_bytes": 103_000,
    }


def test_a_sink_that_saw_too_little_says_so() -> None:
    ours, theirs = socket.socketpair()
    sink = probe.Sink(ours)

    sink.take(b"3.0\n", 10.0)

    ours.close()
    theirs.close()
    assert json.loads(sink.result())["goodput"] is None


@pytest.mark.parametrize("command", ["loss", "goodput"])
def test_a_missing_far_end_is_named_in_one_line(command: str, free_port: int) -> None:
    options = ["--count", 5] if command == "loss" else []

    done = run("probe", command, "127.0.0.1", free_port, "--wait", 0.05, *options)

    assert (done.returncode, done.stderr.count("\n")) == (1, 1)


@pytest.mark.parametrize(
    "options", [["--count", "0"], ["--interval", "0"], ["--size", "x"], ["--count", "nan"]]
)
def test_a_number_out_of_range_is_named(options: list[str]) -> None:
    done = run("probe", "rtt", "127.0.0.1", 9, *options)

    assert done.returncode == 2
    assert repr(options[1]) in done.stderr


def test_foreign_datagrams_do_no_harm(far_end: Started) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.sendto(b"short", ("127.0.0.1", far_end.port))
        sock.sendto(bytes(100), ("127.0.0.1", far_end.port))

    assert measure("loss", "127.0.0.1", far_end.port, "--count", 5)["lost"] == 0


def test_a_far_end_forgets_old_sessions() -> None:
    far_end = probe.FarEnd(0)

    for number in range(2 * probe.MOST_SESSIONS):
        far_end.count(number.to_bytes(8, "big"), 0)

    far_end.udp.close()
    far_end.listener.close()
    far_end.poll.close()
    assert len(far_end.seen) == probe.MOST_SESSIONS
