# SPDX-License-Identifier: GPL-3.0-or-later
"""The phases of a run: before, during and after its disturbances' windows."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import polars as pl

from pkgctl.measure.record import Run

ALL = "all"
BEFORE, DURING, BETWEEN, AFTER = "before", "during", "between", "after"
ORDER = (ALL, BEFORE, DURING, BETWEEN, AFTER)


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of a run, in seconds after t0; ``end`` is not part of it."""

    phase: str
    start: float
    end: float

    @property
    def length(self) -> float:
        """How long the stretch is, in seconds."""
        return self.end - self.start


def spans(run: Run) -> tuple[Span, ...]:
    """Return the stretches of a run in order of time; they cover it without gap or overlap.

    A run with disturbances is cut by their windows; one that has none, in a cell to compare
    with, by the windows that the others have. A window without an end lasts until the run
    ends. Windows that overlap or touch are one. Time between two windows that do not touch
    is a phase of its own. A run without windows is all "before".
    """
    duration = run.duration if run.duration is not None else math.inf
    found: list[Span] = []
    time = 0.0
    for start, end in _merged(run, duration):
        if start > time:
            found.append(Span(BETWEEN if found else BEFORE, time, start))
        found.append(Span(DURING, start, end))
        time = end
    if time < duration:
        found.append(Span(AFTER if found else BEFORE, time, duration))
    return tuple(found)


def _merged(run: Run, duration: float) -> list[tuple[float, float]]:
    merged: list[tuple[float, float]] = []
    active = [window for window in run.windows if window.active]
    for window in sorted(active or run.windows, key=lambda window: window.start):
        start = max(0.0, window.start)
        end = min(duration, math.inf if window.end is None else window.end)
        if end <= start:
            continue
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged


def stretches(run: Run) -> dict[str, tuple[Span, ...]]:
    """Return the spans of each phase to report, "all" first.

    A run without windows has one phase only, so only "all" is reported.
    """
    duration = run.duration if run.duration is not None else math.inf
    found: dict[str, tuple[Span, ...]] = {ALL: (Span(ALL, 0.0, duration),)}
    parts = spans(run)
    if len(parts) < 2 and all(part.phase == BEFORE for part in parts):
        return found
    for part in parts:
        found[part.phase] = (*found.get(part.phase, ()), part)
    return found


def length(parts: Iterable[Span]) -> float:
    """Return the total length of some spans, in seconds."""
    return sum(part.length for part in parts)


def within(column: str, parts: Sequence[Span]) -> pl.Expr:
    """Return whether a time lies in one of the spans."""
    inside = pl.lit(False)
    for part in parts:
        inside = inside | ((pl.col(column) >= part.start) & (pl.col(column) < part.end))
    return inside


def of_time(column: str, run: Run) -> pl.Expr:
    """Return the phase of each time in ``column``; times outside the run take its edge's."""
    parts = spans(run)
    if not parts:
        return pl.lit(BEFORE)
    phase = pl.lit(parts[0].phase)
    for part in parts[1:]:
        phase = pl.when(pl.col(column) >= part.start).then(pl.lit(part.phase)).otherwise(phase)
    return phase


def select(frame: pl.DataFrame, phase: str, run: Run, column: str) -> pl.DataFrame:
    """Return the rows of one run whose time lies in a phase; "all" is every row."""
    return frame if phase == ALL else frame.filter(of_time(column, run) == phase)
