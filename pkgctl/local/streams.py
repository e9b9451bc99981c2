# SPDX-License-Identifier: GPL-3.0-or-later
"""What the agent tells without being asked: events and samples, each read by a thread of its own.

The threads sleep in the kernel until something comes, and so does whoever waits for an event:
nothing here polls, for every cycle would be one less for the nodes.
"""

from __future__ import annotations

import contextlib
import os
import queue
import socket
import threading
import time
from collections import deque
from collections.abc import Iterator
from typing import Any

from pkgctl.errors import TestbedError
from pkgctl.local.agent import AgentClient
from pkgctl.local.paths import Paths

Message = dict[str, Any]


class Stream:
    """Messages of one request to the agent, in the order in which they came."""

    def __init__(self, paths: Paths, op: str, **fields: Any) -> None:
        """Begin to listen.

        Raises:
            TestbedError: if the agent does not answer.
        """
        self._client = AgentClient(paths)
        self._messages: queue.SimpleQueue[Message | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._read, args=(op, fields), daemon=True)
        self._thread.start()

    def _read(self, op: str, fields: Message) -> None:
        with contextlib.suppress(TestbedError, OSError, ValueError):
            for message in self._client.stream(op, **fields):
                self._messages.put(message)
        self._messages.put(None)

    def next(self, until: float | None = None) -> Message | None:
        """Return the next message, or None if none came by a time (CLOCK_MONOTONIC).

        Raises:
            TestbedError: if the agent hung up.
        """
        try:
            if until is None:
                message = self._messages.get()
            else:
                message = self._messages.get(timeout=max(0.0, until - time.monotonic()))
        except queue.Empty:
            return None
        if message is None:
            self._messages.put(None)
            raise TestbedError("the agent of the testbed hung up")
        return message

    def put(self, message: Message) -> None:
        """Have somebody else's message come among the agent's; from any thread."""
        self._messages.put(message)

    def waiting(self) -> Iterator[Message]:
        """Yield the messages that have come."""
        with contextlib.suppress(queue.Empty):
            while (message := self._messages.get_nowait()) is not None:
                yield message
            self._messages.put(None)

    def close(self) -> None:
        """Stop to listen."""
        # A close alone would not wake the thread that waits for the other side's words.
        same = socket.socket(fileno=os.dup(self._client.fileno()))
        with same, contextlib.suppress(OSError):
            same.shutdown(socket.SHUT_RDWR)
        self._thread.join(timeout=5.0)
        self._client.close()


class Samples:
    """Usage samples as they come; the latest minutes are kept."""

    def __init__(self, paths: Paths, interval: float, kept: int = 20_000) -> None:
        """Begin to sample, every interval seconds."""
        self._stream = Stream(paths, "samples", interval=interval)
        self._kept: deque[Message] = deque(maxlen=kept)

    def take(self, start: float, end: float) -> list[Message]:
        """Return the samples between two times (CLOCK_MONOTONIC), and forget the older ones."""
        self._kept.extend(self._stream.waiting())
        while self._kept and self._kept[0]["mono"] < start:
            self._kept.popleft()
        return [sample for sample in self._kept if sample["mono"] <= end]

    def close(self) -> None:
        """Stop to sample."""
        self._stream.close()
