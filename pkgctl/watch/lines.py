# SPDX-License-Identifier: GPL-3.0-or-later
"""Lines of text with styles, and how a terminal is told of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

PLAIN, TITLE, HEAD, DIM, GOOD, WARN, BAD = "", "title", "head", "dim", "good", "warn", "bad"
_SHAPES = {TITLE: "1", HEAD: "7", DIM: "2"}
_COLOURS = {GOOD: "32", WARN: "33", BAD: "1;31"}
_CUT = "~"


@dataclass(frozen=True, slots=True)
class Line:
    """A line made of (text, style) pieces; every character is one column wide."""

    pieces: tuple[tuple[str, str], ...] = ()

    @property
    def text(self) -> str:
        """The line without its styles and without trailing blanks."""
        return "".join(text for text, _ in self.pieces).rstrip()

    def __len__(self) -> int:
        """Return how many columns it takes."""
        return sum(len(text) for text, _ in self.pieces)

    def fit(self, width: int, style: str = PLAIN) -> Line:
        """Return it cut or filled up to a width; what is filled up has the style."""
        kept: list[tuple[str, str]] = []
        left = width
        for text, each in self.pieces:
            kept.append((text[:left], each))
            left -= len(kept[-1][0])
        return Line((*kept, (" " * left, style)))

    def paint(self, *, colours: bool) -> str:
        """Return it with the terminal's codes; without colours only bold, dim and reversed."""
        codes = {**_SHAPES, **_COLOURS} if colours else _SHAPES
        return "".join(
            f"\x1b[{codes[style]}m{text}\x1b[m" if style in codes and text else text
            for text, style in self.pieces
        )


def line(text: str, style: str = PLAIN) -> Line:
    """Return a line of one style."""
    return Line(((text, style),))


def cell(text: str, width: int, *, right: bool = False) -> str:
    """Return a text exactly as wide as asked; one that is cut ends in a tilde."""
    if len(text) > width:
        return text[: max(width - 1, 0)] + _CUT[: min(width, 1)]
    return text.rjust(width) if right else text.ljust(width)


def plain(text: str) -> str:
    """Return a text whose characters all take one column and none of which moves the cursor."""
    return "".join(sign if " " <= sign <= "~" else _ASCII.get(sign, "?") for sign in text)


_ASCII = {"±": "+-", "×": "x", "→": "->", "↔": "<->", "µ": "u", "…": "...", "–": "-", "−": "-"}


def joined(pieces: Iterable[tuple[str, str]], gap: str) -> Line:
    """Return a line of pieces with a gap between each two."""
    found: list[tuple[str, str]] = []
    for piece in pieces:
        found += [(gap, PLAIN)] if found else []
        found.append(piece)
    return Line(tuple(found))
