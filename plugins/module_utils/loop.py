# SPDX-License-Identifier: GPL-3.0-or-later
"""One loop over descriptors and the clock, for a process that does many small things."""

from __future__ import annotations

import heapq
import os
import select
from collections.abc import Callable

from . import syscalls

Action = Callable[[], None]


class Loop:
    """Calls back when a descriptor can be read or written, or when a time has come."""

    def __init__(self) -> None:
        """Make a loop with nothing to do."""
        self._poll = select.epoll()
        self._handlers: dict[int, Callable[[int], None]] = {}
        self._timers: list[tuple[float, int, Action]] = []
        self._order = 0

    def run(self) -> None:
        """Call back for ever."""
        while True:
            for descriptor, mask in self._poll.poll(self._patience()):
                if (handler := self._handlers.get(descriptor)) is not None:
                    handler(mask)
            while self._timers and self._timers[0][0] <= syscalls.monotonic():
                heapq.heappop(self._timers)[2]()

    def _patience(self) -> float | None:
        return max(self._timers[0][0] - syscalls.monotonic(), 0.0) if self._timers else None

    def watch(self, descriptor: int, handler: Callable[[int], None]) -> None:
        """Call handler with epoll's mask whenever descriptor can be read."""
        self._handlers[descriptor] = handler
        self._poll.register(descriptor, select.EPOLLIN)

    def mind_writing(self, descriptor: int, *, wanted: bool) -> None:
        """Call the handler too when descriptor can be written, or no longer."""
        if descriptor in self._handlers:
            self._poll.modify(descriptor, select.EPOLLIN | (select.EPOLLOUT if wanted else 0))

    def forget(self, descriptor: int) -> None:
        """Stop watching a descriptor; its owner closes it."""
        if self._handlers.pop(descriptor, None) is not None:
            self._poll.unregister(descriptor)

    def at(self, when: float, action: Action) -> None:
        """Call action at a time of CLOCK_MONOTONIC, in seconds."""
        self._order += 1
        heapq.heappush(self._timers, (when, self._order, action))

    def await_exit(self, pid: int, then: Callable[[int | None], None]) -> None:
        """Call then with a process's exit status when it ends; None if it is not our child."""
        descriptor = os.pidfd_open(pid)

        def reap(_: int) -> None:
            self.forget(descriptor)
            os.close(descriptor)
            then(_reap(pid))

        self.watch(descriptor, reap)


def _reap(pid: int) -> int | None:
    """Return a child's exit status, or minus the signal that ended it; None if it is not ours."""
    try:
        _, status = os.waitpid(pid, 0)
    except ChildProcessError:
        return None
    return os.waitstatus_to_exitcode(status)
