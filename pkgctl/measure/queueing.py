# SPDX-License-Identifier: GPL-3.0-or-later
"""The batch queue: waits, completion times, slowdown, makespan and throughput by class."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import polars as pl

from pkgctl.measure import phases
from pkgctl.measure.latency import shortage
from pkgctl.measure.observations import Observation, Place, by_run, by_subject
from pkgctl.measure.provisioning import BATCH, CLIENT
from pkgctl.measure.record import Run
from pkgctl.measure.statistics import mean, nearest_rank

FINISHED = "finished"
BOUNDS = {"bounded_slowdown_10s": 10.0, "bounded_slowdown_1s": 1.0}
INFINITE = float("inf")


def bounded_slowdown(completion: float, running: float, bound: float) -> float:
    """Return max(1, completion ÷ max(running, bound)), all in seconds."""
    return max(1.0, completion / max(running, bound))


def with_times(jobs: pl.DataFrame) -> pl.DataFrame:
    """Return the jobs with ``well``, ``wait``, ``completion`` and ``running`` (seconds).

    A wait without a start and a completion without a good end are infinite.
    """
    well = (pl.col("status") == FINISHED) & pl.all_horizontal(
        pl.col("submitted", "started", "finished").is_not_null()
    )
    return jobs.with_columns(
        well.fill_null(False).alias("well"),
        (pl.col("started") - pl.col("submitted")).fill_null(INFINITE).alias("wait"),
        pl.when(well)
        .then(pl.col("finished") - pl.col("submitted"))
        .otherwise(INFINITE)
        .alias("completion"),
        (pl.col("finished") - pl.col("started")).alias("running"),
    )


def observe(jobs: pl.DataFrame, runs: Sequence[Run]) -> Iterator[Observation]:
    """Yield waits by run and class, and for batch jobs how the whole queue went."""
    for run, rows in by_run(with_times(jobs), runs):
        served = rows.filter(pl.col("class").fill_null("") != CLIENT)
        for kind, mine in by_subject(served, "class"):
            place = Place(run, kind, phases.ALL)
            yield from _waits(place, mine)
            if kind == BATCH:
                yield from _completions(place, mine)
                yield from _whole(place, mine)


def _waits(place: Place, jobs: pl.DataFrame) -> Iterator[Observation]:
    waits = jobs["wait"].to_list()
    started = [wait for wait in waits if math.isfinite(wait)]
    yield place.observe("wait_mean", mean(started), len(started))
    yield from _quantiles(place, "wait", waits)
    yield place.observe("wait_max", max(waits), len(waits))


def _quantiles(place: Place, name: str, values: Sequence[float]) -> Iterator[Observation]:
    for share in (0.5, 0.95):
        yield place.observe(
            f"{name}_p{share * 100:.0f}",
            nearest_rank(sorted(values), share),
            len(values),
            shortage(len(values), share),
        )


def _completions(place: Place, jobs: pl.DataFrame) -> Iterator[Observation]:
    well = jobs.filter("well")
    completions, running = well["completion"].to_list(), well["running"].to_list()
    yield place.observe("completion_mean", mean(completions), well.height)
    yield from _quantiles(place, "completion", jobs["completion"].to_list())
    for name, bound in BOUNDS.items():
        slowed = [
            bounded_slowdown(whole, own, bound)
            for whole, own in zip(completions, running, strict=True)
        ]
        yield place.observe(name, mean(slowed), well.height)


def _whole(place: Place, jobs: pl.DataFrame) -> Iterator[Observation]:
    well = jobs.filter("well")
    unfinished = jobs.height - well.height
    yield place.observe("jobs_finished", float(well.height), jobs.height)
    yield place.observe("jobs_unfinished", float(unfinished), jobs.height)
    if not well.height:
        return
    span = max(well["finished"].to_list()) - min(jobs["submitted"].drop_nulls().to_list())
    yield place.observe("makespan", INFINITE if unfinished else span, jobs.height)
    yield place.observe("job_throughput", well.height / span if span > 0 else None, well.height)
