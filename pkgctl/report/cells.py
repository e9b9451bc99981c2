# SPDX-License-Identifier: GPL-3.0-or-later
"""The metrics as tables: the main ones by cell, and all of them by kind."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pkgctl.measure import phases
from pkgctl.measure.catalogue import METRICS
from pkgctl.measure.evaluation import Evaluation, of_one_node
from pkgctl.measure.phases import ALL, ORDER
from pkgctl.measure.record import Cell
from pkgctl.measure.table import Row, Table
from pkgctl.measure.utilisation import ALL_NODES
from pkgctl.report.figures import level_text
from pkgctl.report.matrices import MOST_CELLS, cell_name
from pkgctl.report.numbers import ABSENT, show, show_interval, show_mean, unit_of
from pkgctl.report.overheads import scaling_row
from pkgctl.report.plan import Plan


@dataclass(frozen=True, slots=True)
class Column:
    """A column of the table of cells: a metric in a phase ("" for the scale step)."""

    metric: str
    subject: str
    phase: str
    title: str


def columns_of(plan: Plan, table: Table) -> list[Column]:
    """Return the metrics that a reader looks for first, as far as they were measured."""
    found: list[Column] = []
    services = table.subjects("latency_p95")
    for service in services:
        tail = f", {service}" if len(services) > 1 else ""
        found += [*_request_columns(plan, service, tail)]
    for service in table.subjects("scaling_time"):
        tail = f", {service}" if len(table.subjects("scaling_time")) > 1 else ""
        found.append(Column("provisioning_cold", service, phases.ALL, f"cold start{tail}"))
        found.append(Column("provisioning_warm", service, phases.ALL, f"warm start{tail}"))
        found.append(Column("scaling_time", service, "", f"all ready after{tail}"))
    found.append(Column("wait_p95", "batch", phases.ALL, "batch wait p95"))
    found.append(Column("completion_mean", "batch", phases.ALL, "batch completion, mean"))
    found.append(Column("cpu_allocated_of_capacity", ALL_NODES, phases.ALL, "CPU allocated"))
    found.append(Column("cpu_used_of_capacity", ALL_NODES, phases.ALL, "CPU used"))
    return [column for column in found if _known(column, plan, table)]


def _request_columns(plan: Plan, service: str, tail: str) -> Iterator[Column]:
    for share in (50, 95, 99):
        yield Column(f"latency_p{share}", service, phases.ALL, f"p{share}{tail}")
    if plan.windowed:
        yield Column("latency_p95", service, phases.DURING, f"p95 during{tail}")
    yield Column("miss_share", service, phases.ALL, f"missed{tail}")
    yield Column("throughput", service, phases.ALL, f"answered per s{tail}")
    yield Column("slo_attainment", service, plan.telling, f"objective, {plan.telling}{tail}")


def _known(column: Column, plan: Plan, table: Table) -> bool:
    rows = (column_row(column, cell, table) for cell in plan.record.cells)
    return any(row is not None and (row.mean is not None or row.pooled) for row in rows)


def column_row(column: Column, cell: Cell, table: Table) -> Row | None:
    """Return a cell's row in a column."""
    if column.phase:
        return table.find(column.metric, column.subject, column.phase, cell.id)
    return scaling_row(table, column.metric, column.subject, cell.id)


@dataclass(frozen=True, slots=True)
class Entry:
    """A number in the table of cells: the mean, its interval below, the rest on pointing."""

    mean: str
    interval: str = ""
    tip: str = ""


def entry(row: Row | None) -> Entry:
    """Return a row as an entry; a quantile that no repeat may state shows the pooled one."""
    if row is None:
        return Entry(ABSENT)
    unit, pooled = unit_of(row), row.pooled
    values = ", ".join(show(value, unit) for value in row.values)
    tip = f"{METRICS[row.metric].label}; repeats: {values}{'; ' + row.note if row.note else ''}"
    if row.mean is None:
        if pooled is None or pooled.value is None:
            return Entry(ABSENT, row.note and "few samples", tip)
        return Entry(show(pooled.value, unit), "all repeats pooled", f"{tip}; {_pool(row)}")
    interval = _interval(row) or ("one repeat" if len(row.stated) == 1 else "no bound")
    return Entry(show_mean(row), interval, f"{tip}; {_pool(row)}" if pooled else tip)


def _interval(row: Row) -> str:
    if row.interval is None:
        return ""
    if row.interval.low == row.interval.high:
        return "all alike"
    return show_interval(row.interval, unit_of(row), row.mean)


def _pool(row: Row) -> str:
    if row.pooled is None or row.pooled.value is None:
        return "too few requests to pool"
    unit = unit_of(row)
    text = f"{row.pooled.count} requests pooled: {show(row.pooled.value, unit)}"
    if row.pooled.interval is None:
        return text
    return f"{text} ({show_interval(row.pooled.interval, unit, row.pooled.value)})"


# The tables


@dataclass(frozen=True)
class CellListing:
    """The main numbers, a row for each cell."""

    factors: Sequence[str]
    headers: Sequence[str]
    rows: Sequence[tuple[Sequence[str], str, Sequence[Entry]]]


def cell_listing(plan: Plan, table: Table) -> CellListing:
    """Return the main numbers of each cell, and how many repeats are behind them."""
    columns = columns_of(plan, table)
    rows = [
        (
            [level_text(cell.factors.get(name)) for name in plan.factors],
            f"{sum(run.status == 'done' for run in cell.runs)}/{len(cell.runs)}",
            [entry(column_row(column, cell, table)) for column in columns],
        )
        for cell in plan.record.cells
    ]
    return CellListing(plan.factors, [column.title for column in columns], rows)


@dataclass(frozen=True)
class Group:
    """All metrics of a kind, a row for each metric, subject and phase."""

    name: str
    columns: Sequence[str]
    rows: Sequence[tuple[str, str, str, Sequence[Entry]]]
    note: str


def metric_groups(evaluation: Evaluation) -> Iterator[Group]:
    """Yield the groups of metrics; single nodes are left to ``metrics.parquet``."""
    table = evaluation.table
    cells = evaluation.results.record.cells[:MOST_CELLS]
    left = len(evaluation.results.record.cells) - len(cells)
    note = f"{left} more cells are in metrics.parquet." if left > 0 else ""
    for group in dict.fromkeys(metric.group for metric in METRICS.values()):
        rows = [
            (METRICS[metric].label, subject, phase,
             [entry(table.find(metric, subject, phase, cell.id)) for cell in cells])
            for metric, subject, phase in _keys(table, group)
        ]  # fmt: skip
        if rows:
            yield Group(group, [cell_name(cell) for cell in cells], rows, note)


def _keys(table: Table, group: str) -> list[tuple[str, str, str]]:
    keys = dict.fromkeys(
        (row.metric, row.subject, row.phase)
        for row in table.rows
        if METRICS[row.metric].group == group and not of_one_node(row)
    )
    names = list(METRICS)
    return sorted(keys, key=lambda key: (names.index(key[0]), key[1], _phase_order(key[2])))


def _phase_order(phase: str) -> int:
    return ORDER.index(phase) if phase in ORDER else ORDER.index(ALL)


def measured_metrics(table: Table) -> list[str]:
    """Return the names of the metrics that a run has, in the catalogue's order."""
    seen = {row.metric for row in table.rows}
    return [name for name in METRICS if name in seen]
