# SPDX-License-Identifier: GPL-3.0-or-later
"""Drawing a picture of a testbed into a rectangle of a terminal; pure.

Above is a title, then as many rows of nodes, links and layers as there is room for, then the keys.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pkgctl.watch import columns, lines, numbers, panels
from pkgctl.watch.keys import PANELS, View
from pkgctl.watch.lines import Line
from pkgctl.watch.picture import Link, Node, Picture

_SORTS: Mapping[str, Callable[[Node], float]] = {
    "cpu": lambda node: node.cpu_share or 0.0,
    "memory": lambda node: node.memory_share or 0.0,
    "network": lambda node: node.network,
}
# Rows that a table has at least, its head included, and by what share more room is given out.
_LEAST = (4, 2, 2)
_SHARES = (2, 1, 1)
_KEYS = "q quit  c m n sort  / filter  space pause  tab panel  ? help"
_HELP = """\
Keys
  q, Ctrl-C      quit
  c  m  n        sort nodes by CPU, memory or network; once more: as in the topology
  /              show only nodes whose name or site has these letters (Esc: all)
  space          stop the picture, and let it go on
  arrows PgUp .. scroll, also PgDn Home End; Tab chooses nodes, links or layers
Nodes
  CPU            part of the cores that the node may use now; CORES: used/allowed
  THR            part of the time in which it waited for its allowance
  MEMORY         used/allowed;  DISK: part of its mounted disks that is used
  READ WRITE     bytes a second of its disks;  RX TX: bits a second
Links            from -> to; yellow: a layer acts on it
  ASKED SEEN OF  bits a second of frames that are asked for, that were seen, and their part
                 (- where the pair has no rate of its own, and so no counter)
  DELAY LOSS     asked for;  LOST: the loss seen since it was set
  DROPS          packets that found the queue of the rate full
Layers           what each asks and where, and what is left of its time"""


@dataclass(frozen=True, slots=True)
class _Panel:
    """One of the tables: its columns and all of its rows."""

    columns: Sequence[columns.Column[Any]]
    rows: Sequence[Any]

    @property
    def wanted(self) -> int:
        return len(self.rows) + 1 if self.rows else 0

    def draw(self, width: int, height: int, offset: int, chosen: bool) -> list[Line]:
        """Return the head and the rows from an offset on, as many as there is room for."""
        if height < 2:
            return []
        shown = self.rows[offset : offset + height - 1]
        hidden = len(self.rows) > len(shown)
        where = f" {offset + 1}-{offset + len(shown)}/{len(self.rows)}" if hidden else ""
        mark = "*" if chosen and hidden else ""
        first, *rest = self.columns
        named = replace(first, title=f"{first.title}{mark}{where}")
        return columns.table([named, *rest], shown, width)


def frame(picture: Picture, width: int, height: int, view: View | None = None) -> list[Line]:
    """Return the lines of a picture: height of them, each exactly width wide.

    Args:
        picture: what to show.
        width: of the terminal, in characters.
        height: likewise.
        view: what the reader has chosen.
    """
    view = settle(picture, height, view or View())
    drawn = _help() if view.help else _drawn(picture, width, height, view)
    filling = [lines.line("")] * max(height - len(drawn), 0)
    shown = [*drawn[:-1], *filling, drawn[-1]] if len(drawn) <= height else drawn[:height]
    return [each.fit(width, each.pieces[-1][1] if each.pieces else "") for each in shown]


def _help() -> list[Line]:
    return [*map(lines.line, _HELP.splitlines()), lines.line("any key goes back", lines.DIM)]


def _drawn(picture: Picture, width: int, height: int, view: View) -> list[Line]:
    notes = [lines.line(lines.plain(f"! {note}"), lines.BAD) for note in picture.notes]
    found = _panels(picture, view)
    rooms = _rooms(picture, found, height)
    tables = [
        panel.draw(width, room, view.offsets[index], chosen=index == view.panel)
        for index, (panel, room) in enumerate(zip(found, rooms, strict=True))
    ]
    body = [line for drawn in tables for line in drawn]
    return [_title(picture, view, width), *notes, *body, _footer(view)]


def whole(picture: Picture, width: int) -> list[str]:
    """Return a picture as plain text of any height: all nodes and layers, the busiest links."""
    found = _panels(picture, View())
    rooms = (found[0].wanted, min(found[1].wanted, _MOST_LINKS + 1), found[2].wanted)
    tables = [
        panel.draw(width, room, 0, chosen=False)
        for panel, room in zip(found, rooms, strict=True)
        if room
    ]
    text = [_title(picture, View(), width).text, *(f"! {note}" for note in picture.notes)]
    for drawn in tables:
        text += ["", *(each.text for each in drawn)]
    return text


_MOST_LINKS = 20


def settle(picture: Picture, height: int, view: View) -> View:
    """Return the view without the part of its scrolling for which there are no rows."""
    found = _panels(picture, view)
    rooms = _rooms(picture, found, height)
    offsets = tuple(
        min(offset, max(len(panel.rows) - max(room - 1, 0), 0))
        for offset, panel, room in zip(view.offsets, found, rooms, strict=True)
    )
    return replace(view, offsets=offsets)


def _panels(picture: Picture, view: View) -> list[_Panel]:
    nodes = _nodes(picture, view)
    known = {node.name for node in nodes}
    links: Sequence[Link] = picture.links
    if view.filter:
        links = [link for link in links if link.src in known or link.dst in known]
    return [
        _Panel(panels.nodes(nodes), nodes),
        _Panel(panels.links(), links),
        _Panel(panels.layers(picture.mono), picture.layers),
    ]


def _nodes(picture: Picture, view: View) -> list[Node]:
    wanted = view.filter.lower()
    found = [node for node in picture.nodes if wanted in f"{node.name}\0{node.site}".lower()]
    return sorted(found, key=_SORTS[view.sort], reverse=True) if view.sort in _SORTS else found


def _rooms(picture: Picture, found: Sequence[_Panel], height: int) -> list[int]:
    return divide(height - 2 - len(picture.notes), [panel.wanted for panel in found])


def divide(space: int, wanted: Sequence[int]) -> list[int]:
    """Return how many rows each table gets: first what it needs at least, then by shares."""
    given = []
    for want, least in zip(wanted, _LEAST, strict=True):
        fits = min(want, least, space)
        # A head alone says nothing.
        given.append(fits if fits > 1 else 0)
        space -= given[-1]
    while space and (open_ones := [at for at in range(PANELS) if 0 < given[at] < wanted[at]]):
        for at in open_ones:
            more = min(_SHARES[at], wanted[at] - given[at], space)
            given[at] += more
            space -= more
    return given


def _title(picture: Picture, view: View, width: int) -> Line:
    """Return what is seen, and how; what comes last goes first where there is no room."""
    jobs = sum(node.jobs for node in picture.nodes)
    said = [
        ("pkgctl top", lines.TITLE),
        ("PAUSED" if view.paused else "", lines.WARN),
        (f"by {view.sort}" if view.sort else "", lines.GOOD),
        (f"only {view.filter}" if view.filter else "", lines.GOOD),
        (f"{picture.testbed} ({picture.topology})", lines.PLAIN),
        (time.strftime("%H:%M:%S", time.localtime(picture.wall)), lines.PLAIN),
        (f"{len(picture.nodes)} nodes {jobs} jobs", lines.PLAIN),
        (_delay_line(picture), lines.PLAIN),
    ]
    pieces = [(lines.plain(text), style) for text, style in said if text]
    while len(pieces) > 1 and len(lines.joined(pieces, "  ")) > width:
        pieces.pop()
    return lines.joined(pieces, "  ")


def _delay_line(picture: Picture) -> str:
    line = picture.delay_line
    if not line or not line.get("pairs"):
        return ""
    late = numbers.time(line.get("mean_late", 0.0))
    return f"delay line {late} late"


def _footer(view: View) -> Line:
    if view.typing:
        return lines.line(f"filter: {view.filter}_", lines.TITLE)
    return lines.line(_KEYS, lines.DIM)
