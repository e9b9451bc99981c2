# SPDX-License-Identifier: GPL-3.0-or-later
"""Tables that fit a width: columns go by their rank, and texts get what room there is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from pkgctl.watch import lines
from pkgctl.watch.lines import Line

Row = TypeVar("Row")
_GAP = " "


@dataclass(frozen=True, slots=True)
class Column(Generic[Row]):
    """One column.

    Attributes:
        title: its head.
        text: a row's cell.
        least: how narrow it may be.
        most: how wide it may grow where there is room and its cells need it.
        rank: which go first where there is no room: those with the highest.
        right: whether it is set flush right.
        style: a row's style.
    """

    title: str
    text: Callable[[Row], str]
    least: int
    most: int = 0
    rank: int = 0
    right: bool = True
    style: Callable[[Row], str] = lambda _: lines.PLAIN


def table(columns: Sequence[Column[Row]], rows: Sequence[Row], width: int) -> list[Line]:
    """Return a head and a line for each row, each exactly as wide as asked."""
    shown = _shown(columns, width)
    cells = [[lines.plain(column.text(row)) for column in shown] for row in rows]
    widths = _widths(shown, cells, width)
    head = _GAP.join(
        lines.cell(column.title, wide, right=column.right)
        for column, wide in zip(shown, widths, strict=True)
    )
    body = [
        lines.joined(
            (
                (lines.cell(text, wide, right=column.right), column.style(row))
                for text, wide, column in zip(texts, widths, shown, strict=True)
            ),
            _GAP,
        ).fit(width)
        for row, texts in zip(rows, cells, strict=True)
    ]
    return [lines.line(head, lines.HEAD).fit(width, lines.HEAD), *body]


def _shown(columns: Sequence[Column[Row]], width: int) -> list[Column[Row]]:
    """Return the columns that fit, in their order; the first by rank always."""
    left = width + len(_GAP)
    kept: list[Column[Row]] = []
    for column in sorted(columns, key=lambda column: column.rank):
        if kept and column.least + len(_GAP) > left:
            break
        kept.append(column)
        left -= column.least + len(_GAP)
    return [column for column in columns if column in kept]


def _widths(
    columns: Sequence[Column[Row]], cells: Sequence[Sequence[str]], width: int
) -> list[int]:
    """Return how wide each column is: as much as it needs, the first by rank first."""
    widths = [column.least for column in columns]
    left = width - sum(widths) - len(_GAP) * (len(columns) - 1)
    for at in sorted(range(len(columns)), key=lambda at: columns[at].rank):
        longest = max([len(columns[at].title), *(len(texts[at]) for texts in cells)])
        wanted = min(longest, max(columns[at].most, columns[at].least))
        more = min(max(wanted - widths[at], 0), max(left, 0))
        widths[at] += more
        left -= more
    return widths
