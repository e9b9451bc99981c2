# SPDX-License-Identifier: GPL-3.0-or-later
"""The table of metrics: one row for each metric, subject, cell and phase, over its repeats."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import polars as pl

from pkgctl.measure.catalogue import METRICS
from pkgctl.measure.latency import Pooled
from pkgctl.measure.observations import Observation
from pkgctl.measure.record import Cell, Record, Scalar
from pkgctl.measure.statistics import Interval, mean, student_interval

FIXED = frozenset({
    "metric", "unit", "subject", "phase", "cell", "mean", "low", "high", "n_repeats", "values",
    "repeats", "pooled", "pooled_low", "pooled_high", "samples", "note",
})  # fmt: skip
Key = tuple[str, str, str, str]


@dataclass(frozen=True)
class Row:
    """One metric of one subject in one cell and phase.

    Attributes:
        mean: over the repeats that have a value; infinite if one of them is.
        interval: 95 % (Student t over the repeats), cut at what the metric can be.
        values: by repeat, None where the repeat may not state one; as ``repeats``.
        pooled: for a quantile, that of all repeats' samples together.
        samples: how many requests, jobs or samples are behind all repeats together.
    """

    metric: str
    subject: str
    phase: str
    cell: str
    mean: float | None
    interval: Interval | None
    values: tuple[float | None, ...]
    repeats: tuple[int, ...]
    samples: int
    pooled: Pooled | None = None
    note: str = ""

    @property
    def stated(self) -> tuple[float, ...]:
        """The values of the repeats that have one."""
        return tuple(value for value in self.values if value is not None)

    @property
    def by_repeat(self) -> dict[int, float]:
        """The value of each repeat that has one."""
        pairs = zip(self.repeats, self.values, strict=True)
        return {repeat: value for repeat, value in pairs if value is not None}


@dataclass(frozen=True)
class Table:
    """All rows of a run, with look-up by what they are about."""

    rows: tuple[Row, ...]
    index: Mapping[Key, Row]

    @classmethod
    def of(cls, rows: Iterable[Row]) -> Table:
        """Return the table of some rows."""
        found = tuple(rows)
        return cls(found, {(row.metric, row.subject, row.phase, row.cell): row for row in found})

    def find(self, metric: str, subject: str, phase: str, cell: str) -> Row | None:
        """Return the row, or None if it was not measured."""
        return self.index.get((metric, subject, phase, cell))

    def subjects(self, metric: str) -> list[str]:
        """Return whom a metric is known of, in the order in which they were measured."""
        return list(dict.fromkeys(row.subject for row in self.rows if row.metric == metric))

    def phases(self, metric: str) -> list[str]:
        """Return in which phases a metric is known."""
        return list(dict.fromkeys(row.phase for row in self.rows if row.metric == metric))


def tabulate(observations: Iterable[Observation], pooled: Iterable[Pooled] = ()) -> Table:
    """Return the table of some observations."""
    together = {(each.metric, each.subject, each.phase, each.cell): each for each in pooled}
    groups: dict[Key, list[Observation]] = {}
    for each in observations:
        groups.setdefault((each.metric, each.subject, each.phase, each.cell), []).append(each)
    return Table.of(_row(key, found, together.get(key)) for key, found in groups.items())


def _row(key: Key, found: Sequence[Observation], pooled: Pooled | None) -> Row:
    found = sorted(found, key=lambda each: each.repeat)
    stated = [each.value for each in found if each.value is not None]
    return Row(
        *key,
        mean=mean(stated),
        interval=_cut(key[0], student_interval(stated)),
        values=tuple(each.value for each in found),
        repeats=tuple(each.repeat for each in found),
        samples=sum(each.count for each in found),
        pooled=pooled,
        note="; ".join(_notes(found, stated)),
    )


def _cut(metric: str, interval: Interval | None) -> Interval | None:
    """Return the interval without the part that the quantity cannot have."""
    if interval is None:
        return None
    ceiling = METRICS[metric].ceiling
    high = interval.high if ceiling is None else min(interval.high, ceiling)
    return Interval(max(0.0, interval.low), high)


def _notes(found: Sequence[Observation], stated: Sequence[float]) -> Iterator[str]:
    unbounded = sum(math.isinf(value) for value in stated)
    if unbounded:
        yield f"unbounded in {unbounded} of {len(stated)} repeats"
    elif len(stated) == 1:
        yield "one repeat: no interval"
    silent = [each for each in found if each.value is None]
    reasons = dict.fromkeys(each.note for each in silent if each.note)
    if silent and reasons:
        yield f"{len(silent)} of {len(found)} repeats: {', '.join(reasons)}"


def factor_columns(factors: Iterable[str]) -> dict[str, str]:
    """Return the column of each factor: its name, or with ``_factor`` where that is taken."""
    return {name: f"{name}_factor" if name in FIXED else name for name in factors}


def to_frame(table: Table, record: Record) -> pl.DataFrame:
    """Return the table as it is written to ``metrics.parquet``."""
    cells = {cell.id: cell for cell in record.cells}
    columns = factor_columns(_factors(record))
    rows = [_flat(row, cells.get(row.cell), columns) for row in table.rows]
    return pl.DataFrame(rows, schema=_schema(record, columns))


def _factors(record: Record) -> list[str]:
    named = [name for cell in record.cells for name in cell.factors]
    return list(dict.fromkeys((*record.factors, *named)))


def _flat(row: Row, cell: Cell | None, columns: Mapping[str, str]) -> dict[str, object]:
    interval, pooled = row.interval, row.pooled
    pooled_interval = pooled.interval if pooled else None
    return {
        "metric": row.metric,
        "unit": METRICS[row.metric].unit,
        "subject": row.subject,
        **{column: cell.factors.get(name) if cell else None for name, column in columns.items()},
        "phase": row.phase,
        "cell": row.cell,
        "mean": row.mean,
        "low": interval.low if interval else None,
        "high": interval.high if interval else None,
        "n_repeats": len(row.stated),
        "values": list(row.values),
        "repeats": list(row.repeats),
        "pooled": pooled.value if pooled else None,
        "pooled_low": pooled_interval.low if pooled_interval else None,
        "pooled_high": pooled_interval.high if pooled_interval else None,
        "samples": row.samples,
        "note": row.note,
    }


def _schema(record: Record, columns: Mapping[str, str]) -> dict[str, pl.DataType]:
    kinds = {column: _kind(record, name) for name, column in columns.items()}
    texts = {name: pl.String() for name in ("metric", "unit", "subject")}
    numbers = {name: pl.Float64() for name in ("mean", "low", "high")}
    pooled = {name: pl.Float64() for name in ("pooled", "pooled_low", "pooled_high")}
    return {
        **texts,
        **kinds,
        "phase": pl.String(),
        "cell": pl.String(),
        **numbers,
        "n_repeats": pl.Int64(),
        "values": pl.List(pl.Float64()),
        "repeats": pl.List(pl.Int64()),
        **pooled,
        "samples": pl.Int64(),
        "note": pl.String(),
    }


def _kind(record: Record, factor: str) -> pl.DataType:
    """Return the column type that holds every level of a factor; text if they are mixed."""
    levels = {type(level) for level in _levels(record, factor) if level is not None}
    if levels == {bool}:
        return pl.Boolean()
    if levels == {int}:
        return pl.Int64()
    return pl.Float64() if levels and levels <= {int, float} else pl.String()


def _levels(record: Record, factor: str) -> Iterator[Scalar]:
    yield from record.factors.get(factor, ())
    yield from (cell.factors.get(factor) for cell in record.cells)
