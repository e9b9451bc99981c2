# SPDX-License-Identifier: GPL-3.0-or-later
"""The key figures at the top of a report."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pkgctl.measure import phases
from pkgctl.measure.catalogue import METRICS
from pkgctl.measure.evaluation import Evaluation, link_verdicts
from pkgctl.measure.provisioning import BATCH
from pkgctl.measure.record import Cell
from pkgctl.measure.table import Row, Table
from pkgctl.measure.utilisation import ALL_NODES
from pkgctl.report.numbers import show, show_interval, show_mean
from pkgctl.report.objectives import Outcome, attainment, outcome, show_objective
from pkgctl.report.overheads import scaling_row
from pkgctl.report.plan import Plan, show_levels

MOST = 8


@dataclass(frozen=True, slots=True)
class Tile:
    """One key figure: what it is, its value, and lines on how sure it is and where it holds."""

    label: str
    value: str
    details: tuple[str, ...]
    bad: bool = False


def tiles(evaluation: Evaluation, plan: Plan) -> list[Tile]:
    """Return the key figures of a run, at most eight."""
    table = evaluation.table
    found = [
        *_requests(evaluation),
        *(
            tile
            for service in table.subjects("latency_p95")
            for tile in _tails(plan, table, service)
        ),
        *_objectives(plan, table),
        *_batch(plan, table),
        *_starts(plan, table),
        *_use(plan, table),
        *_links(evaluation),
    ]
    return found[:MOST]


def _requests(evaluation: Evaluation) -> Iterator[Tile]:
    count = evaluation.results.requests.height
    if not count:
        return
    rows = [row for row in evaluation.table.rows if row.phase == phases.ALL]
    missed = sum(
        (value or 0.0) * counts
        for row in rows
        if row.metric == "miss_share"
        for value, counts in zip(row.values, _counts(rows, row), strict=True)
    )
    detail = f"{missed:.0f} missed ({show(missed / count, 'share')})" if missed else "none missed"
    yield Tile("requests", f"{count:,}".replace(",", " "), (detail,), missed > 0)


def _counts(rows: Sequence[Row], of: Row) -> tuple[float, ...]:
    """Return how many requests each repeat of a row had."""
    found = next(
        row for row in rows
        if (row.metric, row.subject, row.cell) == ("requests", of.subject, of.cell)
    )  # fmt: skip
    return tuple(value or 0.0 for value in found.values)


def _tails(plan: Plan, table: Table, service: str) -> Iterator[Tile]:
    name = "latency_p95"
    rows = [
        (cell, phase, row)
        for cell in plan.record.cells
        for phase in [plan.phase_of(cell)]
        if (row := table.find(name, service, phase, cell.id)) and row.mean is not None
    ]
    if not rows:
        return
    best, worst = (pick(rows, key=lambda each: each[2].mean or 0.0) for pick in (min, max))
    label = f"p95 latency of {service}"
    if len(rows) == 1:
        yield Tile(label, show_mean(best[2]), _details(*best))
        return
    yield Tile(f"lowest {label}", show_mean(best[2]), _details(*best))
    yield Tile(f"highest {label}", show_mean(worst[2]), _details(*worst))


def _details(cell: Cell, phase: str, row: Row) -> tuple[str, ...]:
    where = show_levels(cell.factors) if cell.factors else ""
    when = "" if phase == phases.ALL else f"{phase} the disturbance"
    return _present(_interval(row), where, when)


def _present(*lines: str) -> tuple[str, ...]:
    return tuple(line for line in lines if line)


def _interval(row: Row) -> str:
    if row.interval is None:
        return "no interval"
    return f"95 % CI {show_interval(row.interval, METRICS[row.metric].unit, row.mean)}"


def _objectives(plan: Plan, table: Table) -> Iterator[Tile]:
    for service, objective in plan.record.objectives.items():
        found = [
            outcome(attainment(plan, table, service, cell), objective) for cell in plan.record.cells
        ]
        known = [each for each in found if each is not Outcome.UNKNOWN]
        if known:
            held = known.count(Outcome.HELD)
            others = [
                f"{known.count(each)} {each}"
                for each in (Outcome.MISSED, Outcome.UNDECIDED)
                if each in known
            ]
            label = f"objective of {service} held"
            details = _present(show_objective(objective), ", ".join(others))
            yield Tile(label, f"{held} of {len(known)} cells", details, Outcome.MISSED in known)


def _batch(plan: Plan, table: Table) -> Iterator[Tile]:
    rows = [table.find("completion_mean", BATCH, phases.ALL, cell.id) for cell in plan.record.cells]
    known = [row for row in rows if row is not None and row.mean is not None]
    if known:
        best = min(known, key=lambda row: row.mean or 0.0)
        where = next(
            show_levels(each.factors) for each in plan.record.cells if each.id == best.cell
        )
        yield Tile("lowest mean completion", show_mean(best), _present(_interval(best), where))


def _starts(plan: Plan, table: Table) -> Iterator[Tile]:
    for service in table.subjects("scaling_time")[:1]:
        cell = _baseline(plan, table, "provisioning_cold", service)
        row = table.find("provisioning_cold", service, phases.ALL, cell.id) if cell else None
        share = cell and table.find("provisioning_transfer_share", service, phases.ALL, cell.id)
        if row and row.mean is not None and cell:
            moved = f"{show_mean(share)} of it transfer" if share else ""
            details = _present(_interval(row), moved)
            yield Tile(f"cold start of {service}", show_mean(row), details)
    for service in table.subjects("scaling_time")[:1]:
        yield from _largest_step(plan, table, service)


def _baseline(plan: Plan, table: Table, metric: str, subject: str) -> Cell | None:
    """Return the baseline cell, or the first one that has the metric."""
    chosen = plan.cell()
    cells = ([chosen] if chosen else []) + list(plan.record.cells)
    return next((cell for cell in cells if table.find(metric, subject, phases.ALL, cell.id)), None)


def _largest_step(plan: Plan, table: Table, service: str) -> Iterator[Tile]:
    found = []
    for cell in plan.record.cells:
        count = scaling_row(table, "scaling_replicas", service, cell.id)
        row = scaling_row(table, "scaling_time", service, cell.id)
        if count and row and row.mean is not None:
            found.append((count.mean or 0.0, row))
    if found:
        count_, row = max(found, key=lambda each: each[0])
        replicas = "1 replica" if count_ == 1 else f"{count_:.0f} replicas"
        yield Tile(f"{replicas} of {service} ready after", show_mean(row), (_interval(row),))


def _use(plan: Plan, table: Table) -> Iterator[Tile]:
    rows = [
        row
        for cell in plan.record.cells
        if (row := table.find("cpu_used_of_capacity", ALL_NODES, phases.ALL, cell.id))
        and row.mean is not None
    ]
    if rows:
        most = max(rows, key=lambda row: row.mean or 0.0)
        where = next(
            show_levels(each.factors) for each in plan.record.cells if each.id == most.cell
        )
        yield Tile("most CPU used of all nodes", show_mean(most), (_interval(most), where))


def _links(evaluation: Evaluation) -> Iterator[Tile]:
    verdicts = link_verdicts(evaluation.results)
    judged = verdicts["pass"] + verdicts["fail"]
    if judged:
        rest = (
            f"{verdicts['unmeasured']} not measured" if verdicts["unmeasured"] else "all measured"
        )
        value = f"{verdicts['pass']} of {judged}"
        yield Tile("links as asked", value, (rest,), verdicts["fail"] > 0)
