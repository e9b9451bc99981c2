# SPDX-License-Identifier: GPL-3.0-or-later
"""A results folder as frames: what is there is read, what is not is named."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from pkgctl.measure.record import Record, Run, read_record

Columns = Mapping[str, type[pl.DataType]]

REQUESTS: Columns = {
    "cell": pl.String,
    "repeat": pl.Int64,
    "service": pl.String,
    "client": pl.String,
    "replica": pl.String,
    "node": pl.String,
    "intended": pl.Float64,
    "sent": pl.Float64,
    "first_byte": pl.Float64,
    "done": pl.Float64,
    "status": pl.String,
    "bytes_in": pl.Int64,
    "bytes_out": pl.Int64,
}
JOBS: Columns = {
    "cell": pl.String,
    "repeat": pl.Int64,
    "job": pl.String,
    "service": pl.String,
    "class": pl.String,
    "node": pl.String,
    "cached": pl.Boolean,
    "cpu": pl.Float64,
    "memory": pl.Int64,
    "artifact_bytes": pl.Int64,
    "submitted": pl.Float64,
    "decided": pl.Float64,
    "fetching": pl.Float64,
    "artifact": pl.Float64,
    "started": pl.Float64,
    "ready": pl.Float64,
    "first_byte": pl.Float64,
    "finished": pl.Float64,
    "status": pl.String,
    "phase": pl.String,
}
SAMPLES: Columns = {
    "cell": pl.String,
    "repeat": pl.Int64,
    "t": pl.Float64,
    "node": pl.String,
    "job": pl.String,
    "cpu_seconds": pl.Float64,
    "throttled_seconds": pl.Float64,
    "memory_bytes": pl.Float64,
    "rx_bytes": pl.Float64,
    "tx_bytes": pl.Float64,
    "read_bytes": pl.Float64,
    "write_bytes": pl.Float64,
}
EVENTS: Columns = {
    "cell": pl.String,
    "repeat": pl.Int64,
    "t": pl.Float64,
    "wall": pl.Float64,
    "planned": pl.Float64,
    "mono": pl.Float64,
    "planned_mono": pl.Float64,
    "planned_wall": pl.Float64,
    "kind": pl.String,
    "name": pl.String,
    "target": pl.String,
    "detail": pl.String,
}
LINKS: Columns = {
    "src": pl.String,
    "dst": pl.String,
    "asked_rate": pl.Float64,
    "asked_delay": pl.Float64,
    "asked_loss": pl.Float64,
    "asked_rtt": pl.Float64,
    "rtt_p50": pl.Float64,
    "rtt_p95": pl.Float64,
    "tolerance_rtt": pl.Float64,
    "verdict_rtt": pl.String,
    "goodput": pl.Float64,
    "goodput_expected": pl.Float64,
    "tolerance_goodput": pl.Float64,
    "verdict_goodput": pl.String,
    "loss": pl.Float64,
    "loss_expected": pl.Float64,
    "tolerance_loss": pl.Float64,
    "verdict_loss": pl.String,
    "verdict": pl.String,
    "reason": pl.String,
}
PER_RUN: Mapping[str, Columns] = {"requests": REQUESTS, "jobs": JOBS, "samples": SAMPLES}
REQUIRED: Mapping[str, tuple[str, ...]] = {
    "requests": ("service", "intended", "status"),
    "jobs": ("job", "service", "submitted"),
    "samples": ("t", "node", "cpu_seconds"),
    "events": ("t", "kind"),
    "links": ("src", "dst", "verdict"),
}


@dataclass(frozen=True)
class Results:
    """Everything that a run folder holds; ``problems`` names what could not be read."""

    folder: Path
    record: Record
    requests: pl.DataFrame
    jobs: pl.DataFrame
    samples: pl.DataFrame
    events: pl.DataFrame
    links: pl.DataFrame
    problems: tuple[str, ...] = ()

    @property
    def measured(self) -> tuple[Run, ...]:
        """The repeats that were run to their end."""
        return tuple(run for run in self.record.runs if run.status == "done")


def empty(columns: Columns) -> pl.DataFrame:
    """Return a frame of these columns without rows."""
    return pl.DataFrame(schema=dict(columns))


def read_results(folder: Path) -> Results:
    """Return the frames of a run folder, however much of it there is.

    Raises:
        ResultsError: if there is no readable ``run.json``.
    """
    record = read_record(folder)
    problems = [*_unfinished(record)]
    frames = {
        name: _runs_table(folder, record, name, columns, problems)
        for name, columns in PER_RUN.items()
    }
    return Results(
        folder=folder,
        record=record,
        events=_events(folder, record, problems),
        links=_links(folder, problems),
        problems=tuple(problems),
        **frames,
    )


def _unfinished(record: Record) -> Iterator[str]:
    """Yield a line for the repeats of a cell that were not measured for the same reason."""
    groups: dict[tuple[str, str], list[str]] = {}
    for run in record.runs:
        if run.status != "done":
            told = "not measured" if run.status == "missing" else run.status
            reason = f"{told}: {run.note}" if run.note else told
            groups.setdefault((run.cell, reason), []).append(str(run.repeat))
    for (cell, reason), repeats in groups.items():
        which = "repeat" if len(repeats) == 1 else "repeats"
        yield f"{cell or 'the only cell'}, {which} {', '.join(repeats)}: {reason}"


def _label(run: Run) -> str:
    return f"{run.cell or 'the only cell'}, repeat {run.repeat}"


def _runs_table(
    folder: Path, record: Record, name: str, columns: Columns, problems: list[str]
) -> pl.DataFrame:
    found = []
    for run in record.runs:
        if run.status != "done":
            continue
        frame = _run_table(folder, run, name, columns, problems)
        # The plan is the authority on which run a file belongs to.
        labels = (pl.lit(run.cell).alias("cell"), pl.lit(run.repeat, pl.Int64).alias("repeat"))
        found.append(frame.with_columns(*labels))
    return pl.concat([empty(columns), *found])


def _run_table(
    folder: Path, run: Run, name: str, columns: Columns, problems: list[str]
) -> pl.DataFrame:
    if not run.folder:
        problems.append(f"{_label(run)}: no folder is named for it")
        return empty(columns)
    path = folder / run.folder / f"{name}.parquet"
    if not path.resolve().is_relative_to(folder.resolve()):
        problems.append(f"{_label(run)}: its folder lies outside the run folder")
        return empty(columns)
    return _table(path, folder, columns, REQUIRED[name], problems)


def _table(
    path: Path, folder: Path, columns: Columns, required: tuple[str, ...], problems: list[str]
) -> pl.DataFrame:
    shown = path.relative_to(folder)
    try:
        return align(pl.read_parquet(path), columns, required)
    except FileNotFoundError:
        problems.append(f"{shown}: missing")
    except (OSError, ValueError, pl.exceptions.PolarsError) as error:
        problems.append(f"{shown}: cannot be read: {str(error).splitlines()[0][:200]}")
    return empty(columns)


def align(frame: pl.DataFrame, columns: Columns, required: tuple[str, ...]) -> pl.DataFrame:
    """Return the frame with exactly these columns; an optional one that is absent is null.

    Raises:
        ValueError: if a required column is absent.
    """
    lacking = [name for name in required if name not in frame.columns]
    if lacking:
        raise ValueError(f"column {', '.join(lacking)} is absent")
    return frame.select(
        (pl.col(name) if name in frame.columns else pl.lit(None)).cast(kind).alias(name)
        for name, kind in columns.items()
    )


def _links(folder: Path, problems: list[str]) -> pl.DataFrame:
    return _table(folder / "links.parquet", folder, LINKS, REQUIRED["links"], problems)


def _events(folder: Path, record: Record, problems: list[str]) -> pl.DataFrame:
    """Return the events: from the table of a run that ended, else from its journal."""
    table, journal = folder / "events.parquet", folder / "events.jsonl"
    if table.exists() or not journal.exists():
        return _table(table, folder, EVENTS, REQUIRED["events"], problems)
    rows = [row for row in map(_decoded, journal.read_text(encoding="utf-8").splitlines()) if row]
    if record.status == "complete":
        problems.append("events.parquet: missing; events.jsonl was read instead")
    return pl.DataFrame(rows, schema=dict(EVENTS), strict=False)


def _decoded(line: str) -> dict[str, object] | None:
    """Return one journal line's fields, or None for the torn last line of a killed run."""
    try:
        found = json.loads(line)
    except ValueError:
        return None
    return {key: found.get(key) for key in EVENTS} if isinstance(found, dict) else None
