# SPDX-License-Identifier: GPL-3.0-or-later
"""Tables that read as pictures: the links' verdicts and the nodes' use."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import polars as pl

from pkgctl.measure import phases
from pkgctl.measure.evaluation import Evaluation
from pkgctl.measure.record import Cell, Record
from pkgctl.measure.table import Row, Table
from pkgctl.measure.utilisation import ALL_NODES
from pkgctl.report.numbers import ABSENT, show, show_mean
from pkgctl.report.plan import show_scalar

MOST_NODES = 24
MOST_LINK_ROWS = 300
MOST_CELLS = 16
SIGNS = {"pass": "✓", "fail": "✕", "unmeasured": "·"}
PASS, FAIL, UNMEASURED = "pass", "fail", "unmeasured"


@dataclass(frozen=True, slots=True)
class Square:
    """One square of a matrix: its text, its class of colour, and what pointing at it tells."""

    text: str
    kind: str
    tip: str = ""
    level: int = 0


@dataclass(frozen=True)
class Matrix:
    """Squares in rows and columns; ``note`` says what was left out or put together."""

    rows: Sequence[tuple[str, Sequence[Square]]]
    columns: Sequence[str]
    note: str = ""


@dataclass(frozen=True)
class Listing:
    """A plain table; ``note`` says what it leaves out."""

    headers: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""


# Links


def link_matrix(evaluation: Evaluation) -> Matrix | None:
    """Return the verdict of every directed pair; of every pair of sites, if nodes are many."""
    links = evaluation.results.links
    if not links.height:
        return None
    names = _names(evaluation.results.record, links)
    if len(names) > MOST_NODES:
        return _site_matrix(evaluation.results.record, links)
    known = {(row["src"], row["dst"]): row for row in links.iter_rows(named=True)}
    rows = [
        (src, [_link_square(src, dst, known.get((src, dst))) for dst in names]) for src in names
    ]
    return Matrix(rows, names)


def _names(record: Record, links: pl.DataFrame) -> list[str]:
    """Return the nodes that have links, in the topology's order."""
    seen = {*links["src"].to_list(), *links["dst"].to_list()}
    declared = [node.name for node in record.nodes if node.name in seen]
    return [*declared, *sorted(seen - set(declared))]


def _link_square(src: str, dst: str, link: Mapping[str, object] | None) -> Square:
    if src == dst:
        return Square("", "self")
    if link is None:
        return Square("", "absent", f"{src} → {dst}: not in the table")
    verdict = str(link["verdict"])
    return Square(SIGNS.get(verdict, "?"), verdict, f"{src} → {dst}: {link_text(link)}")


def link_text(link: Mapping[str, object]) -> str:
    """Return what was asked of a link, what was measured, and the verdict, in one line."""
    asked = f"asked {_rate(link['asked_rate'])}, RTT {_seconds(link['asked_rtt'])}"
    asked += f", loss {_share(link['asked_loss'])}"
    rtt = f"RTT {_seconds(link['rtt_p50'])}"
    found = f"measured {_rate(link['goodput'], ABSENT)}, {rtt}, loss {_share(link['loss'])}"
    reason = f" ({link['reason']})" if link["reason"] else ""
    return f"{asked}; {found}; {link['verdict']}{reason}"


def _rate(value: object, absent: str = "unshaped") -> str:
    return show(value, "bit/s") if isinstance(value, float) else absent


def _seconds(value: object) -> str:
    return show(value, "s") if isinstance(value, float) else ABSENT


def _share(value: object) -> str:
    return show(value, "share") if isinstance(value, float) else ABSENT


def _site_matrix(record: Record, links: pl.DataFrame) -> Matrix:
    site = {node.name: node.site or node.name for node in record.nodes}
    counts: dict[tuple[str, str], dict[str, int]] = {}
    for src, dst, verdict in links.select("src", "dst", "verdict").iter_rows():
        pair = (site.get(src, src), site.get(dst, dst))
        of_pair = counts.setdefault(pair, {PASS: 0, FAIL: 0, UNMEASURED: 0})
        of_pair[verdict] = of_pair.get(verdict, 0) + 1
    names = list(dict.fromkeys(name for pair in counts for name in pair))
    rows = [
        (src, [_site_square(src, dst, counts.get((src, dst))) for dst in names]) for src in names
    ]
    note = (
        f"{len(site) or links['src'].n_unique()} nodes are shown by site: links as asked ÷ links "
        "measured. A site with a link that failed is marked."
    )
    return Matrix(rows, names, note)


def _site_square(src: str, dst: str, counts: Mapping[str, int] | None) -> Square:
    if counts is None:
        return Square("", "absent")
    judged = counts[PASS] + counts[FAIL]
    kind = FAIL if counts[FAIL] else PASS if judged else UNMEASURED
    text = f"{SIGNS[kind]} {counts[PASS]}/{judged}" if judged else SIGNS[UNMEASURED]
    tip = f"{counts[PASS]} pass, {counts[FAIL]} fail, {counts[UNMEASURED]} unmeasured"
    return Square(text, kind, f"{src} → {dst}: {tip}")


LINK_HEADERS = (
    "from", "to", "verdict", "RTT asked", "RTT p50", "RTT p95", "tolerance", "RTT verdict",
    "rate asked", "goodput asked", "goodput", "tolerance", "goodput verdict",
    "loss asked", "loss", "tolerance", "loss verdict", "reason",
)  # fmt: skip


def link_listing(evaluation: Evaluation) -> Listing | None:
    """Return the links as a table, those that failed first."""
    links = evaluation.results.links
    if not links.height:
        return None
    order = {FAIL: 0, PASS: 1, UNMEASURED: 2}
    found = sorted(links.iter_rows(named=True), key=lambda row: order.get(row["verdict"], 0))
    left = len(found) - MOST_LINK_ROWS
    note = f"{left} more are in links.parquet." if left > 0 else ""
    return Listing(LINK_HEADERS, [_link_row(row) for row in found[:MOST_LINK_ROWS]], note)


def _link_row(link: Mapping[str, object]) -> tuple[str, ...]:
    expected = link["asked_loss"] if link["loss_expected"] is None else link["loss_expected"]
    return (
        str(link["src"]),
        str(link["dst"]),
        str(link["verdict"]),
        *(_seconds(link[name]) for name in ("asked_rtt", "rtt_p50", "rtt_p95")),
        *_judged(link, "rtt", "s"),
        _rate(link["asked_rate"]),
        _rate(link["goodput_expected"], ABSENT),
        _rate(link["goodput"], ABSENT),
        *_judged(link, "goodput", "bit/s"),
        _share(expected),
        _share(link["loss"]),
        *_judged(link, "loss", "share"),
        str(link["reason"] or ""),
    )


def _judged(link: Mapping[str, object], part: str, unit: str) -> tuple[str, str]:
    """Return the tolerance of one part of a link's quality, and the verdict on it."""
    tolerance, verdict = link[f"tolerance_{part}"], link[f"verdict_{part}"]
    shown = f"±{show(tolerance, unit)}" if isinstance(tolerance, float) else ABSENT
    return shown, str(verdict or ABSENT)


# Nodes


def node_matrix(evaluation: Evaluation) -> Matrix | None:
    """Return the CPU used ÷ capacity of each node in each cell, most used nodes first."""
    table, cells = evaluation.table, evaluation.results.record.cells
    metric = "cpu_used_of_capacity"
    names = [name for name in table.subjects(metric) if name != ALL_NODES]
    if not names or not cells:
        return None
    shown_cells = cells[:MOST_CELLS]
    found = {
        name: [table.find(metric, name, phases.ALL, cell.id) for cell in shown_cells]
        for name in names
    }
    order = (
        sorted(names, key=lambda name: -_highest(found[name])) if len(names) > MOST_NODES else names
    )
    rows = [(name, [_use_square(table, row) for row in found[name]]) for name in order[:MOST_NODES]]
    left = [f"the {MOST_NODES} most used of {len(names)} nodes"] if len(names) > MOST_NODES else []
    left += [f"the first {MOST_CELLS} of {len(cells)} cells"] if len(cells) > MOST_CELLS else []
    factors = list(cells[0].factors)
    note = f"Columns: {', '.join(factors)}." if factors else ""
    note += f" Shown: {' and '.join(left)}." if left else ""
    return Matrix(rows, [cell_name(cell) for cell in shown_cells], note)


def _highest(rows: Sequence[Row | None]) -> float:
    return max((row.mean or 0.0 for row in rows if row), default=0.0)


def _use_square(table: Table, row: Row | None) -> Square:
    if row is None or row.mean is None:
        return Square(ABSENT, "absent")
    level = min(9, math.floor(row.mean * 10))
    held = table.find("cpu_allocated_of_capacity", row.subject, row.phase, row.cell)
    slowed = table.find("cpu_throttled", row.subject, row.phase, row.cell)
    tip = (
        f"{row.subject}, {row.cell}: used {show_mean(row)} of its cores, allocated "
        f"{show_mean(held)}, throttled {show_mean(slowed)}"
    )
    return Square(show_mean(row), "use", tip, level)


def cell_name(cell: Cell) -> str:
    """Return a cell's levels without their factors' names, as a narrow heading."""
    return ", ".join(map(show_scalar, cell.factors.values())) or cell.id or "all"
