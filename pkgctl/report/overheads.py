# SPDX-License-Identifier: GPL-3.0-or-later
"""What starting, scaling and idling cost, in words."""

from __future__ import annotations

from collections.abc import Iterator

from pkgctl.measure import phases
from pkgctl.measure.record import Cell
from pkgctl.measure.table import Row, Table
from pkgctl.measure.utilisation import ALL_NODES
from pkgctl.report.numbers import digits, show_mean
from pkgctl.report.plan import Plan, show_level
from pkgctl.report.sentences import Kind, Sentence, Strong, value


def overhead_sentences(plan: Plan, table: Table) -> Iterator[Sentence]:
    """Yield what a start, a scale step and the unused capacity cost, at the scale's ends."""
    places = ends(plan)
    rest = plan.where(*([plan.scale] if plan.scale else []))
    # Batch jobs have starts, too, but their wait is the queue's.
    for service in table.subjects("scaling_time"):
        yield from _provisioning(table, service, places, rest)
        yield from _scaling(table, service, places, rest)
    yield from _utilisation(table, places, rest)


def ends(plan: Plan) -> list[tuple[str, Cell]]:
    """Return the cells at both ends of the scale, undisturbed; or the baseline cell."""
    if plan.scale is None:
        cell = plan.cell()
        return [("", cell)] if cell else []
    found = [
        (show_level(plan.scale, level), plan.cell(**{plan.scale: level}))
        for level in dict.fromkeys(plan.ends(plan.scale))
    ]
    return [(where, cell) for where, cell in found if cell is not None]


def _provisioning(
    table: Table, service: str, places: list[tuple[str, Cell]], rest: str
) -> Iterator[Sentence]:
    for state in ("cold", "warm"):
        known = [
            (where, cell, row)
            for where, cell in places
            if (row := _found(table, f"provisioning_{state}", service, cell))
        ]
        parts: list[str] = []
        for where, cell, row in known:
            at = f" with {where}" if where else ""
            parts += [" and " if parts else "", *value(row, named=not parts), at]
            parts += _transfer(table, service, cell) if state == "cold" else ()
        if parts:
            lead = f"A {state} start of {service} took "
            yield Sentence(
                (lead, *parts, f"{rest}."), Kind.MEASURED, rank=1 if state == "cold" else 2
            )


def _found(table: Table, metric: str, subject: str, cell: Cell) -> Row | None:
    row = table.find(metric, subject, phases.ALL, cell.id)
    return row if row and row.mean is not None else None


def _transfer(table: Table, service: str, cell: Cell) -> tuple[str, ...]:
    row = _found(table, "provisioning_transfer_share", service, cell)
    return (" (", Strong(show_mean(row)), " of it artifact transfer)") if row else ()


def scaling_row(table: Table, metric: str, service: str, cell: str) -> Row | None:
    """Return a cell's scale step; its deployment, if it was never scaled afterwards."""
    for phase in ("scale", "deploy"):
        row = table.find(metric, service, phase, cell)
        if row is not None and row.mean is not None:
            return row
    return None


def _scaling(
    table: Table, service: str, places: list[tuple[str, Cell]], rest: str
) -> Iterator[Sentence]:
    parts: list[str] = []
    for _, cell in places:
        row = scaling_row(table, "scaling_time", service, cell.id)
        count = scaling_row(table, "scaling_replicas", service, cell.id)
        if row is None or count is None:
            continue
        size = digits(count.mean or 0.0)
        started = "1 replica" if size == "1" else f"{size} replicas"
        parts += [", " if parts else "", *value(row, named=not parts), f" for {started}"]
    if parts:
        lead = f"From the decision until every replica of {service} was ready it took "
        yield Sentence((lead, *parts, f"{rest}."), Kind.MEASURED)


def _utilisation(table: Table, places: list[tuple[str, Cell]], rest: str) -> Iterator[Sentence]:
    parts: list[str] = []
    for where, cell in places:
        used = _found(table, "cpu_used_of_capacity", ALL_NODES, cell)
        held = _found(table, "cpu_allocated_of_capacity", ALL_NODES, cell)
        if used is None or held is None:
            continue
        at = f" with {where}" if where else ""
        parts += [" and " if parts else "", *value(used, named=not parts), " of their CPU"]
        parts += [" (", Strong(show_mean(held)), f" allocated){at}"]
    if parts:
        yield Sentence(("All nodes together used ", *parts, f"{rest}."), Kind.MEASURED)
