# SPDX-License-Identifier: GPL-3.0-or-later
"""What the reader of the live view has chosen, and what a key changes of it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

UP, DOWN, PAGE_UP, PAGE_DOWN, HOME, END = "up", "down", "page up", "page down", "home", "end"
ENTER, ESCAPE, BACKSPACE, TAB, QUIT = "enter", "escape", "backspace", "tab", "quit"
PANELS = 3
_PAGE = 10
_FAR = 1 << 30
_SORTS = {"c": "cpu", "m": "memory", "n": "network"}
_SEQUENCES = {
    **{
        f"\x1b{lead}{end}": key
        for lead in "[O"
        for end, key in zip("ABHF", (UP, DOWN, HOME, END), strict=True)
    },
    **{
        f"\x1b[{number}~": key
        for number, key in {1: HOME, 4: END, 5: PAGE_UP, 6: PAGE_DOWN}.items()
    },
    **{"\r": ENTER, "\n": ENTER, "\t": TAB, "\x7f": BACKSPACE, "\b": BACKSPACE},
    **{"\x1b": ESCAPE, "\x03": QUIT, "\x04": QUIT},
}
_KEY = re.compile(r"\x1b\[[0-9;]*[A-Za-z~]|\x1bO.|.", re.DOTALL)
_MOVES = {UP: -1, DOWN: 1, PAGE_UP: -_PAGE, PAGE_DOWN: _PAGE, HOME: -_FAR, END: _FAR}


@dataclass(frozen=True, slots=True)
class View:
    """What the reader chose to see.

    Attributes:
        sort: by what nodes are sorted, the greatest first; empty is as in the topology.
        filter: a part of the names of the nodes or sites that are shown.
        typing: whether keys are letters of the filter now.
        paused: whether the picture stands still.
        help: whether the help is shown instead.
        panel: which table scrolls: nodes, links or layers.
        offsets: how many rows of each table are scrolled past.
        quit: whether it is over.
    """

    sort: str = ""
    filter: str = ""
    typing: bool = False
    paused: bool = False
    help: bool = False
    panel: int = 0
    offsets: tuple[int, ...] = (0,) * PANELS
    quit: bool = False


def decode(text: str) -> Iterator[str]:
    """Yield the keys of what a terminal sent: names for special ones, else characters."""
    for match in _KEY.finditer(text):
        key = _SEQUENCES.get(match[0], match[0])
        if len(match[0]) == 1 or match[0] in _SEQUENCES:
            yield key


def react(view: View, key: str) -> View:
    """Return the view after a key."""
    if key == QUIT:
        return replace(view, quit=True)
    if view.typing:
        return _type(view, key)
    if view.help:
        return replace(view, help=False, quit=key == "q")
    if key in _MOVES:
        return _scroll(view, _MOVES[key])
    if key in _SORTS:
        return replace(view, sort="" if view.sort == _SORTS[key] else _SORTS[key])
    return _command(view, key)


def _command(view: View, key: str) -> View:
    if key == "q":
        return replace(view, quit=True)
    if key == " ":
        return replace(view, paused=not view.paused)
    if key == "?":
        return replace(view, help=True)
    if key == "/":
        return replace(view, typing=True, filter="")
    if key == TAB:
        return replace(view, panel=(view.panel + 1) % PANELS)
    return replace(view, filter="") if key == ESCAPE else view


def _type(view: View, key: str) -> View:
    if key == ENTER:
        return replace(view, typing=False)
    if key == ESCAPE:
        return replace(view, typing=False, filter="")
    if key == BACKSPACE:
        return replace(view, filter=view.filter[:-1])
    if len(key) == 1 and " " < key <= "~":
        return replace(view, filter=view.filter + key, offsets=(0,) * PANELS)
    return view


def _scroll(view: View, rows: int) -> View:
    moved = max(view.offsets[view.panel] + rows, 0)
    offsets = (*view.offsets[: view.panel], moved, *view.offsets[view.panel + 1 :])
    return replace(view, offsets=offsets)
