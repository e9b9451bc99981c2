# SPDX-License-Identifier: GPL-3.0-or-later
"""Which cells held their service's objective, and which did not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from enum import StrEnum

from pkgctl.measure.record import Cell, Objective, Scalar
from pkgctl.measure.table import Row, Table
from pkgctl.report.numbers import show
from pkgctl.report.plan import Plan, show_levels, show_scalar
from pkgctl.report.sentences import Kind, Sentence, Strong, listed

MOST_SENTENCES = 6


class Outcome(StrEnum):
    """What became of an objective; the value completes "it was …"."""

    HELD = "held"
    MISSED = "missed"
    UNDECIDED = "not decided"
    UNKNOWN = "not measured"


def outcome(row: Row | None, objective: Objective) -> Outcome:
    """Return what a cell's attainment says of the objective.

    Held (missed) needs the whole interval at or above (below) the objective's share. One
    repeat has no interval: there its own value decides, and the report says so.
    """
    if row is None or row.mean is None:
        return Outcome.UNKNOWN
    low, high = (row.interval.low, row.interval.high) if row.interval else (row.mean, row.mean)
    if low >= objective.at:
        return Outcome.HELD
    return Outcome.MISSED if high < objective.at else Outcome.UNDECIDED


def attainment(plan: Plan, table: Table, service: str, cell: Cell) -> Row | None:
    """Return a cell's attainment in the phase that tells most of it."""
    return table.find("slo_attainment", service, plan.phase_of(cell), cell.id)


def show_objective(objective: Objective) -> str:
    """Return ``95 % of requests within 150 ms``."""
    return f"{show(objective.at, 'share')} of requests within {show(objective.latency, 's')}"


def objective_sentences(plan: Plan, table: Table) -> Iterator[Sentence]:
    """Yield for each service which levels held its objective, by disturbance."""
    for service, objective in plan.record.objectives.items():
        rows = {cell.id: attainment(plan, table, service, cell) for cell in plan.record.cells}
        known = {
            name: row for name, row in rows.items() if row is not None and row.mean is not None
        }
        if not known:
            continue
        groups = _groups(plan)
        lead = f"the objective of {service} ({show_objective(objective)})"
        if len(groups) <= MOST_SENTENCES:
            for where, cells in groups:
                yield _sentence(_lead(lead, where), cells, known, objective, plan.scale)
        else:
            cells = [(show_levels(cell.factors), cell) for cell in plan.record.cells]
            yield _count(lead, cells, known, objective)


def _groups(plan: Plan) -> list[tuple[str, list[tuple[str, Cell]]]]:
    """Return the cells along the scale, one group for each level of everything else."""
    if plan.scale is None:
        return [("", [(show_levels(cell.factors), cell) for cell in plan.record.cells])]
    found = []
    for at in plan.others(plan.scale):
        cells = [(level, plan.cell(**at, **{plan.scale: level})) for level in _scale(plan)]
        named = [(show_scalar(level), cell) for level, cell in cells if cell is not None]
        found.append((show_levels(at) if at else "", named))
    return found


def _scale(plan: Plan) -> Sequence[Scalar]:
    return plan.levels[plan.scale] if plan.scale else ()


def _lead(lead: str, where: str) -> str:
    text = f"with {where}, {lead}" if where else lead
    return f"{text[0].upper()}{text[1:]} was "


def _sentence(
    lead: str,
    cells: list[tuple[str, Cell]],
    rows: dict[str, Row],
    objective: Objective,
    scale: str | None,
) -> Sentence:
    by_outcome: dict[Outcome, list[str]] = {}
    for name, cell in cells:
        by_outcome.setdefault(outcome(rows.get(cell.id), objective), []).append(name)
    kind = _kind(by_outcome, cells, rows)
    if len(by_outcome) == 1:
        everywhere = f" at every level of {scale}" if scale else " in every cell"
        tail = everywhere if len(cells) > 1 else ""
        return Sentence((lead, Strong(next(iter(by_outcome))), tail, "."), kind)
    parts: list[str] = [lead]
    for at, (found, names) in enumerate(by_outcome.items()):
        link = "" if not at else " and " if at == len(by_outcome) - 1 else ", "
        where = f" with {scale} = {listed(names)}" if scale else f" with {listed(names)}"
        parts += [link, Strong(found), where]
    return Sentence((*parts, "."), kind)


def _kind(
    found: dict[Outcome, list[str]], cells: list[tuple[str, Cell]], rows: dict[str, Row]
) -> Kind:
    alone = any(cell.id in rows and len(rows[cell.id].stated) < 2 for _, cell in cells)
    if alone:
        return Kind.MEASURED
    decided = not ({Outcome.UNDECIDED, Outcome.UNKNOWN} & found.keys())
    return Kind.CLEAR if decided else Kind.UNCLEAR


def _count(
    lead: str, cells: list[tuple[str, Cell]], rows: dict[str, Row], objective: Objective
) -> Sentence:
    found = [outcome(rows.get(cell.id), objective) for _, cell in cells]
    counts = [(each, found.count(each)) for each in Outcome if each in found]
    text = listed([f"{each} in {count}" for each, count in counts])
    lead = lead[0].upper() + lead[1:]
    return Sentence((f"{lead} was ", Strong(text), f" of {len(found)} cells."), Kind.MEASURED)
