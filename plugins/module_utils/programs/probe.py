# SPDX-License-Identifier: GPL-3.0-or-later
"""Measure a link between two nodes: round trips, loss one way, goodput one way.

    probe.py serve --port P                          the far end: UDP echo, UDP counter, TCP sink
    probe.py rtt HOST PORT [--count N] [--interval S] [--size B]
    probe.py loss HOST PORT [--count N] [--pace PACKETS/S] [--batch K] [--size B]
    probe.py goodput HOST PORT [--seconds S]

Each measurement prints one JSON object. Times are CLOCK_MONOTONIC in the programs themselves, so
a round trip includes what a plain program sees. Sizes are UDP payloads in bytes (28 less than the
IP packet's). Loss is counted at the far end, by sequence number, so only the way there counts.
Goodput is payload received by the far end a second, over the last two thirds of the time.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import resource
import select
import signal
import socket
import struct
import sys
import time
from collections import OrderedDict
from collections.abc import Iterator
from typing import Any

ECHO, COUNT, REPORT = b"E", b"C", b"R"
# Kind, session, sequence number, time sent in ns.
PACKET = struct.Struct("!c8sIQ")
READ_BYTES = 1 << 18
DATAGRAM_BYTES = 1 << 16
MOST_SESSIONS = 256
MOST_PACKETS = 1 << 20
REPORT_TRIES = 30
REPORT_SECONDS = 0.25
# The share of a goodput measurement that is left to slow start and to the shaper's first burst.
SLOW_START = 1 / 3


class ProbeError(Exception):
    """A measurement could not be made."""


# --- the far end ---------------------------------------------------------------------------------


class Sink:
    """One sender's bytes: how many came, and when, after the first third of the time asked for."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.head = b""
        self.seconds: float | None = None
        self.began = 0.0
        self.opened: float | None = None
        self.latest = 0.0
        self.received = 0
        self.total = 0

    def take(self, data: bytes, now: float) -> bool:
        """Count bytes; return whether the time is over."""
        if self.seconds is None:
            data = self.read_seconds(data, now)
        if self.seconds is None or not data:
            return False
        self.total += len(data)
        if self.opened is not None:
            self.received += len(data)
            self.latest = now
        elif now - self.began >= self.seconds * SLOW_START:
            self.opened = self.latest = now
        return now - self.began >= self.seconds

    def read_seconds(self, data: bytes, now: float) -> bytes:
        """Read the first line, which says how long to measure; return what follows it."""
        self.head += data
        line, end, rest = self.head.partition(b"\n")
        if not end:
            return b""
        self.seconds, self.began = float(line), now
        return rest

    def result(self) -> bytes:
        """Return the measurement as JSON."""
        span = self.latest - (self.opened or 0.0)
        rate = self.received * 8 / span if self.opened is not None and span > 0 else None
        found = {"goodput": rate, "bytes": self.received, "seconds": span if rate else 0.0}
        return json.dumps({**found, "total_bytes": self.total}).encode() + b"\n"


class FarEnd:
    """Echoes and counts datagrams, and swallows streams."""

    def __init__(self, port: int) -> None:
        self.listener = socket.create_server(("0.0.0.0", port), backlog=256)
        self.port: int = self.listener.getsockname()[1]
        self.udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.udp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
        self.udp.bind(("0.0.0.0", self.port))
        for sock in (self.listener, self.udp):
            sock.setblocking(False)
        self.sinks: dict[int, Sink] = {}
        self.seen: OrderedDict[bytes, set[int]] = OrderedDict()
        self.poll = select.epoll()
        self.poll.register(self.udp.fileno(), select.EPOLLIN)
        self.poll.register(self.listener.fileno(), select.EPOLLIN)

    def serve(self) -> None:
        """Answer for ever."""
        while True:
            for number, _ in self.poll.poll():
                if number == self.udp.fileno():
                    self.answer_datagrams()
                elif number == self.listener.fileno():
                    self.accept()
                elif number in self.sinks:
                    self.swallow(self.sinks[number])

    def answer_datagrams(self) -> None:
        """Echo, count or report whatever has come."""
        with contextlib.suppress(BlockingIOError):
            while True:
                data, sender = self.udp.recvfrom(DATAGRAM_BYTES)
                if len(data) < PACKET.size:
                    continue
                kind, session, number, _ = PACKET.unpack_from(data)
                if kind == COUNT:
                    self.count(session, number)
                    continue
                if kind == REPORT:
                    data = PACKET.pack(REPORT, session, len(self.seen.get(session, ())), 0)
                with contextlib.suppress(OSError):
                    self.udp.sendto(data, sender)

    def count(self, session: bytes, number: int) -> None:
        """Note one numbered packet; only the latest sessions are remembered."""
        numbers = self.seen.setdefault(session, set())
        if len(numbers) < MOST_PACKETS:
            numbers.add(number)
        if len(self.seen) > MOST_SESSIONS:
            self.seen.popitem(last=False)

    def accept(self) -> None:
        """Let one sender in."""
        with contextlib.suppress(OSError):
            sock, _ = self.listener.accept()
            sock.setblocking(False)
            self.sinks[sock.fileno()] = Sink(sock)
            self.poll.register(sock.fileno(), select.EPOLLIN)

    def swallow(self, sink: Sink) -> None:
        """Take what a sender has sent; when its time is over, say how much that was."""
        try:
            data = sink.sock.recv(READ_BYTES)
            over = not data or sink.take(data, time.monotonic())
            if over:
                sink.sock.send(sink.result())
        except BlockingIOError:
            return
        except (OSError, ValueError):
            over = True
        if over:
            del self.sinks[sink.sock.fileno()]
            sink.sock.close()


# --- the near end --------------------------------------------------------------------------------


def open_udp(host: str, port: int) -> socket.socket:
    """Return a datagram socket to the far end."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
    sock.connect((host, port))
    sock.setblocking(False)
    return sock


def arrivals(sock: socket.socket, until: float) -> Iterator[bytes]:
    """Yield the datagrams that come before the time ``until``, each at once.

    Raises:
        ConnectionRefusedError: if an earlier datagram found nobody who listens.
    """
    while True:
        try:
            yield sock.recv(DATAGRAM_BYTES)
        except BlockingIOError:
            left = until - time.monotonic()
            if left <= 0 or not select.select([sock], [], [], left)[0]:
                return


def send(sock: socket.socket, packet: bytes) -> None:
    """Send one datagram; what this machine itself cannot send counts as lost."""
    with contextlib.suppress(BlockingIOError, ConnectionRefusedError):
        sock.send(packet)


def percentile(ordered: list[float], share: float) -> float:
    """Return the nearest-rank percentile of sorted values."""
    return ordered[max(0, math.ceil(len(ordered) * share) - 1)]


def measure_rtt(arguments: argparse.Namespace) -> dict[str, Any]:
    """Send numbered packets at an even pace and time their echoes."""
    sock = open_udp(arguments.host, arguments.port)
    session = os.urandom(8)
    trips: dict[int, float] = {}
    padding = bytes(max(0, arguments.size - PACKET.size))
    begin = time.monotonic()
    for number in range(arguments.count):
        send(sock, PACKET.pack(ECHO, session, number, time.monotonic_ns()) + padding)
        last = number == arguments.count - 1
        until = begin + (number + 1) * arguments.interval
        with contextlib.suppress(ConnectionRefusedError):
            for data in arrivals(sock, time.monotonic() + arguments.wait if last else until):
                note_trip(trips, session, data)
                if len(trips) == arguments.count:
                    break
    return summarise(sorted(trips.values()), arguments.count)


def note_trip(trips: dict[int, float], session: bytes, data: bytes) -> None:
    """Note how long a packet of this session took; only its first echo counts."""
    now = time.monotonic_ns()
    _, whose, number, sent = PACKET.unpack_from(data)
    if whose == session:
        trips.setdefault(number, (now - sent) / 1e9)


def summarise(trips: list[float], count: int) -> dict[str, Any]:
    """Return the figures of sorted round trips, in seconds."""
    found: dict[str, Any] = {"count": count, "lost": count - len(trips)}
    if not trips:
        return found | dict.fromkeys(("p50", "p95", "mean", "min", "max"))
    return found | {
        "p50": percentile(trips, 0.50),
        "p95": percentile(trips, 0.95),
        "mean": math.fsum(trips) / len(trips),
        "min": trips[0],
        "max": trips[-1],
    }


def measure_loss(arguments: argparse.Namespace) -> dict[str, Any]:
    """Send numbered packets in batches at a pace, and ask the far end how many came."""
    sock = open_udp(arguments.host, arguments.port)
    session = os.urandom(8)
    padding = bytes(max(0, arguments.size - PACKET.size))
    begin = time.monotonic()
    for number in range(arguments.count):
        if number % arguments.batch == 0:
            time.sleep(max(0.0, begin + number / arguments.pace - time.monotonic()))
        send(sock, PACKET.pack(COUNT, session, number, 0) + padding)
    until = time.monotonic() + arguments.wait
    while (came := ask_count(sock, session)) < arguments.count and time.monotonic() < until:
        time.sleep(REPORT_SECONDS)
    lost = arguments.count - came
    return {"count": arguments.count, "lost": lost, "loss": lost / arguments.count}


def ask_count(sock: socket.socket, session: bytes) -> int:
    """Return how many of a session's packets the far end has seen."""
    try:
        for _ in range(REPORT_TRIES):
            sock.send(PACKET.pack(REPORT, session, 0, 0))
            for data in arrivals(sock, time.monotonic() + REPORT_SECONDS):
                kind, whose, count, _ = PACKET.unpack_from(data)
                if kind == REPORT and whose == session:
                    return int(count)
    except ConnectionRefusedError:
        raise ProbeError("nobody listens at the far end") from None
    raise ProbeError("the far end does not answer")


def measure_goodput(arguments: argparse.Namespace) -> dict[str, Any]:
    """Send as fast as TCP lets us until the far end says that it has seen enough."""
    limit = arguments.seconds + arguments.wait
    sock = socket.create_connection((arguments.host, arguments.port), timeout=arguments.wait)
    # What is still queued when the result is there would only hold the link.
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.sendall(f"{arguments.seconds}\n".encode())
    sock.setblocking(False)
    filling, until = bytes(1 << 17), time.monotonic() + limit
    with sock:
        while (left := until - time.monotonic()) > 0:
            readable, writable, _ = select.select([sock], [sock], [], left)
            if readable:
                return read_result(sock.recv(READ_BYTES))
            if writable:
                sock.send(filling)
    raise ProbeError(f"the far end gave no result within {limit:g} s")


def read_result(data: bytes) -> dict[str, Any]:
    """Return the sink's result."""
    if not data.endswith(b"\n"):
        raise ProbeError("the far end closed the connection without a result")
    result: dict[str, Any] = json.loads(data)
    return result


# --- the command line ----------------------------------------------------------------------------


def serve(arguments: argparse.Namespace) -> None:
    """Be the far end until told to end."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    far_end = FarEnd(arguments.port)
    notify("READY=1", f"STATUS=listening on port {far_end.port}")
    far_end.serve()


def notify(*lines: str) -> None:
    """Tell whoever started this program how it stands (the sd_notify protocol)."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    job = os.environ.get("PKGCTL_JOB")
    text = "\n".join([f"PKGCTL_JOB={job}", *lines] if job else lines)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.sendto(text.encode(), "\0" + address[1:] if address[0] == "@" else address)


def positive(text: str) -> float:
    """Return a number above zero."""
    with contextlib.suppress(ValueError):
        if 0 < float(text) < math.inf:
            return float(text)
    raise argparse.ArgumentTypeError(f"{text!r} is not a number above zero")


def whole(text: str) -> int:
    """Return a whole number above zero, at most as many as a session can hold."""
    with contextlib.suppress(ValueError):
        if 0 < int(text) <= MOST_PACKETS:
            return int(text)
    raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 to {MOST_PACKETS}")


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Return the command line's values."""
    parser = argparse.ArgumentParser(prog="probe.py", description="Measure a link.")
    commands = parser.add_subparsers(dest="command", required=True)
    far = commands.add_parser("serve", help="be the far end")
    far.add_argument("--port", type=int, required=True, help="UDP and TCP port; 0 takes any")
    measures = {name: commands.add_parser(name) for name in ("rtt", "loss", "goodput")}
    for one in measures.values():
        one.add_argument("host")
        one.add_argument("port", type=int)
        one.add_argument("--wait", type=positive, default=2.0, help="s, for what is under way")
    measures["rtt"].add_argument("--count", type=whole, default=100)
    measures["rtt"].add_argument("--interval", type=positive, default=0.02, help="s")
    measures["rtt"].add_argument("--size", type=whole, default=64, help="bytes of payload")
    measures["loss"].add_argument("--count", type=whole, default=2000)
    measures["loss"].add_argument("--pace", type=positive, default=2000.0, help="packets/s")
    measures["loss"].add_argument("--batch", type=whole, default=20)
    measures["loss"].add_argument("--size", type=whole, default=64, help="bytes of payload")
    measures["goodput"].add_argument("--seconds", type=positive, default=2.0)
    return parser.parse_args(arguments)


MEASURES = {"rtt": measure_rtt, "loss": measure_loss, "goodput": measure_goodput}


def main() -> None:
    """Measure, or be the far end."""
    arguments = parse()
    try:
        if arguments.command == "serve":
            serve(arguments)
        else:
            print(json.dumps(MEASURES[arguments.command](arguments)))
    except (OSError, ProbeError, OverflowError) as error:
        sys.exit(f"probe.py: {error}")


if __name__ == "__main__":
    main()
