# SPDX-License-Identifier: GPL-3.0-or-later
"""Recorded traces as arrivals: Azure's LLM requests, Alibaba's openb pods, and plain CSV.

Files are read row by row and no further than needed. docs/traces.md describes the formats, where
the public data sets are, and how their figures are scaled.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from pkgctl.errors import SpecError, nearest
from pkgctl.workload.arrivals import Arrival, WorkClass
from pkgctl.workload.table import Row, Table, open_table

MEBIBYTE = 2**20
EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
# Alibaba's classes of service: LS is latency-sensitive, the others give way to it.
CLASSES: dict[str, WorkClass] = {
    "LS": "latency",
    "BE": "batch",
    "Burstable": "batch",
    "Guaranteed": "batch",
}
OWN_CLASSES: dict[str, WorkClass] = {"latency": "latency", "batch": "batch"}


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenScale:
    """What a token of a language model costs in a stand-in for one.

    Chosen, not measured: they give the requests of Azure's code service 4.8 ms of CPU time on
    average (2,048 context and 28 generated tokens) and keep a generated token by far the dearer,
    as it is on the real hardware.
    """

    seconds_per_context_token: float = 1e-6
    seconds_per_generated_token: float = 1e-4
    bytes_per_token: float = 4.0


@dataclass(frozen=True, slots=True)
class Format:
    """How the rows of one kind of trace are read.

    Attributes:
        required: the columns that must be there, first the one that tells the time.
        optional: the only others that may be there; None if any may.
        has_zero: whether its times count from the start, not from some other moment.
        read: what makes a row an arrival, with the time as the file has it.
    """

    required: tuple[str, ...]
    optional: tuple[str, ...] | None
    has_zero: bool
    read: Callable[[Row, TokenScale], Arrival]

    def misfit(self, columns: tuple[str, ...]) -> str | None:
        """Return why a table with these columns is no such trace, None if it may be one."""
        for name in self.required:
            if name not in columns:
                return f"there is no column {name!r}; the columns are {', '.join(columns)}"
        for name in columns:
            if self.optional is not None and name not in (*self.required, *self.optional):
                return f"unknown column {name!r}; {nearest(name, self.optional)}"
        return None


def read_trace(
    path: Path,
    *,
    format: str = "auto",
    speed: float = 1.0,
    skip: int = 0,
    head: int | None = None,
    until: float | None = None,
    scale: TokenScale | None = None,
) -> tuple[Arrival, ...]:
    """Return a trace's arrivals in the order of time.

    Args:
        path: the file, gzipped if its name ends in ``.gz``.
        format: ``azure-llm``, ``openb``, ``csv``, or ``auto`` to tell by the columns.
        speed: how many seconds of the trace pass in one; durations shrink along with the gaps.
        skip: how many rows to leave out at the beginning; time then starts at the next one.
        head: how many arrivals to take at most.
        until: the time in seconds, after speeding up, at which to stop.
        scale: what tokens cost, for azure-llm.

    Raises:
        SpecError: one line with the file and the line at fault.
    """
    _check(speed, skip, head)
    with open_table(path) as table:
        kind = _format(table, format)
        rows = itertools.islice(table.rows, skip, None)
        ordered = _ordered(rows, kind, scale or TokenScale())
        arrivals = ordered if kind.has_zero and not skip else _from_first(ordered)
        quick = (_faster(arrival, speed) for arrival in arrivals)
        soon = quick if until is None else itertools.takewhile(lambda one: one.time < until, quick)
        found = tuple(itertools.islice(soon, head))
    if not found:
        raise SpecError("no arrivals are left to take", file=path)
    return found


def _check(speed: float, skip: int, head: int | None) -> None:
    if not 0 < speed < math.inf:
        raise ValueError(f"speed must be above zero, not {speed}")
    if skip < 0 or (head is not None and head < 1):
        raise ValueError(f"skip must be zero or more and head one or more, not {skip} and {head}")


def _format(table: Table, name: str) -> Format:
    if name == "auto":
        name = _recognise(table)
    if name not in FORMATS:
        raise SpecError(f"no trace format is called {name!r}; {nearest(name, ('auto', *FORMATS))}")
    misfit = FORMATS[name].misfit(table.columns)
    if misfit:
        raise SpecError(f"it is no {name} trace: {misfit}", file=table.file, line=1)
    return FORMATS[name]


def _recognise(table: Table) -> str:
    """Return the format whose first column, which tells the time, the table has."""
    for name, kind in FORMATS.items():
        if kind.required[0] in table.columns:
            return name
    times = ", ".join(f"{kind.required[0]} ({name})" for name, kind in FORMATS.items())
    message = f"no column tells the time; it would be one of {times}"
    raise SpecError(message, file=table.file, line=1)


def _ordered(rows: Iterator[Row], kind: Format, scale: TokenScale) -> Iterator[Arrival]:
    """Yield the rows' arrivals, which must not go back in time."""
    latest, line = -math.inf, 0
    for row in rows:
        arrival = kind.read(row, scale)
        if arrival.time < latest:
            raise SpecError(
                f"time goes back, below that of line {line}; sort the rows by {kind.required[0]}",
                file=row.file,
                line=row.line,
            )
        latest, line = arrival.time, row.line
        yield arrival


def _from_first(arrivals: Iterator[Arrival]) -> Iterator[Arrival]:
    """Yield the arrivals with their times counted from the first, in whole microseconds."""
    first: float | None = None
    for arrival in arrivals:
        first = arrival.time if first is None else first
        yield replace(arrival, time=round(arrival.time - first, 6))


def _faster(arrival: Arrival, speed: float) -> Arrival:
    duration = arrival.duration
    return replace(
        arrival,
        time=arrival.time / speed,
        duration=None if duration is None else duration / speed,
    )


def _azure_llm(row: Row, scale: TokenScale) -> Arrival:
    context, generated = row.need("ContextTokens"), row.need("GeneratedTokens")
    work = context * scale.seconds_per_context_token + generated * scale.seconds_per_generated_token
    return Arrival(
        time=_moment(row, "TIMESTAMP"),
        work=work,
        in_bytes=round(context * scale.bytes_per_token),
        out_bytes=round(generated * scale.bytes_per_token),
        work_class="latency",
    )


def _moment(row: Row, column: str) -> float:
    """Return a date and time as seconds; without a zone it is UTC."""
    try:
        moment = datetime.fromisoformat(row.values[column].strip())
    except ValueError:
        raise row.error(column, "write a time such as 2023-11-16 18:17:03.979") from None
    zoned = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return (zoned - EPOCH) / timedelta(seconds=1)


def _openb(row: Row, _: TokenScale) -> Arrival:
    ended, begun = row.amount("deletion_time"), row.amount("scheduled_time")
    if ended is not None and begun is not None and ended < begun:
        raise row.error("deletion_time", "it must not lie before scheduled_time")
    return Arrival(
        time=row.need("creation_time"),
        cores=row.need("cpu_milli") / 1000,
        memory=round(row.need("memory_mib") * MEBIBYTE),
        duration=None if ended is None or begun is None else ended - begun,
        work_class=_class(row, "qos", CLASSES),
        name=row.text("name"),
    )


def _class(row: Row, column: str, known: dict[str, WorkClass]) -> WorkClass | None:
    text = row.text(column)
    if text is not None and text not in known:
        raise row.error(column, nearest(text, known))
    return None if text is None else known[text]


def _csv(row: Row, _: TokenScale) -> Arrival:
    return Arrival(
        time=row.need("time"),
        work=row.amount("cpu"),
        in_bytes=row.count("in"),
        out_bytes=row.count("out"),
        cores=row.amount("cores"),
        memory=row.count("memory"),
        duration=row.amount("duration"),
        work_class=_class(row, "class", OWN_CLASSES),
        name=row.text("name"),
    )


FORMATS = {
    "azure-llm": Format(("TIMESTAMP", "ContextTokens", "GeneratedTokens"), None, False, _azure_llm),
    "openb": Format(
        (
            *("creation_time", "cpu_milli", "memory_mib", "qos"),
            *("deletion_time", "scheduled_time", "name"),
        ),
        None,
        False,
        _openb,
    ),
    "csv": Format(
        ("time",),
        ("cpu", "in", "out", "cores", "memory", "duration", "class", "name"),
        True,
        _csv,
    ),
}
