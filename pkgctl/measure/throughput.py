# SPDX-License-Identifier: GPL-3.0-or-later
"""Requests per second offered and answered, and how well the objectives were kept."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

import polars as pl

from pkgctl.measure import phases
from pkgctl.measure.latency import answered, with_latency
from pkgctl.measure.observations import Observation, Place, by_run, by_subject
from pkgctl.measure.phases import Span
from pkgctl.measure.record import Objective, Run

# A bin of one second is the time in which an attainment is judged.
VIOLATION_BIN = 1.0


def observe(
    requests: pl.DataFrame,
    runs: Sequence[Run],
    objectives: Mapping[str, Objective],
    services: Sequence[str] = (),
) -> Iterator[Observation]:
    """Yield offered load, throughput, goodput and attainment by run, service and phase."""
    for run, rows in by_run(with_latency(requests), runs):
        for service, mine in by_subject(rows, "service", services):
            for phase, parts in phases.stretches(run).items():
                place = Place(run, service, phase)
                yield from _rates(place, mine, parts, objectives.get(service))
                if service in objectives:
                    chosen = phases.select(mine, phase, run, "intended")
                    yield from _objective(place, chosen, objectives[service])


def _rates(
    place: Place, requests: pl.DataFrame, parts: Sequence[Span], objective: Objective | None
) -> Iterator[Observation]:
    seconds = phases.length(parts)
    note = "" if math.isfinite(seconds) else "the run's duration is not known"
    offered = requests.filter(phases.within("intended", parts)).height
    replies = requests.filter(answered()).filter(phases.within("done", parts))
    yield place.observe("offered", _per_second(offered, seconds), offered, note)
    yield place.observe("throughput", _per_second(replies.height, seconds), replies.height, note)
    if objective:
        good = replies.filter(pl.col("latency") <= objective.latency).height
        yield place.observe("goodput", _per_second(good, seconds), good, note)


def _per_second(count: int, seconds: float) -> float | None:
    return count / seconds if seconds > 0 and math.isfinite(seconds) else None


def _objective(place: Place, requests: pl.DataFrame, objective: Objective) -> Iterator[Observation]:
    count = requests.height
    note = "" if count else "no samples"
    good = requests.with_columns((pl.col("latency") <= objective.latency).alias("good"))
    attained = good.filter("good").height / count if count else None
    yield place.observe("slo_attainment", attained, count, note)
    bins = good.group_by((pl.col("intended") // VIOLATION_BIN).alias("bin")).agg(
        pl.col("good").mean()
    )
    violated = bins.filter(pl.col("good") < objective.at).height
    share = violated / bins.height if bins.height else None
    yield place.observe("slo_violation_time", share, bins.height, note)
