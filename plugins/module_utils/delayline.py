# SPDX-License-Identifier: GPL-3.0-or-later
"""The delay line: what links do to packets, for kernels without netem, one process for all nodes.

Packets of a treated pair of nodes are queued by the kernel on their way through the switch. We keep
verdicts in a heap by the time at which they are due, and give them to the kernel then.

The place matters. A packet held back while it leaves its node still counts against its sender's
socket, which then stalls; one held back where it has arrived was stamped by the kernel before the
delay, and ping believes that stamp. In the routed switch between the two, it belongs to no socket
and is stamped later.

Packets of one pair keep their order: jitter stretches gaps, it does not make packets overtake.
"""

from __future__ import annotations

import gc
import heapq
import itertools
import os
import random
import signal
import socket
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

from . import channel, daemon, delayclient, packets
from .agentguard import AgentGuard
from .alarm import Alarm
from .errors import DisturbanceError
from .loop import Loop
from .packetqueue import PACKET_ID, PacketQueue, is_packet
from .server import Client, Server
from .switch import Switch as Switch
from .switch import open_switch
from .treatedpairs import TreatedPairs
from .treatment import Treatment

_AT_ONCE = 256
# Waking up takes about 0.1 ms: the alarm goes off so much earlier, and what is due within half of
# that is released at once rather than waited for.
_LEAD, _EARLY = 100_000, 50_000
# Where the key of a pair is in the header of a packet, by its length.
_KEY = {8: slice(12, 20), 32: slice(8, 40)}


class Exit(Protocol):
    """Where packets leave the delay line: what is ready goes with the next flush."""

    ready: list[bytes]

    def flush(self) -> None:
        """Let it go."""


@dataclass(slots=True)
class Counters:
    """What the delay line has done; late is the sum of nanoseconds after the due time."""

    delayed: int = 0
    lost: int = 0
    passed: int = 0
    doubled: int = 0
    damaged: int = 0
    late: int = 0
    latest: int = 0


class DelayLine:
    """The pairs of a testbed, one heap of packets, one loop."""

    def __init__(self, directory: Path, switch: Switch, server: socket.socket, loop: Loop) -> None:
        """Treat what comes through switch as the nodes under directory ask, and answer server."""
        self._random = random.Random()
        self._switch = switch
        self._loop = loop
        self.guard: AgentGuard | None = None
        self.pairs = TreatedPairs(directory, switch.sets, self._random)
        self._heap: list[tuple[int, int, list[bytes], bytes]] = []
        self._order = itertools.count()
        self._counters = Counters()
        self._alarm = Alarm()
        self._exits: list[Exit] = [*switch.starts.values(), *switch.whole.values(), switch.sender]
        for length, queue in switch.starts.items():
            self._watch(queue, partial(self._receive, queue, slice(-length, None)))
        for length, queue in switch.whole.items():
            self._watch(queue, partial(self._receive_whole, queue, _KEY[length]))
        loop.watch(self._alarm.descriptor, self._wake)
        operations = {
            "set": self._set,
            "pairs": self._pairs,
            "losses": self._losses,
            "reload": self._reload,
        }
        Server(loop, server, {**operations, "status": lambda *_: self.status()})

    def _watch(self, queue: PacketQueue, receive: Callable[[], None]) -> None:
        def ready(_: int) -> None:
            receive()
            self._release()

        self._loop.watch(queue.fileno(), ready)

    def _receive(self, queue: PacketQueue, key: slice) -> None:
        """Take packets of which the start was copied, its last bytes the key of the pair."""
        receive, room, accept, ready = queue.receive, queue.room, queue.accept, queue.ready
        treated, heap, order = self.pairs.by_key, self._heap, self._order
        now = time.monotonic_ns()
        with suppress(BlockingIOError):
            for _ in range(_AT_ONCE):
                message = receive(room)
                treatment = treated.get(message[key])
                if treatment is not None:
                    verdict = accept + message[PACKET_ID]
                    heapq.heappush(heap, (treatment.due(now), next(order), ready, verdict))
                elif is_packet(message):
                    self._counters.passed += 1
                    ready.append(accept + message[PACKET_ID])

    def _receive_whole(self, queue: PacketQueue, key: slice) -> None:
        """Take frames, each by itself and whole."""
        treated, now = self.pairs.by_key, time.monotonic_ns()
        with suppress(BlockingIOError):
            for _ in range(_AT_ONCE):
                message = queue.receive(queue.room)
                if not is_packet(message):
                    continue
                number, packet = message[PACKET_ID], queue.packet(message)
                treatment = treated.get(packet[key])
                if treatment is None:
                    self._counters.passed += 1
                    queue.ready.append(queue.accept + number)
                elif treatment.loses():
                    self._counters.lost += 1
                    queue.ready.append(queue.drop + number)
                else:
                    self._hold(queue, treatment, number, packet, treatment.due(now))

    def _hold(
        self, queue: PacketQueue, treatment: Treatment, number: bytes, packet: bytes, due: int
    ) -> None:
        """Keep a whole packet until it is due, damaged or with a copy as its treatment draws."""
        verdict = queue.accept + number
        if treatment.damages():
            self._counters.damaged += 1
            verdict = queue.accept_as(number, packets.damaged(packet, self._random))
        heapq.heappush(self._heap, (due, next(self._order), queue.ready, verdict))
        if treatment.doubles() and (copy := packets.forwarded(packet)):
            self._counters.doubled += 1
            heapq.heappush(self._heap, (due, next(self._order), self._switch.sender.ready, copy))

    def _wake(self, _: int) -> None:
        self._alarm.clear()
        self._release()

    def _release(self) -> None:
        """Let go what is due, and set the alarm for what is due next."""
        heap, counters = self._heap, self._counters
        now = time.monotonic_ns()
        until = now + _EARLY
        while heap and heap[0][0] <= until:
            due, _, ready, word = heapq.heappop(heap)
            ready.append(word)
            counters.delayed += 1
            late = now - due
            if late > 0:
                counters.late += late
                if late > counters.latest:
                    counters.latest = late
        for each in self._exits:
            if each.ready:
                each.flush()
        self._alarm.set(heap[0][0] - _LEAD if heap else 0)

    def _set(self, _: Client, request: channel.Body) -> None:
        self.pairs.set(request)

    def _pairs(self, _: Client, request: channel.Body) -> channel.Body:
        return self.pairs.listing(request)

    def _losses(self, _: Client, request: channel.Body) -> channel.Body:
        return self.pairs.losses(request)

    def _reload(self, _: Client, __: channel.Body) -> None:
        self.pairs.load()

    def status(self) -> channel.Body:
        """Return what the delay line has done and has to do; times are in seconds."""
        done = self._counters
        return {
            "pid": os.getpid(),
            "waiting": len(self._heap),
            "pairs": len(self.pairs),
            "delayed": done.delayed,
            "lost": done.lost,
            "passed": done.passed,
            "doubled": done.doubled,
            "damaged": done.damaged,
            "mean_late": done.late / max(done.delayed, 1) / 1e9,
            "most_late": done.latest / 1e9,
            "guards_agent": self.guard is not None and self.guard.is_holding,
        }

    def close(self) -> None:
        """Let the alarm go."""
        self._alarm.close()


def hurry() -> None:
    """Run before ordinary processes, so that busy nodes lengthen no link; children do not."""
    try:
        os.sched_setscheduler(0, os.SCHED_RR | os.SCHED_RESET_ON_FORK, os.sched_param(1))
    except OSError:
        with suppress(OSError):
            os.sched_setscheduler(0, os.SCHED_OTHER | os.SCHED_RESET_ON_FORK, os.sched_param(0))
            os.nice(-20)


def main() -> None:
    """Serve the testbed in the folder that the first argument names."""
    directory = Path(sys.argv[1])
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    server = daemon.inherited() or channel.listen(directory / "agent" / delayclient.SOCKET)
    loop = Loop()
    line = DelayLine(directory, open_switch(directory), server, loop)
    try:
        line.pairs.load()
    except DisturbanceError as error:
        print(f"delay line: {error}", file=sys.stderr, flush=True)
    line.guard = AgentGuard(directory, loop)
    hurry()
    gc.freeze()
    gc.disable()
    loop.run()


if __name__ == "__main__":
    main()
