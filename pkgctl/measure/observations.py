# SPDX-License-Identifier: GPL-3.0-or-later
"""One number from one repeat: the rows from which every metric's table is made."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass

import polars as pl

from pkgctl.measure.record import Run

SCHEMA: dict[str, type[pl.DataType]] = {
    "metric": pl.String,
    "subject": pl.String,
    "phase": pl.String,
    "cell": pl.String,
    "repeat": pl.Int64,
    "value": pl.Float64,
    "count": pl.Int64,
    "note": pl.String,
}


@dataclass(frozen=True, slots=True)
class Observation:
    """What one repeat says of one metric.

    Attributes:
        subject: the service, node or job class it is about; "all nodes" for a sum.
        value: in the metric's unit; None where it may not be stated, and ``note`` says why.
        count: the number of rows (requests, jobs, samples) it was made from.
    """

    metric: str
    subject: str
    phase: str
    cell: str
    repeat: int
    value: float | None
    count: int = 0
    note: str = ""


@dataclass(frozen=True, slots=True)
class Place:
    """Where an observation belongs: the repeat, the subject and the phase."""

    run: Run
    subject: str
    phase: str

    def observe(
        self, metric: str, value: float | None, count: int = 0, note: str = ""
    ) -> Observation:
        """Return an observation of this place."""
        run = self.run
        return Observation(
            metric, self.subject, self.phase, run.cell, run.repeat, value, count, note
        )


def to_frame(observations: Iterable[Observation]) -> pl.DataFrame:
    """Return the observations as a frame, one row each."""
    return pl.DataFrame([asdict(row) for row in observations], schema=SCHEMA)


def by_run(frame: pl.DataFrame, runs: Sequence[Run]) -> Iterator[tuple[Run, pl.DataFrame]]:
    """Yield each run with its rows; a run without rows comes with an empty frame."""
    parts = frame.partition_by(["cell", "repeat"], as_dict=True)
    for run in runs:
        yield run, parts.get((run.cell, run.repeat), frame.clear())


def by_subject(
    frame: pl.DataFrame, column: str, declared: Sequence[str] = ()
) -> Iterator[tuple[str, pl.DataFrame]]:
    """Yield each subject with its rows: the declared ones first, then what else is there."""
    parts = {
        str(key[0]): part
        for key, part in frame.drop_nulls(column).partition_by([column], as_dict=True).items()
    }
    for name in (*declared, *sorted(parts.keys() - set(declared))):
        yield name, parts.get(name, frame.clear())
