# SPDX-License-Identifier: GPL-3.0-or-later
"""Request latency: quantiles from the intended time, with misses as infinite."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import polars as pl

from pkgctl.measure import phases
from pkgctl.measure.catalogue import QUANTILES
from pkgctl.measure.observations import Observation, Place, by_run, by_subject
from pkgctl.measure.record import Run
from pkgctl.measure.statistics import (
    Interval,
    nearest_rank,
    quantile_interval,
    samples_needed,
)

OK = "ok"


@dataclass(frozen=True, slots=True)
class Pooled:
    """A quantile over the requests of all repeats together, with its own interval.

    The interval is that of order statistics: it holds if requests are independent, which
    requests that queue behind one another are not, so it is the smaller of two truths.
    """

    metric: str
    subject: str
    phase: str
    cell: str
    value: float | None
    interval: Interval | None
    count: int


def answered() -> pl.Expr:
    """Return whether a request got its reply."""
    return (pl.col("status") == OK) & pl.col("done").is_not_null()


def latency() -> pl.Expr:
    """Return done − intended in seconds; +∞ for a request that failed or timed out."""
    taken = pl.col("done") - pl.col("intended")
    return pl.when(answered()).then(taken).otherwise(float("inf"))


def with_latency(requests: pl.DataFrame) -> pl.DataFrame:
    """Return the requests with a column ``latency``."""
    return requests.with_columns(latency().alias("latency"))


def observe(
    requests: pl.DataFrame, runs: Sequence[Run], services: Sequence[str] = ()
) -> Iterator[Observation]:
    """Yield quantiles, miss share and count by run, service and phase."""
    for run, rows in by_run(with_latency(requests), runs):
        for service, mine in by_subject(rows, "service", services):
            for phase in phases.stretches(run):
                chosen = phases.select(mine, phase, run, "intended")
                yield from _observe(Place(run, service, phase), chosen)


def _observe(place: Place, requests: pl.DataFrame) -> Iterator[Observation]:
    values = requests["latency"].sort()
    count = len(values)
    for share in QUANTILES:
        yield place.observe(
            f"latency_p{share * 100:.0f}",
            nearest_rank(values, share),
            count,
            shortage(count, share),
        )
    missed = count - requests.filter(answered()).height
    yield place.observe(
        "miss_share", missed / count if count else None, count, "" if count else "no samples"
    )
    yield place.observe("requests", float(count), count)


def shortage(count: int, share: float) -> str:
    """Return why a quantile of ``count`` samples is not stated, or an empty text."""
    needed = samples_needed(share)
    if count >= needed:
        return ""
    return f"few samples (under {needed})" if count else "no samples"


def pooled(
    requests: pl.DataFrame, runs: Sequence[Run], services: Sequence[str] = ()
) -> Iterator[Pooled]:
    """Yield the quantiles over all repeats of each cell together."""
    phased = _phased(requests, runs)
    for (cell, phase), rows in sorted(
        (((str(key[0]), str(key[1])), part) for key, part in phased),
        key=lambda item: item[0],
    ):
        for service, mine in by_subject(rows, "service", services):
            values = mine["latency"].sort()
            for share in QUANTILES:
                yield Pooled(
                    f"latency_p{share * 100:.0f}",
                    service,
                    phase,
                    cell,
                    nearest_rank(values, share),
                    quantile_interval(values, share),
                    len(values),
                )


def _phased(
    requests: pl.DataFrame, runs: Sequence[Run]
) -> Iterator[tuple[tuple[object, ...], pl.DataFrame]]:
    """Yield the requests of each cell and phase; every request is also in "all"."""
    parts = [
        phases.select(rows, phase, run, "intended").with_columns(pl.lit(phase).alias("in_phase"))
        for run, rows in by_run(with_latency(requests), runs)
        for phase in phases.stretches(run)
    ]
    if parts:
        yield from pl.concat(parts).partition_by(["cell", "in_phase"], as_dict=True).items()
