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


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Raise Interrupted for the first signal, and ignore all later ones until the block ends."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        for each in SIGNALS:
            signal.signal(each, signal.SIG_IGN)
        raise Interrupted

    before = {each: signal.signal(each, interrupt) for each in SIGNALS}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
