# SPDX-License-Identifier: GPL-3.0-or-later
"""A terminal taken over for a live view and given back as it was, whatever happens.

Only the codes that every terminal of the last decades knows are used, so it works through ssh and
in a window of any size.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import termios
import tty
from collections.abc import Iterator, Mapping, Sequence
from types import FrameType
from typing import Any

from pkgctl.watch.lines import Line

# The second screen, no cursor, no wrapping of long lines; and back.
_ENTER = "\x1b[?1049h\x1b[?25l\x1b[?7l\x1b[2J"
_LEAVE = "\x1b[?7h\x1b[?25h\x1b[?1049l"
_HOME = "\x1b[H"
_SMALLEST = (20, 3)
_USUAL = (80, 24)
_ESCAPE_SECONDS = 0.05


class Terminal:
    """The terminal on two descriptors, of which one is read and one written."""

    def __init__(self, keyboard: int, screen: int, *, colours: bool) -> None:
        """Use a terminal; nothing of it is changed before the block of shown()."""
        self._keyboard = keyboard
        self._screen = screen
        self._colours = colours
        self._wake, self._woken = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._before: list[Any] = []
        self._pending = ""

    @contextlib.contextmanager
    def shown(self) -> Iterator[None]:
        """Take the terminal over for a block, and give it back when that ends or fails."""
        self._before = termios.tcgetattr(self._keyboard)
        handlers = {
            signal.SIGWINCH: self._resized,
            signal.SIGTSTP: self._stopped,
            signal.SIGTERM: _end,
            signal.SIGHUP: _end,
        }
        old = {number: signal.signal(number, action) for number, action in handlers.items()}
        try:
            self._enter()
            yield
        finally:
            self._leave()
            for number, action in old.items():
                signal.signal(number, action)
            os.close(self._wake)
            os.close(self._woken)

    def _enter(self) -> None:
        tty.setcbreak(self._keyboard, termios.TCSANOW)
        self._write(_ENTER)

    def _leave(self) -> None:
        # Whoever closed the window has taken the terminal along.
        with contextlib.suppress(OSError, termios.error):
            self._write(_LEAVE)
            termios.tcsetattr(self._keyboard, termios.TCSANOW, self._before)

    def _resized(self, _: int, __: FrameType | None) -> None:
        self.wake()

    def _stopped(self, number: int, _: FrameType | None) -> None:
        """Give the terminal back while we are stopped (Ctrl-Z), and take it again."""
        self._leave()
        os.kill(os.getpid(), signal.SIGSTOP)
        self._enter()
        self.wake()

    def wake(self) -> None:
        """Let wait() return; may be called by any thread."""
        with contextlib.suppress(BlockingIOError):
            os.write(self._woken, b"!")

    def wait(self) -> str:
        """Return what was typed, or nothing if something else happened.

        Raises:
            EOFError: if the terminal is gone.
        """
        ready, _, _ = select.select([self._keyboard, self._wake], [], [])
        if self._wake in ready:
            os.read(self._wake, 4096)
        return self._typed() if self._keyboard in ready else ""

    def _typed(self) -> str:
        try:
            data = os.read(self._keyboard, 1024)
            if data == b"\x1b" and select.select([self._keyboard], [], [], _ESCAPE_SECONDS)[0]:
                # Through ssh the rest of a key may come a moment later.
                data += os.read(self._keyboard, 1024)
        except OSError:
            data = b""
        if not data:
            raise EOFError("the terminal is gone")
        return data.decode(errors="replace")

    def size(self) -> tuple[int, int]:
        """Return (columns, rows) as they are now."""
        try:
            found = os.get_terminal_size(self._screen)
        except OSError:
            return _USUAL
        if not found.columns or not found.lines:
            return _USUAL
        return max(found.columns, _SMALLEST[0]), max(found.lines, _SMALLEST[1])

    def draw(self, frame: Sequence[Line]) -> None:
        """Write a frame that fills the terminal over the one before, in one go.

        Raises:
            EOFError: if the terminal is gone.
        """
        painted = "\r\n".join(line.paint(colours=self._colours) for line in frame)
        try:
            self._write(_HOME + painted)
        except OSError as error:
            raise EOFError("the terminal is gone") from error

    def _write(self, text: str) -> None:
        data = text.encode("ascii", "replace")
        while data:
            data = data[os.write(self._screen, data) :]


def _end(number: int, _: FrameType | None) -> None:
    raise SystemExit(128 + number)


def wants_colours(environment: Mapping[str, str]) -> bool:
    """Return whether colours are welcome on a terminal: see no-color.org."""
    return not environment.get("NO_COLOR") and environment.get("TERM") != "dumb"
