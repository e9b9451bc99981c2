# SPDX-License-Identifier: GPL-3.0-or-later
"""Evaluations with values chosen by hand, for tests of what is said about them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from pkgctl.measure.evaluation import Evaluation
from pkgctl.measure.observations import Observation
from pkgctl.measure.record import Cell, Objective, Record, Run, Scalar, Window
from pkgctl.measure.results import EVENTS, JOBS, LINKS, REQUESTS, SAMPLES, Results, empty
from pkgctl.measure.table import tabulate
from tests.unit.report.synthetic import cell_id, cells_of

# (metric, subject, phase, cell) → the value of each repeat
Values = Mapping[tuple[str, str, str, str], Sequence[float | None]]


def evaluation(
    factors: Mapping[str, Sequence[Scalar]],
    values: Values,
    *,
    repeats: int = 3,
    window: str = "",
    objective: Objective | None = None,
    status: str = "done",
) -> Evaluation:
    """Return an evaluation of a full crossing, without any rows behind it."""
    cells = tuple(
        Cell(cell_id(levels), levels, _runs(cell_id(levels), repeats, window, levels, status))
        for levels in cells_of(factors)
    )
    record = Record(
        "made",
        question="What is it?",
        status="complete",
        factors={name: tuple(levels) for name, levels in factors.items()},
        cells=cells,
        objectives={"web": objective} if objective else {},
        services=("web",),
    )
    return Evaluation(_results(record), tabulate(_observations(values)))


def _runs(
    cell: str, repeats: int, window: str, levels: Mapping[str, Scalar], status: str
) -> tuple[Run, ...]:
    active = window in levels.values() or "perturb" not in levels
    windows = (Window(window, 2.0, 4.0, active),) if window else ()
    return tuple(
        Run(cell, at, seed=at, status=status, duration=6.0, windows=windows)
        for at in range(repeats)
    )


def _results(record: Record) -> Results:
    tables = {"requests": REQUESTS, "jobs": JOBS, "samples": SAMPLES}
    frames = {name: empty(columns) for name, columns in tables.items()}
    return Results(Path("made"), record, events=empty(EVENTS), links=empty(LINKS), **frames)


def _observations(values: Values) -> list[Observation]:
    return [
        Observation(metric, subject, phase, cell, at, value, 100)
        for (metric, subject, phase, cell), found in values.items()
        for at, value in enumerate(found)
    ]


def p95(
    cell: str, *values: float | None, phase: str = "all"
) -> dict[tuple[str, str, str, str], Sequence[float | None]]:
    """Return the p95 of a cell's repeats."""
    return {("latency_p95", "web", phase, cell): values}
