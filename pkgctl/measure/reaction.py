# SPDX-License-Identifier: GPL-3.0-or-later
"""How long Kubernetes took to notice that a node was gone, and until its replicas were replaced."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import polars as pl

from pkgctl.measure import phases
from pkgctl.measure.observations import Observation, Place, by_run, by_subject
from pkgctl.measure.record import Run

NOTICED, BACK = "kubernetes-notready", "kubernetes-ready"
REPLACED = "replace"


def observe(events: pl.DataFrame, jobs: pl.DataFrame, runs: Sequence[Run]) -> Iterator[Observation]:
    """Yield the delays of each node that Kubernetes took for not ready after a layer set in."""
    starts = {(run.cell, run.repeat): part for run, part in by_run(jobs, runs)}
    for run, rows in by_run(events, runs):
        ready = _replacements(rows, starts[run.cell, run.repeat])
        for node, mine in by_subject(rows, "target"):
            yield from _of_node(Place(run, node, phases.ALL), mine, ready.get(node, []))


def _of_node(
    place: Place, events: pl.DataFrame, ready: Sequence[float | None]
) -> Iterator[Observation]:
    noticed = _first(events, NOTICED)
    began = None if noticed is None else _last(events, "layer-on", noticed)
    if noticed is None or began is None:
        return
    yield place.observe("notice_delay", noticed - began)
    ended = _last(events, "layer-off", float("inf"))
    back = _first(events, BACK, after=noticed)
    if ended is not None and back is not None:
        yield place.observe("notice_back_delay", back - ended)
    yield place.observe("replaced", float(len(ready)))
    if ready:
        last = float("inf") if None in ready else max(each for each in ready if each is not None)
        yield place.observe("replace_delay", last - began, len(ready))


def _first(events: pl.DataFrame, kind: str, after: float = float("-inf")) -> float | None:
    times = events.filter((pl.col("kind") == kind) & (pl.col("t") >= after))["t"]
    return float(times.min()) if times.len() else None  # type: ignore[arg-type]


def _last(events: pl.DataFrame, kind: str, until: float) -> float | None:
    times = events.filter((pl.col("kind") == kind) & (pl.col("t") <= until))["t"]
    return float(times.max()) if times.len() else None  # type: ignore[arg-type]


def _replacements(events: pl.DataFrame, jobs: pl.DataFrame) -> dict[str, list[float | None]]:
    """Return for each node when those were ready that took the place of its lost replicas.

    Replicas are submitted in the order in which they are to replace others.
    """
    queues: dict[str, list[float | None]] = {}
    fresh = jobs.filter(pl.col("phase") == REPLACED).sort("submitted")
    for service, ready in fresh.select("service", "ready").iter_rows():
        queues.setdefault(service, []).append(ready)
    found: dict[str, list[float | None]] = {}
    lost = events.filter(pl.col("kind") == REPLACED).sort("t").select("name", "target")
    for service, node in lost.iter_rows():
        waiting = queues.get(service)
        found.setdefault(node, []).append(waiting.pop(0) if waiting else None)
    return found
