# SPDX-License-Identifier: GPL-3.0-or-later
"""The live view: pictures as they come, keys as they are typed, one frame after each."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Protocol

from pkgctl.watch import frame, keys, lines
from pkgctl.watch.keys import View
from pkgctl.watch.lines import Line
from pkgctl.watch.picture import Picture
from pkgctl.watch.terminal import Terminal

_PATIENCE = 2.0


class Source(Protocol):
    """Whoever takes pictures."""

    def __iter__(self) -> Iterator[Picture]:
        """Yield a picture from time to time."""
        ...

    def close(self) -> None:
        """Have the iteration end soon, though it is another thread's."""
        ...


class Gallery:
    """The latest picture, taken by a thread of its own so that keys never wait for one."""

    def __init__(self, source: Source, terminal: Terminal) -> None:
        """Take pictures and wake the terminal for each."""
        self.latest: Picture | None = None
        self._source = source
        self._terminal = terminal
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._take, daemon=True)
        self._thread.start()

    def _take(self) -> None:
        try:
            for picture in self._source:
                self.latest = picture
                self._wake()
        except BaseException as error:  # It is raised again where the user sees it.
            self._failure = error
            self._wake()

    def _wake(self) -> None:
        with contextlib.suppress(OSError):
            self._terminal.wake()

    def check(self) -> None:
        """Raise what kept the next picture from being taken, if anything did."""
        if self._failure is not None:
            raise self._failure

    def close(self) -> None:
        """Take no more."""
        self._source.close()
        self._thread.join(_PATIENCE)


def show(source: Source, terminal: Terminal) -> None:
    """Show pictures on a terminal until the reader quits; the terminal is left as it was.

    Raises:
        PkgctlError: what kept pictures from being taken.
    """
    with (
        terminal.shown(),
        contextlib.closing(Gallery(source, terminal)) as gallery,
        # Ctrl-C, and a window that was closed, end it as q does.
        contextlib.suppress(KeyboardInterrupt, EOFError),
    ):
        _follow(gallery, terminal)


def _follow(gallery: Gallery, terminal: Terminal) -> None:
    view, held = View(), None
    terminal.draw(_waiting(*terminal.size()))
    while not view.quit:
        gallery.check()
        held = held if view.paused and held is not None else gallery.latest
        if held is not None:
            width, height = terminal.size()
            view = frame.settle(held, height, view)
            terminal.draw(frame.frame(held, width, height, view))
        for key in keys.decode(terminal.wait()):
            view = keys.react(view, key)


def _waiting(width: int, height: int) -> list[Line]:
    said = [lines.line("pkgctl top: measuring for the first interval"), *[lines.line("")] * height]
    return [each.fit(width) for each in said[:height]]
