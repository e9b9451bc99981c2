# SPDX-License-Identifier: GPL-3.0-or-later
"""The folder of a run, written as it goes: whatever was measured survives a killed controller.

``run.json`` is replaced as a whole, never edited; ``events.jsonl`` only grows; the tables of one
run of a cell lie in ``cells/NNN-rR/`` and are whole before ``run.json`` says that they are done.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO

import polars as pl

from pkgctl.errors import ResultsError
from pkgctl.experiment.plan import Run
from pkgctl.measure.results import EVENTS, LINKS, PER_RUN, Columns

FORMAT = 1
DONE, FAILED, MISSING = "done", "failed", "missing"
Row = Mapping[str, Any]


def now() -> str:
    """Return the present time as ISO 8601 text in UTC."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def create(root: Path, name: str) -> Path:
    """Return a new folder for a run of an experiment, named after it and the time.

    Raises:
        ResultsError: if it cannot be made.
    """
    stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
    for suffix in ("", *(f"-{count}" for count in range(2, 100))):
        path = root / f"{name}-{stamp}{suffix}"
        try:
            path.mkdir(parents=True)
        except FileExistsError:
            continue
        except OSError as error:
            raise ResultsError(f"{path}: cannot be made: {error.strerror}") from error
        return path
    raise ResultsError(f"{root}: a hundred runs of {name} began within this second")


def write_whole(path: Path, text: str) -> None:
    """Replace a file, so that a reader, or a crash, sees the old text or the new one."""
    partial = path.with_name(f".{path.name}.part")
    with partial.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def open_journal(path: Path) -> TextIO:
    """Return a file of JSON lines, open for more; a torn last line is ended first."""
    journal = path.open("a+", encoding="utf-8")
    if path.stat().st_size and not path.read_bytes().endswith(b"\n"):
        journal.write("\n")
    return journal


class Folder:
    """A run folder that is being written; ``record`` is what run.json says."""

    def __init__(self, path: Path, record: dict[str, Any]) -> None:
        self.path = path
        self.record = record
        self._events = open_journal(path / "events.jsonl")
        self.save()

    def save(self) -> None:
        """Write run.json."""
        write_whole(self.path / "run.json", json.dumps(self.record, indent=1) + "\n")

    def set(self, **fields: Any) -> None:
        """Change what run.json says of the whole run, and write it."""
        self.record.update(fields)
        self.save()

    def warn(self, text: str) -> None:
        """Note something that a reader of the results must know; each text once."""
        if text not in self.record["warnings"]:
            self.record["warnings"].append(text)
            self.save()

    def note(self, run: Run | None, **event: Any) -> None:
        """Append an event of a run, or of the experiment as a whole."""
        cell, repeat = run.key if run else (None, None)
        row = {**dict.fromkeys(EVENTS), "cell": cell, "repeat": repeat, **event}
        self._events.write(json.dumps(row) + "\n")
        self._events.flush()

    def write_links(self, rows: Sequence[Row]) -> None:
        """Write the table of link verdicts."""
        write_table(self.path / "links.parquet", rows, LINKS)

    def write_run(self, run: Run, tables: Mapping[str, Sequence[Row]], facts: Row) -> None:
        """Write the tables of one run of a cell, and only then say that it is done."""
        place = self.path / run.folder
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        for name, columns in PER_RUN.items():
            write_table(place / f"{name}.parquet", tables.get(name, ()), columns)
        self.mark(run, status=DONE, error=None, **facts)

    def mark(self, run: Run, **fields: Any) -> None:
        """Change what run.json says of one run of a cell."""
        entry = find_entry(self.record, run)
        entry.update(fields)
        for key in [key for key, value in entry.items() if value is None]:
            del entry[key]
        self.save()

    def finish(self, status: str) -> None:
        """Write the events as a table, and how the run ended."""
        self._events.flush()
        write_table(self.path / "events.parquet", read_lines(self.path / "events.jsonl"), EVENTS)
        self.set(status=status, finished=now())

    def close(self) -> None:
        """Close the file of events."""
        self._events.close()


def find_entry(record: Mapping[str, Any], run: Run) -> dict[str, Any]:
    """Return the part of run.json about one run of a cell."""
    for cell in record["cells"]:
        for entry in cell["runs"]:
            if (cell["id"], entry["repeat"]) == run.key:
                found: dict[str, Any] = entry
                return found
    raise KeyError(run.key)


def write_table(path: Path, rows: Sequence[Row], columns: Columns) -> None:
    """Write rows as Parquet; a column that a row lacks is null.

    The file is there whole or not at all.
    """
    by_column = {name: [row.get(name) for row in rows] for name in columns}
    frame = pl.DataFrame(by_column, schema=dict(columns), strict=False)
    partial = path.with_name(f".{path.name}.part")
    frame.write_parquet(partial)
    partial.replace(path)


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a file of JSON lines; a torn last line is left out."""
    if not path.exists():
        return []
    return list(decoded(path.read_text(encoding="utf-8").splitlines()))


def decoded(lines: Iterable[str]) -> Iterable[dict[str, Any]]:
    """Yield the rows of JSON lines; a line that is none is left out."""
    for line in lines:
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict):
            yield row
