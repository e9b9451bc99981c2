# SPDX-License-Identifier: GPL-3.0-or-later
"""One loop over descriptors and the clock, for a process that does many small things."""

from __future__ import annotations

import heapq
import math
import os
import select
from collections.abc import Callable

from . import syscalls

Action = Callable[[], None]
# Timers that were called off are swept out when there are so many, and more than others.
_SWEPT = 256


class Timer:
    """An action that waits for its time; it may be called off."""

    __slots__ = ("_loop", "action", "when")

    def __init__(self, loop: Loop, when: float, action: Action) -> None:
        """Wait in a loop until a time."""
        self._loop = loop
        self.when = when
        self.action: Action | None = action

    def cancel(self) -> None:
        """Forget the action, unless it has happened."""
        if self.action is not None:
            self.action = None
            self._loop.swept()


class Loop:
    """Calls back when a descriptor can be read or written, or when a time has come."""

    def __init__(self) -> None:
        """Make a loop with nothing to do."""
        self._poll = select.epoll()
        self._handlers: dict[int, Callable[[int], None]] = {}
        self._timers: list[tuple[float, int, Timer]] = []
        self._order = 0
        self._cancelled = 0
        self._going = True
        self._bell = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._poll.register(self._bell, select.EPOLLIN)

    def run(self) -> None:
        """Call back until stop is called."""
        while self._going:
            for descriptor, mask in self._poll.poll(self._patience()):
                if (handler := self._handlers.get(descriptor)) is not None:
                    handler(mask)
            while self._going and self._timers and self._timers[0][0] <= syscalls.monotonic():
                self._fire(heapq.heappop(self._timers)[2])

    def _fire(self, timer: Timer) -> None:
        if timer.action is None:
            self._cancelled -= 1
        else:
            action, timer.action = timer.action, None
            action()

    def stop(self) -> None:
        """Return from run after the action of the moment; a signal handler may call this."""
        self._going = False
        os.eventfd_write(self._bell, 1)

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

    def at(self, when: float, action: Action) -> Timer:
        """Call action at a time of CLOCK_MONOTONIC, in seconds.

        Raises:
            ValueError: if that is no time.
        """
        if not math.isfinite(when):
            raise ValueError(f"{when} is no time")
        self._order += 1
        timer = Timer(self, when, action)
        heapq.heappush(self._timers, (when, self._order, timer))
        return timer

    def swept(self) -> None:
        """Take note that a timer was called off, and drop those that were if they are many."""
        self._cancelled += 1
        if self._cancelled > max(_SWEPT, len(self._timers) // 2):
            self._timers = [entry for entry in self._timers if entry[2].action is not None]
            heapq.heapify(self._timers)
            self._cancelled = 0

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
