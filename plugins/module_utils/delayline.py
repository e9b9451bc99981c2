# SPDX-License-Identifier: GPL-3.0-or-later
"""The delay line: delay, jitter and loss for kernels without netem, one process for all nodes.

Packets of a delayed pair of nodes are queued by the kernel (NFQUEUE) on their way through the
switch; it hands us a copy of their first bytes and an id. We keep ids in a heap by the time at
which they are due and give the kernel its verdict then; the packet itself never leaves the kernel.

The place matters. A packet held back while it leaves its node still counts against its sender's
socket, which then stalls; one held back where it has arrived was stamped by the kernel before the
delay, and ping believes that stamp. In the routed switch between the two, it belongs to no socket
and is stamped later.

Packets of one pair keep their order: jitter stretches gaps, it does not make packets overtake.
Wire format: linux/netfilter/nfnetlink_queue.h.
"""

from __future__ import annotations

import ctypes
import gc
import heapq
import os
import random
import select
import signal
import socket
import struct
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from . import channel, daemon, delayclient, identity, layers, links, nftables, syscalls
from .errors import DisturbanceError, KernelError
from .netlink import NETLINK_NETFILTER, Message, Socket, attribute, be32
from .nftables import QUEUE

_SUBSYSTEM = 3 << 8
_VERDICT, _CONFIG = 1, 2
_BIND, _COPY_PACKET, _GSO = 1, 2, 4
_DROP, _ACCEPT = 0, 1
# The IPv4 header up to its source and destination is all that is copied.
_COPIED = 20
_LONGEST_QUEUE = 1 << 16
_KIND = slice(4, 6)
_PACKET = struct.pack("=H", _SUBSYSTEM)
_ID = slice(24, 28)
_PAIR = slice(-8, None)
_AT_ONCE = 256
_NO_ENOBUFS = 5
# Waking up takes about 0.1 ms: the timer goes off so much earlier, and what is due within half of
# that is released at once rather than waited for.
_LEAD, _EARLY = 100_000, 50_000

_libc = ctypes.CDLL(None, use_errno=True)


def _verdict_prefix(verdict: int) -> bytes:
    """Return a verdict message up to the packet id that completes it."""
    generic = struct.pack(">BBH", 0, 0, QUEUE)
    head = struct.pack("=IHHII", 32, _SUBSYSTEM | _VERDICT, 1, 0, 0)
    return head + generic + struct.pack("=HH", 12, 2) + struct.pack(">I", verdict)


_ACCEPT_PREFIX = _verdict_prefix(_ACCEPT)
_DROP_PREFIX = _verdict_prefix(_DROP)


@dataclass(slots=True)
class Pair:
    """What packets of one directed pair meet: delay and jitter in ns, share lost, last due time."""

    delay: int
    jitter: float
    loss: float
    last: int = 0


@dataclass(slots=True)
class Counters:
    """What the delay line has done; late is the sum of nanoseconds after the due time."""

    delayed: int = 0
    lost: int = 0
    passed: int = 0
    late: int = 0
    latest: int = 0


class Queue:
    """The kernel's packet queue of one network namespace, and the pairs that go through it."""

    def __init__(self) -> None:
        """Bind to the queue of the caller's network namespace.

        Raises:
            KernelError: if another process listens on the queue.
            CapabilityError: if the kernel has none.
        """
        self._packets = Socket(NETLINK_NETFILTER)
        self._filter = Socket(NETLINK_NETFILTER)
        self._packets.socket.setsockopt(270, _NO_ENOBUFS, 1)
        generic = struct.pack(">BBH", 2, 0, QUEUE)
        settings = (
            attribute(1, struct.pack(">BxH", _BIND, 2)),
            attribute(2, struct.pack(">IB", _COPIED, _COPY_PACKET)) + be32(3, _LONGEST_QUEUE),
            be32(4, _GSO) + be32(5, _GSO),
        )
        what = "listen on the packet queue"
        for part in settings:
            self._packets.request([Message(_SUBSYSTEM | _CONFIG, 0, generic + part, what)])
        self._packets.socket.setblocking(False)
        self.receive = self._packets.socket.recv
        if not nftables.exists(self._filter, nftables.DELAYING):
            nftables.make_delaying_table(self._filter)
        self._queued = set(nftables.elements(self._filter, nftables.DELAYING, "delayed"))

    def fileno(self) -> int:
        """Return the descriptor on which packets arrive."""
        return self._packets.socket.fileno()

    def set_pairs(self, pairs: set[bytes]) -> None:
        """Have the kernel queue the packets of these pairs, and no others."""
        table = nftables.DELAYING
        gone = nftables.delete_elements(table, "delayed", sorted(self._queued - pairs))
        fresh = nftables.add_elements(table, "delayed", sorted(pairs - self._queued))
        nftables.send(self._filter, gone + fresh)
        self._queued = pairs

    def judge(self, ids: list[bytes], prefix: bytes) -> None:
        """Give the kernel one verdict for all ids."""
        for start in range(0, len(ids), _AT_ONCE):
            batch = ids[start : start + _AT_ONCE]
            self._packets.socket.send(prefix + prefix.join(batch))


class Timer:
    """An absolute CLOCK_MONOTONIC timer with nanoseconds, as a descriptor to wait on."""

    def __init__(self) -> None:
        """Make the timer, unset."""
        self.descriptor: int = _libc.timerfd_create(
            time.CLOCK_MONOTONIC, os.O_CLOEXEC | os.O_NONBLOCK
        )
        if self.descriptor < 0:
            raise KernelError("make a timer", ctypes.get_errno())
        self._due = 0

    def set(self, due: int) -> None:
        """Go off at due nanoseconds; 0 never."""
        if due == self._due:
            return
        self._due = due
        value = struct.pack("=qqqq", 0, 0, due // 1_000_000_000, due % 1_000_000_000)
        _libc.timerfd_settime(self.descriptor, 1, value, None)

    def clear(self) -> None:
        """Take note that the timer went off."""
        self._due = 0
        with suppress(BlockingIOError):
            os.read(self.descriptor, 8)


class DelayLine:
    """The pairs of a testbed, one heap of packets, one loop."""

    def __init__(self, directory: Path, queue: Queue, server: socket.socket) -> None:
        """Delay what comes through queue as the nodes under directory ask, and answer server."""
        self._directory = directory
        self._queue = queue
        self._server = server
        self._random = random.Random()
        self._nodes: dict[str, dict[bytes, Pair]] = {}
        self._pairs: dict[bytes, Pair] = {}
        self._clients: dict[int, socket.socket] = {}
        self._heap: list[tuple[int, int, bytes]] = []
        self._order = 0
        self._counters = Counters()
        self._timer = Timer()
        self._poll = select.epoll()
        for descriptor in (server.fileno(), self._timer.descriptor, queue.fileno()):
            self._poll.register(descriptor, select.EPOLLIN)

    def load(self, *nodes: str) -> None:
        """Read what arrives delayed at some nodes; with none named, at all there are."""
        places = self._directory / "nodes"
        known = {path.parent.name for path in places.glob("*/node.json")}
        for node in nodes or {*self._nodes, *known}:
            fresh = self._read(places / node) if node in known else {}
            old = self._nodes.get(node, {})
            for key in fresh.keys() & old.keys():
                fresh[key].last = old[key].last
            self._nodes[node] = fresh
        self._pairs = {key: pair for pairs in self._nodes.values() for key, pair in pairs.items()}
        self._queue.set_pairs(set(self._pairs))

    @staticmethod
    def _read(place: Path) -> dict[bytes, Pair]:
        node = identity.load(place / "node.json")
        asked = links.wanted(layers.load(place / links.STORE)).ingress
        return {
            nftables.key(source, node.address): Pair(round(delay * 1e9), jitter * 1e9, loss)
            for source, (delay, jitter, loss) in delayclient.table(node, asked).items()
        }

    def run(self) -> None:
        """Serve for ever."""
        packets = self._queue.fileno()
        while True:
            for descriptor, _ in self._poll.poll():
                if descriptor == packets:
                    self._receive()
                elif descriptor == self._timer.descriptor:
                    self._timer.clear()
                else:
                    self._serve(descriptor)
            self._release()

    def _receive(self) -> None:
        """Take what the kernel queued: at most a few hundred packets a round."""
        receive, pairs, heap, now = (
            self._queue.receive,
            self._pairs,
            self._heap,
            time.monotonic_ns(),
        )
        passed: list[bytes] = []
        lost: list[bytes] = []
        try:
            for _ in range(_AT_ONCE):
                packet = receive(4096)
                pair = pairs.get(packet[_PAIR])
                if pair is None:
                    if packet[_KIND] == _PACKET:
                        passed.append(packet[_ID])
                elif pair.loss and self._random.random() < pair.loss:
                    lost.append(packet[_ID])
                else:
                    self._order += 1
                    heapq.heappush(heap, (self._due(pair, now), self._order, packet[_ID]))
        except BlockingIOError:
            pass
        self._counters.passed += len(passed)
        self._counters.lost += len(lost)
        self._queue.judge(passed, _ACCEPT_PREFIX)
        self._queue.judge(lost, _DROP_PREFIX)

    def _due(self, pair: Pair, now: int) -> int:
        due = now + pair.delay
        if pair.jitter:
            due = max(now, round(due + self._random.gauss(0.0, pair.jitter)))
        pair.last = max(due, pair.last)
        return pair.last

    def _release(self) -> None:
        heap, counters = self._heap, self._counters
        now = time.monotonic_ns()
        due: list[bytes] = []
        while heap and heap[0][0] <= now + _EARLY:
            at, _, number = heapq.heappop(heap)
            due.append(number)
            late = max(now - at, 0)
            counters.late += late
            if late > counters.latest:
                counters.latest = late
        counters.delayed += len(due)
        self._queue.judge(due, _ACCEPT_PREFIX)
        self._timer.set(heap[0][0] - _LEAD if heap else 0)

    def _serve(self, descriptor: int) -> None:
        if descriptor == self._server.fileno():
            client, _ = self._server.accept()
            client.settimeout(1.0)
            self._clients[client.fileno()] = client
            self._poll.register(client.fileno(), select.EPOLLIN)
            return
        client = self._clients[descriptor]
        try:
            request = client.makefile("rb").readline(channel.LONGEST)
            if request:
                client.sendall(channel.encode(self._answer(request)))
                return
        except OSError:
            pass
        self._poll.unregister(descriptor)
        self._clients.pop(descriptor).close()

    def _answer(self, request: bytes) -> channel.Body:
        try:
            message = channel.decode(request)
            return {"ok": True, **self._obey(str(message.get("op")), str(message.get("node", "")))}
        except (DisturbanceError, OSError, ValueError) as error:
            return {"ok": False, "error": f"delay line: {error}"}

    def _obey(self, op: str, node: str) -> channel.Body:
        if op == "reload":
            self.load(*([node] if node else []))
            return {}
        if op == "status":
            return {"pid": os.getpid(), "waiting": len(self._heap), **self._status()}
        raise DisturbanceError(f"unknown request {op!r}; known are reload and status")

    def _status(self) -> dict[str, float]:
        done = self._counters
        return {
            "pairs": len(self._pairs),
            "delayed": done.delayed,
            "lost": done.lost,
            "passed": done.passed,
            "mean_late": done.late / max(done.delayed, 1) / 1e9,
            "most_late": done.latest / 1e9,
        }


def hurry() -> None:
    """Run before ordinary processes, so that busy nodes lengthen no link."""
    try:
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
    except OSError:
        with suppress(OSError):
            os.nice(-20)


def open_queue(directory: Path) -> Queue:
    """Return the queue of the testbed's switch, or else of the caller's own network."""
    switch = directory / "ns" / ".switch" / "net"
    if not switch.exists():
        return Queue()
    home = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    there = os.open(switch, os.O_RDONLY | os.O_CLOEXEC)
    try:
        syscalls.setns(there, syscalls.CLONE_NEWNET)
        return Queue()
    finally:
        syscalls.setns(home, syscalls.CLONE_NEWNET)
        os.close(there)
        os.close(home)


def main() -> None:
    """Serve the testbed in the folder that the first argument names."""
    directory = Path(sys.argv[1])
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    server = daemon.inherited() or channel.listen(directory / "agent" / delayclient.SOCKET)
    line = DelayLine(directory, open_queue(directory), server)
    line.load()
    hurry()
    gc.freeze()
    gc.disable()
    line.run()


if __name__ == "__main__":
    main()
