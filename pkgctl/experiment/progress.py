# SPDX-License-Identifier: GPL-3.0-or-later
"""What an experiment says while it runs: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TextIO

BAR_WIDTH = 24
ERASE = "\r\x1b[2K"


def show_seconds(seconds: float) -> str:
    """Return a time for people, such as ``3m12s``."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole}s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes}m{rest:02d}s"
    return f"{minutes // 60}h{minutes % 60:02d}m"


def bar(share: float, width: int = BAR_WIDTH) -> str:
    """Return a bar that is filled to a share of its width."""
    full = round(min(max(share, 0.0), 1.0) * width)
    return "━" * full + "─" * (width - full)


class Progress:
    """Tells how far an experiment has come, and how long the rest will take.

    The time left is what the plan estimated, scaled by how the runs so far kept to it.
    """

    def __init__(self, stream: TextIO | None, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream
        self._clock = clock
        self._live = bool(stream and stream.isatty())
        self._total = self._done = 0
        self._planned = self._spent = 0.0

    def plan(self, total: int, seconds_each: float) -> None:
        """Set how many runs are to be made, and how long one is thought to take."""
        self._total, self._planned = total, seconds_each

    def say(self, text: str) -> None:
        """Write a line that stays."""
        if self._stream is not None:
            self._stream.write(f"{ERASE if self._live else ''}{text}\n")
            self._stream.flush()

    def begin(self, label: str) -> None:
        """Show the run that begins."""
        self._since = self._clock()
        if not self._live or self._stream is None:
            return
        share = self._done / self._total if self._total else 0.0
        text = f"{bar(share)} {self._done + 1}/{self._total}  {label}  {self._left()} left"
        self._stream.write(f"{ERASE}{text}")
        self._stream.flush()

    def end(self, label: str, outcome: str) -> None:
        """Note that the run has ended."""
        seconds = self._clock() - self._since
        self._done += 1
        self._spent += seconds
        if not self._live:
            left = f", {self._left()} left" if self._done < self._total else ""
            self.say(f"{self._done}/{self._total} {label}: {outcome} in {seconds:.1f} s{left}")

    def clear(self) -> None:
        """Remove the bar."""
        if self._live and self._stream is not None:
            self._stream.write(ERASE)
            self._stream.flush()

    def _left(self) -> str:
        each = self._spent / self._done if self._done else self._planned
        return show_seconds(each * (self._total - self._done))
