# SPDX-License-Identifier: GPL-3.0-or-later
"""What it costs to start replicas: each step of provisioning, and whole scale steps."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import polars as pl

from pkgctl.measure import phases
from pkgctl.measure.catalogue import STEPS
from pkgctl.measure.observations import Observation, Place, by_run, by_subject
from pkgctl.measure.record import Run

CLIENT = "client"
BATCH = "batch"
# A scale event is written just before or just after the submissions that it causes.
EVENT_SLACK = 0.05


def with_steps(jobs: pl.DataFrame) -> pl.DataFrame:
    """Return the jobs with the seconds of each step, ``total`` and ``cold``.

    A stamp that a job skipped (nothing to fetch, decided at once) is taken as the stamp
    before it, so that the steps always add up to the total.
    """
    decided = pl.coalesce("decided", "submitted")
    fetching = pl.coalesce(pl.col("fetching"), decided)
    artifact = pl.coalesce(pl.col("artifact"), fetching)
    started = pl.coalesce(pl.col("started"), artifact)
    return jobs.with_columns(
        (decided - pl.col("submitted")).alias("decide"),
        (fetching - decided).alias("place"),
        (artifact - fetching).alias("transfer"),
        (started - artifact).alias("start"),
        # The step's own name is taken by the stamp.
        (pl.col("ready") - started).alias("become_ready"),
        (pl.col("ready") - pl.col("submitted")).alias("total"),
        (~pl.col("cached").fill_null(False) & (pl.col("artifact_bytes").fill_null(0) > 0)).alias(
            "cold"
        ),
    )


def replicas(jobs: pl.DataFrame) -> pl.DataFrame:
    """Return the jobs that serve or work, without the load generators."""
    return with_steps(jobs).filter(pl.col("class").fill_null("") != CLIENT)


def observe(jobs: pl.DataFrame, runs: Sequence[Run]) -> Iterator[Observation]:
    """Yield provisioning overheads by run, service and phase ("deploy", "scale", "all")."""
    for run, rows in by_run(replicas(jobs), runs):
        for service, mine in by_subject(rows, "service"):
            yield from _observe(Place(run, service, phases.ALL), mine)
            for phase, part in by_subject(mine, "phase"):
                yield from _observe(Place(run, service, phase), part)


def _observe(place: Place, jobs: pl.DataFrame) -> Iterator[Observation]:
    ready = jobs.filter(pl.col("ready").is_not_null())
    yield place.observe("never_ready", float(jobs.height - ready.height), jobs.height)
    cold = ready.filter(pl.col("cold"))
    yield from _steps(place, "cold", cold)
    yield from _steps(place, "warm", ready.filter(~pl.col("cold")))
    if ready.height:
        yield place.observe("cold_share", cold.height / ready.height, ready.height)
    whole = _sum(cold, "total")
    if whole > 0:
        share = _sum(cold, "transfer") / whole
        yield place.observe("provisioning_transfer_share", share, cold.height)
    replied = ready.filter(pl.col("first_byte").is_not_null())
    if replied.height:
        waited = (replied["first_byte"] - replied["ready"]).to_list()
        yield place.observe("first_byte", sum(waited) / len(waited), replied.height)


def _steps(place: Place, state: str, jobs: pl.DataFrame) -> Iterator[Observation]:
    if not jobs.height:
        return
    names = {name: "become_ready" if name == "ready" else name for name in _known(jobs)}
    for metric, column in {"": "total", **{f"_{name}": at for name, at in names.items()}}.items():
        seconds = _sum(jobs, column) / jobs.height
        yield place.observe(f"provisioning_{state}{metric}", seconds, jobs.height)


def _known(jobs: pl.DataFrame) -> list[str]:
    """Return the steps that can be told apart: a process has its place at once."""
    has_place = jobs["fetching"].null_count() < jobs.height
    return [name for name in STEPS if has_place or name != "place"]


def _sum(jobs: pl.DataFrame, column: str) -> float:
    return float(sum(jobs[column].to_list()))


def observe_scaling(
    jobs: pl.DataFrame, events: pl.DataFrame, runs: Sequence[Run]
) -> Iterator[Observation]:
    """Yield the time from a scale decision until all its replicas are ready.

    Batch jobs are not replicas of anything and have no scale step.
    """
    decisions = dict(_decisions(events))
    serving = replicas(jobs).filter(pl.col("class").fill_null("") != BATCH)
    for run, rows in by_run(serving, runs):
        for service, mine in by_subject(rows, "service"):
            times = _times(decisions.get((run.cell, run.repeat)), service)
            for phase, part in by_subject(mine, "phase"):
                place = Place(run, service, phase)
                yield from _scaling(place, part, times if phase == "scale" else [])


def _decisions(events: pl.DataFrame) -> Iterator[tuple[tuple[str, int], pl.DataFrame]]:
    scaled = events.filter(pl.col("kind") == "scale")
    for key, part in scaled.partition_by(["cell", "repeat"], as_dict=True).items():
        yield (key[0], key[1]), part


def _times(events: pl.DataFrame | None, service: str) -> list[float]:
    """Return when this service was scaled; an event that names no service is everyone's."""
    if events is None:
        return []
    names = events.select("name", "target").rows()
    mine = [service in pair for pair in names]
    times = events["t"].to_list()
    return sorted(time for time, is_mine in zip(times, mine, strict=True) if is_mine) or (
        sorted(times) if not any(any(pair) for pair in names) else []
    )


def scale_steps(jobs: pl.DataFrame, times: Sequence[float]) -> list[tuple[float, pl.DataFrame]]:
    """Return each scale step: when it was decided (s after t0) and the jobs it submitted.

    A job belongs to the last decision before its submission; without decisions all jobs are
    one step that begins with the first submission.
    """
    edges = [time - EVENT_SLACK for time in times]
    submitted = jobs["submitted"].to_list()
    steps = [sum(edge <= time for edge in edges) for time in submitted]
    found = []
    for step in sorted(set(steps)):
        part = jobs.filter(pl.Series([index == step for index in steps]))
        first = min(part["submitted"].to_list())
        found.append((min(first, times[step - 1]) if step else first, part))
    return found


def _scaling(place: Place, jobs: pl.DataFrame, times: Sequence[float]) -> Iterator[Observation]:
    taken = [
        (_until_ready(start, part), part.height)
        for start, part in scale_steps(jobs.filter(pl.col("submitted").is_not_null()), times)
    ]
    if not taken:
        return
    whole = sum(seconds for seconds, _ in taken) / len(taken)
    each = sum(seconds / size for seconds, size in taken) / len(taken)
    yield place.observe("scaling_time", whole, len(taken))
    yield place.observe("scaling_time_per_replica", each, len(taken))
    yield place.observe("scaling_replicas", float(sum(size for _, size in taken)), len(taken))


def _until_ready(start: float, jobs: pl.DataFrame) -> float:
    ready = jobs["ready"].to_list()
    return float("inf") if None in ready else max(ready) - start
