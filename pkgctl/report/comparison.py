# SPDX-License-Identifier: GPL-3.0-or-later
"""Two runs of an experiment beside each other, cell by cell."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pkgctl.errors import ResultsError
from pkgctl.measure.catalogue import METRICS
from pkgctl.measure.evaluation import Evaluation, evaluate
from pkgctl.measure.record import Cell
from pkgctl.measure.statistics import Interval, student_interval, welch_interval
from pkgctl.measure.table import Row
from pkgctl.report.cells import Column, column_row, columns_of
from pkgctl.report.numbers import plain, scale, show_mean
from pkgctl.report.plan import plan_of, show_levels


@dataclass(frozen=True)
class Difference:
    """How a metric of the second run differs from the first.

    Attributes:
        paired: whether repeats with the same seed were subtracted from each other.
        interval: of second − first, 95 %; None if a run has fewer than two values or an
            infinite one.
    """

    column: Column
    first: Row
    second: Row
    paired: bool
    value: float
    interval: Interval | None

    @property
    def clear(self) -> bool:
        """Whether the interval excludes no difference at all."""
        return self.interval is not None and not self.interval.low <= 0.0 <= self.interval.high


def compare(run_a: Path, run_b: Path) -> str:
    """Return the comparison of two runs as text.

    Raises:
        ResultsError: if a folder cannot be read, or the runs have no cell in common.
    """
    first, second = evaluate(run_a), evaluate(run_b)
    pairs = matched(first, second)
    if not pairs:
        raise ResultsError(
            f"{run_a} and {run_b} have no cell in common: {_cells(first)} against {_cells(second)}"
        )
    blocks = [(cells, differences(first, second, *cells)) for cells in pairs]
    lines = [*_head(first, second, [each for _, found in blocks for each in found])]
    for (cell, _), found in blocks:
        lines += ["", show_levels(cell.factors), *_table(found)]
    return plain("\n".join([*lines, "", *_foot(first, second, blocks)]))


def _cells(evaluation: Evaluation) -> str:
    names = [cell.id for cell in evaluation.results.record.cells]
    return ", ".join(names[:3]) + (" …" if len(names) > 3 else "") or "none"


def matched(first: Evaluation, second: Evaluation) -> list[tuple[Cell, Cell]]:
    """Return the cells that both runs have, in the order of the first."""
    others = {cell.id: cell for cell in second.results.record.cells}
    cells = first.results.record.cells
    return [(cell, others[cell.id]) for cell in cells if cell.id in others]


def differences(first: Evaluation, second: Evaluation, cell: Cell, other: Cell) -> list[Difference]:
    """Return how the main metrics of a cell differ between two runs."""
    plan = plan_of(first.results.record)
    found = []
    for column in columns_of(plan, first.table):
        rows = column_row(column, cell, first.table), column_row(column, other, second.table)
        if rows[0] and rows[1] and rows[0].stated and rows[1].stated:
            found.append(_difference(column, rows[0], rows[1], same_seeds(cell, other)))
    return found


def same_seeds(cell: Cell, other: Cell) -> set[int]:
    """Return the repeats that ran with the same seed in both cells."""
    seeds = {run.repeat: run.seed for run in cell.runs if run.seed is not None}
    return {run.repeat for run in other.runs if seeds.get(run.repeat, object()) == run.seed}


def _difference(column: Column, first: Row, second: Row, seeds: set[int]) -> Difference:
    one, two = first.by_repeat, second.by_repeat
    shared = sorted(one.keys() & two.keys() & seeds)
    # Only if every value has its partner do pairs tell what the means tell.
    paired = len(shared) == len(one) == len(two)
    if paired and all(math.isfinite(each[at]) for each in (one, two) for at in shared):
        interval = student_interval([two[at] - one[at] for at in shared])
    else:
        paired = False
        interval = welch_interval(first.stated, second.stated)
    value = (second.mean or 0.0) - (first.mean or 0.0)
    return Difference(column, first, second, paired, value, interval)


def _head(first: Evaluation, second: Evaluation, found: Sequence[Difference]) -> Iterator[str]:
    for name, each in (("A", first), ("B", second)):
        record = each.results.record
        runs = f"{len(each.results.measured)} of {len(record.runs)} runs"
        yield f"{name}  {each.results.folder}  ({record.status}, {runs})"
    how = {each.paired for each in found}
    pairs = (
        "paired by seed" if how == {True} else "not paired" if how == {False} else "pairs if any"
    )
    yield f"B − A with its 95 % interval ({pairs}); * where the interval excludes 0."


def _table(found: Sequence[Difference]) -> Iterator[str]:
    rows = [
        (each.column.title, show_mean(each.first), show_mean(each.second), *_change(each))
        for each in found
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for title, one, two, change, verdict in rows:
        left = f"  {title.ljust(widths[0])}  {one.rjust(widths[1])} → {two.rjust(widths[2])}"
        yield f"{left}   {change.ljust(widths[3])}  {verdict}".rstrip()


def _change(each: Difference) -> tuple[str, str]:
    if not math.isfinite(each.value):
        return "no bound", ""
    unit = METRICS[each.column.metric].unit
    # A difference of shares is in percentage points.
    chosen = scale(max(each.first.mean or 0.0, each.second.mean or 0.0), unit)
    text = _signed(chosen.text(each.value), each.value).replace("%", "pp")
    if each.interval is None:
        return text, "no interval"
    if each.interval.low == each.interval.high == 0:
        return "no difference", ""
    ends = (each.interval.low, each.interval.high)
    low, high = (_signed(chosen.number(end), end) for end in ends)
    return f"{text} ({low} … {high})", f"* {verdict(each)}" if each.clear else ""


def _signed(text: str, value: float) -> str:
    return f"+{text}" if value > 0 else text


def verdict(each: Difference) -> str:
    """Return in which direction a clear difference goes, and whether that is good."""
    went = "higher" if each.value > 0 else "lower"
    better = METRICS[each.column.metric].better
    return f"{went}, {'better' if went == better else 'worse'}" if better else went


def _foot(
    first: Evaluation,
    second: Evaluation,
    blocks: Sequence[tuple[tuple[Cell, Cell], Sequence[Difference]]],
) -> Iterator[str]:
    judged = [each for _, found in blocks for each in found if each.interval is not None]
    clear = sum(each.clear for each in judged)
    if judged:
        yield (
            f"{clear} of {len(judged)} comparisons differ; if nothing had changed, about "
            f"{0.05 * len(judged):.1g} would by chance."
        )
    else:
        yield "No interval can be given: that needs two repeats in both runs."
    for name, one, other in (("A", first, second), ("B", second, first)):
        ids = {cell.id for cell in other.results.record.cells}
        only = [cell.id for cell in one.results.record.cells if cell.id not in ids]
        if only:
            yield f"Only in {name}: {'; '.join(only)}"
