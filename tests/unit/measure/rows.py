# SPDX-License-Identifier: GPL-3.0-or-later
"""Small frames written by hand, for tests whose expected values are worked out by hand."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import polars as pl

from pkgctl.measure.observations import Observation
from pkgctl.measure.record import Run, Window
from pkgctl.measure.results import EVENTS, JOBS, REQUESTS, SAMPLES, Columns

CELL = "only"


def run(
    repeat: int = 0,
    duration: float | None = 10.0,
    windows: Sequence[tuple[float, float | None]] = (),
    cell: str = CELL,
) -> Run:
    found = tuple(Window("w", start, end) for start, end in windows)
    return Run(cell, repeat, seed=repeat, status="done", duration=duration, windows=found)


def _frame(rows: Iterable[Mapping[str, object]], columns: Columns) -> pl.DataFrame:
    labels = {"cell": CELL, "repeat": 0}
    whole = [dict.fromkeys(columns) | labels | dict(row) for row in rows]
    return pl.DataFrame(whole, schema=dict(columns), strict=False)


def requests(*rows: tuple[float, float | None], **more: object) -> pl.DataFrame:
    """Return requests of one service from (intended, latency) pairs; None is a timeout."""
    return _frame(
        [
            {
                "service": "web",
                "intended": intended,
                "done": intended + (9.0 if latency is None else latency),
                "status": "timeout" if latency is None else "ok",
                **more,
            }
            for intended, latency in rows
        ],
        REQUESTS,
    )


def jobs(*rows: Mapping[str, object]) -> pl.DataFrame:
    usual = {"service": "web", "class": "latency", "node": "a", "cached": False, "phase": "deploy"}
    numbered = ({"job": f"j{at}", **usual, **row} for at, row in enumerate(rows))
    return _frame(numbered, JOBS)


def samples(*rows: Mapping[str, object]) -> pl.DataFrame:
    return _frame(rows, SAMPLES)


def events(*rows: Mapping[str, object]) -> pl.DataFrame:
    return _frame(rows, EVENTS)


def values(
    observations: Iterable[Observation], subject: str | None = None
) -> dict[tuple[str, str], float | None]:
    """Return each value by (metric, phase), of one subject if there are several."""
    return {
        (each.metric, each.phase): each.value
        for each in observations
        if subject in (None, each.subject)
    }
