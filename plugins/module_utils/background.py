# SPDX-License-Identifier: GPL-3.0-or-later
"""Work that may take seconds, done by a child while its parent goes on with what is due."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from typing import Any, NoReturn

from . import syscalls
from .loop import Loop

Result = dict[str, Any]
Work = Callable[[], Result]
Then = Callable[[Result], None]


class Child:
    """A child at work; it dies with its parent."""

    def __init__(self, loop: Loop, work: Work, then: Then) -> None:
        """Begin the work, and call then with its result; ``error`` is in it if it failed."""
        self._then: Then | None = then
        self._result, writing = os.pipe2(os.O_CLOEXEC)
        parent = os.getpid()
        self._pid = os.fork()
        if self._pid == 0:
            _be_child(parent, work, writing)
        os.close(writing)
        loop.await_exit(self._pid, lambda _: self._finish())

    def _finish(self) -> None:
        try:
            with os.fdopen(self._result, "rb") as file:
                result: Result = json.loads(file.read())
        except ValueError:
            result = {"error": "the child that did it was killed"}
        if self._then is not None:
            self._then(result)

    def wait(self) -> None:
        """Wait until the work is done, and call nobody."""
        self._then = None
        os.waitid(os.P_PID, self._pid, os.WEXITED | os.WNOWAIT)


def _be_child(parent: int, work: Work, writing: int) -> NoReturn:
    try:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        syscalls.die_with_parent(parent)
        try:
            result = work()
        except Exception as error:
            result = {"error": f"{type(error).__name__}: {' '.join(str(error).split())}"[:500]}
        data = json.dumps(result).encode()
        while data:
            data = data[os.write(writing, data) :]
    finally:
        os._exit(0)
