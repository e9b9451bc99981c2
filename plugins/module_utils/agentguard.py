# SPDX-License-Identifier: GPL-3.0-or-later
"""Starts the agent again when it dies, as the agent does with the delay line."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NoReturn

from . import channel, daemon, syscalls
from .errors import AgentError
from .loop import Loop

_SEEK_EVERY = 1.0
# An agent that dies young is started again later and later.
_SHORTEST_PAUSE, _LONGEST_PAUSE = 0.05, 5.0
_YOUNG = 5.0


class AgentGuard:
    """Holds a connection to the agent, whose end says that the agent has ended.

    Attributes:
        is_holding: whether there is one now.
    """

    def __init__(self, directory: Path, loop: Loop) -> None:
        """Watch over the agent of the testbed in directory."""
        self._directory = directory
        self._path = directory / channel.AGENT
        self._loop = loop
        self._pause = _SHORTEST_PAUSE
        self._since = 0.0
        self.is_holding = False
        self.seek()

    def seek(self) -> None:
        """Connect to the agent; if it is not there, later again."""
        if not self._connect():
            self._loop.at(syscalls.monotonic() + _SEEK_EVERY, self.seek)

    def _connect(self) -> bool:
        try:
            # Without patience: a connection is made at once, or the listener is overrun.
            client = channel.Client(self._path, timeout=0.0)
        except AgentError:
            return False
        self._since = syscalls.monotonic()
        self.is_holding = True
        self._loop.watch(client.fileno(), lambda _: self._ended(client))
        return True

    def _ended(self, client: channel.Client) -> None:
        self._loop.forget(client.fileno())
        client.close()
        self.is_holding = False
        now = syscalls.monotonic()
        young = now - self._since < _YOUNG
        self._pause = min(2 * self._pause, _LONGEST_PAUSE) if young else _SHORTEST_PAUSE
        self._loop.at(now + self._pause, self._revive)

    def _revive(self) -> None:
        """Start the agent, unless it is back, others see to that, or its testbed is gone."""
        gone = not self._path.parent.is_dir() or daemon.is_going_down(self._directory)
        if gone or self._connect():
            return
        if daemon.is_service(self._directory):
            self.seek()
            return
        child = os.fork()
        if child == 0:
            self._start()
        self._loop.await_exit(child, lambda _: self.seek())

    def _start(self) -> NoReturn:
        """Be the agent's starter: a child, since packets must not wait for it."""
        try:
            daemon.ensure("agent", self._directory, self._path)
        finally:
            os._exit(0)
