# SPDX-License-Identifier: GPL-3.0-or-later
"""The terminal, tried on a pseudo-terminal of the test's own."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import signal
import struct
import termios
import threading

import pytest

from pkgctl.errors import TestbedError
from pkgctl.watch import lines, live
from pkgctl.watch.lines import Line
from pkgctl.watch.terminal import Terminal, wants_colours
from tests.unit.watch.made import picture


class Screen:
    """Somebody's terminal: what was written on it, and how its line is set."""

    def __init__(self, columns=80, rows=24):
        self.outer, self.inner = pty.openpty()
        self.resize(columns, rows)
        self.before = self.settings()

    def resize(self, columns, rows):
        fcntl.ioctl(self.inner, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def settings(self):
        return termios.tcgetattr(self.inner)

    def type(self, keys):
        os.write(self.outer, keys)

    def read(self):
        return os.read(self.outer, 1 << 16).decode()

    def until(self, *words):
        found = ""
        while not all(word in found for word in words):
            found += self.read()
        return found

    def terminal(self, **options):
        return Terminal(self.inner, self.inner, **{"colours": False, **options})


@pytest.fixture
def screen():
    made = Screen()
    yield made
    for descriptor in (made.outer, made.inner):
        with contextlib.suppress(OSError):
            os.close(descriptor)


class Pictures:
    """Hands out what it was made with, then waits until it is closed."""

    def __init__(self, *pictures):
        self._pictures = pictures
        self._over = threading.Event()

    def __iter__(self):
        for each in self._pictures:
            if isinstance(each, Exception):
                raise each
            yield each
        self._over.wait(30)

    def close(self):
        self._over.set()


def test_the_terminal_is_taken_and_given_back(screen):
    with screen.terminal().shown():
        assert screen.settings() != screen.before
        assert "\x1b[?1049h" in screen.until("\x1b[?25l")

    assert screen.settings() == screen.before
    assert "\x1b[?1049l" in screen.until("\x1b[?25h", "\x1b[?1049l")


@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt(), SystemExit(3)])
def test_the_terminal_is_given_back_after_an_error(screen, error):
    with pytest.raises(type(error)), screen.terminal().shown():
        raise error

    assert screen.settings() == screen.before
    screen.until("\x1b[?25h", "\x1b[?1049l")


def test_sigterm_and_the_end_of_the_session_give_it_back(screen):
    for number in (signal.SIGTERM, signal.SIGHUP):
        with pytest.raises(SystemExit) as caught, screen.terminal().shown():
            signal.raise_signal(number)
        assert caught.value.code == 128 + number
        assert screen.settings() == screen.before


def test_signals_mean_afterwards_what_they_meant_before(screen):
    before = [signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGWINCH)]

    with screen.terminal().shown():
        pass

    assert [signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGWINCH)] == before


def test_the_size_is_the_windows_as_it_is_now(screen):
    terminal = screen.terminal()

    assert terminal.size() == (80, 24)
    screen.resize(200, 60)
    assert terminal.size() == (200, 60)
    screen.resize(1, 1)
    assert terminal.size() == (20, 3)
    screen.resize(0, 0)
    assert terminal.size() == (80, 24)


def test_waiting_ends_with_a_key_a_wake_or_a_new_size(screen):
    terminal = screen.terminal()
    with terminal.shown():
        screen.type(b"\x1b[A")
        assert terminal.wait() == "\x1b[A"
        terminal.wake()
        assert terminal.wait() == ""
        signal.raise_signal(signal.SIGWINCH)
        assert terminal.wait() == ""


def test_a_terminal_that_went_away_is_the_end_of_the_input(screen):
    terminal = screen.terminal()
    with terminal.shown():
        os.close(screen.outer)
        with pytest.raises(EOFError):
            terminal.wait()


@pytest.mark.parametrize("colours", [True, False])
def test_colours_only_where_they_are_welcome(colours):
    painted = Line((("hot", lines.BAD), ("head", lines.HEAD), ("", lines.DIM))).paint(
        colours=colours
    )

    assert ("\x1b[1;31mhot" in painted) is colours
    assert painted.endswith("\x1b[7mhead\x1b[m")


@pytest.mark.parametrize(
    ("environment", "welcome"),
    [({}, True), ({"NO_COLOR": "1"}, False), ({"NO_COLOR": ""}, True), ({"TERM": "dumb"}, False)],
)
def test_no_color_is_honoured(environment, welcome):
    assert wants_colours(environment) is welcome


def watch(screen, *pictures, keys=b""):
    """Show pictures as the command does, with a thread that reads and types."""
    seen = [""]

    def reader():
        waiting = keys
        while "\x1b[?1049l" not in seen[0]:
            seen[0] += screen.read()
            if waiting and "edge-1" in seen[0]:
                screen.type(waiting)
                waiting = b""

    helper = threading.Thread(target=reader, daemon=True)
    helper.start()
    try:
        live.show(Pictures(*pictures), screen.terminal())
    finally:
        helper.join(10)
    return seen[0]


@pytest.mark.parametrize("keys", [b"q", b"/edge\rq", b"? q", b"\x04"])
def test_a_live_view_shows_pictures_until_it_is_quit(screen, keys):
    seen = watch(screen, picture(3), keys=keys)

    assert "edge-0 -> edge-1" in seen
    assert screen.settings() == screen.before


def test_a_failure_ends_the_live_view_and_is_told(screen):
    with pytest.raises(TestbedError, match="no longer"):
        watch(screen, picture(3), TestbedError("it is no longer up"))

    assert screen.settings() == screen.before
