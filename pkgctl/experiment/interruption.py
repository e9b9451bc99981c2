# SPDX-License-Identifier: GPL-3.0-or-later
"""Ctrl-C and SIGTERM as one exception, raised once: what follows is left to end in peace."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupted(BaseException):
    """The user, or the system, wants the experiment to stop."""


class Interruption:
    """The wish to stop, from the first signal on; later ones are ignored."""

    def __init__(self) -> None:
        self._shields = 0
        self._wished = False

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        """Raise Interrupted in the block for the first signal."""
        before = {each: signal.signal(each, self._hear) for each in SIGNALS}
        try:
            yield
        finally:
            for each, handler in before.items():
                signal.signal(each, handler)

    @contextlib.contextmanager
    def shielded(self) -> Iterator[None]:
        """Let the block come to its end; what interrupted it is raised then."""
        self._shields += 1
        try:
            yield
        finally:
            self._shields -= 1
            self._raise()

    def _hear(self, number: int, frame: FrameType | None) -> None:
        for each in SIGNALS:
            signal.signal(each, signal.SIG_IGN)
        self._wished = True
        self._raise()

    def _raise(self) -> None:
        if self._wished and not self._shields:
            self._wished = False
            raise Interrupted
