# SPDX-License-Identifier: GPL-3.0-or-later
"""How full the nodes were: allocated, used and capacity, each weighted by time."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields

import polars as pl

from pkgctl.measure import phases
from pkgctl.measure.counters import Series, counter, gauge
from pkgctl.measure.observations import Observation, Place, by_run, by_subject
from pkgctl.measure.phases import Span
from pkgctl.measure.provisioning import CLIENT
from pkgctl.measure.record import Node, Run

ALL_NODES = "all nodes"
OVER, UNDER = 0.9, 0.2
COUNTERS = {
    "network_received": "rx_bytes",
    "network_sent": "tx_bytes",
    "disk_read": "read_bytes",
    "disk_written": "write_bytes",
}


@dataclass(frozen=True, slots=True)
class Load:
    """What a node, or all nodes together, held and used in some stretch of time.

    CPU in core-seconds, memory in byte-seconds, the rest in seconds or bytes. ``capacity``
    fields count only time that was sampled, so that a ratio compares like with like.
    """

    sampled: float = 0.0
    cpu_capacity: float = 0.0
    cpu_allocated: float = 0.0
    cpu_used: float = 0.0
    cpu_throttled: float = 0.0
    memory_capacity: float = 0.0
    memory_allocated: float = 0.0
    memory_used: float = 0.0
    over: float = 0.0
    under: float = 0.0
    network_received: float = 0.0
    network_sent: float = 0.0
    disk_read: float = 0.0
    disk_written: float = 0.0

    def __add__(self, other: Load) -> Load:
        """Return both loads together."""
        return Load(*(getattr(self, at.name) + getattr(other, at.name) for at in fields(Load)))


@dataclass(frozen=True, slots=True)
class Claim:
    """A job's claim on a node: cores and bytes from its placement until its end."""

    start: float
    end: float
    cpu: float
    memory: float

    def overlap(self, start: float, end: float) -> float:
        """Return for how many seconds of a stretch the claim stood."""
        return max(0.0, min(self.end, end) - max(self.start, start))


@dataclass(frozen=True, slots=True)
class Tracks:
    """The sampled series of one node in one run."""

    cpu: Series
    throttled: Series
    memory: Series
    counters: Mapping[str, Series]


def observe(
    samples: pl.DataFrame, jobs: pl.DataFrame, runs: Sequence[Run], nodes: Sequence[Node]
) -> Iterator[Observation]:
    """Yield utilisation by run, node and phase, and for all nodes together."""
    known = {node.name: node for node in nodes}
    of_nodes = samples.filter(pl.col("job").is_null())
    jobs_of = {(run.cell, run.repeat): part for run, part in by_run(jobs, runs)}
    for run, rows in by_run(of_nodes, runs):
        claims = claims_by_node(jobs_of[run.cell, run.repeat])
        tracks = {name: _tracks(part) for name, part in by_subject(rows, "node")}
        for phase, parts in phases.stretches(run).items():
            whole = Load()
            for name, track in tracks.items():
                load = node_load(track, claims.get(name, []), known.get(name), parts)
                whole += load
                yield from _observe(Place(run, name, phase), load)
            if whole.sampled:
                yield from _observe(Place(run, ALL_NODES, phase), whole)


def claims_by_node(jobs: pl.DataFrame) -> dict[str, list[Claim]]:
    """Return the claims on each node; load generators run outside of the nodes' limits."""
    placed = jobs.filter(
        (pl.col("class").fill_null("") != CLIENT)
        & pl.col("node").is_not_null()
        & pl.col("decided").is_not_null()
    )
    found: dict[str, list[Claim]] = {}
    rows = placed.select("node", "decided", "finished", "cpu", "memory").iter_rows()
    for node, start, end, cpu, memory in rows:
        claim = Claim(start, math.inf if end is None else end, cpu or 0.0, memory or 0.0)
        found.setdefault(node, []).append(claim)
    return found


def _tracks(samples: pl.DataFrame) -> Tracks:
    return Tracks(
        counter(samples, "cpu_seconds"),
        counter(samples, "throttled_seconds"),
        gauge(samples, "memory_bytes"),
        {name: counter(samples, column) for name, column in COUNTERS.items()},
    )


def node_load(
    tracks: Tracks, claims: Sequence[Claim], node: Node | None, parts: Sequence[Span]
) -> Load:
    """Return what a node held and used in some stretches of a run."""
    seconds = tracks.cpu.seconds(parts)
    covered = [tracks.cpu.covered(part) for part in parts]
    held = [(claim, sum(claim.overlap(start, end) for start, end in covered)) for claim in claims]
    cores, memory = (node.cpu or 0.0, node.memory or 0.0) if node else (0.0, 0.0)
    over, under = _extremes(tracks.cpu, cores, parts)
    return Load(
        sampled=seconds,
        cpu_capacity=cores * seconds,
        cpu_allocated=sum(claim.cpu * time for claim, time in held),
        cpu_used=tracks.cpu.growth(parts),
        cpu_throttled=tracks.throttled.growth(parts),
        memory_capacity=memory * seconds,
        memory_allocated=sum(claim.memory * time for claim, time in held),
        memory_used=tracks.memory.area(parts),
        over=over,
        under=under,
        **{name: series.growth(parts) for name, series in tracks.counters.items()},
    )


def _extremes(cpu: Series, cores: float, parts: Sequence[Span]) -> tuple[float, float]:
    """Return the seconds in which at least 90 % and at most 20 % of the cores were used."""
    if not cores:
        return 0.0, 0.0
    rates, seconds = cpu.rates(parts)
    # A sampled rate carries rounding of the counter: a full core may read 0.8999999.
    share = (rates / cores).round(6)
    return float(seconds[share >= OVER].sum()), float(seconds[share <= UNDER].sum())


def _observe(place: Place, load: Load) -> Iterator[Observation]:
    for resource in ("cpu", "memory"):
        for above, below in (
            ("allocated", "capacity"),
            ("used", "capacity"),
            ("used", "allocated"),
        ):
            yield place.observe(
                f"{resource}_{above}_of_{below}",
                _ratio(getattr(load, f"{resource}_{above}"), getattr(load, f"{resource}_{below}")),
            )
    if load.cpu_capacity:
        yield place.observe("overutilised_share", _ratio(load.over, load.sampled))
        yield place.observe("underutilised_share", _ratio(load.under, load.sampled))
    yield place.observe("cpu_throttled", _ratio(load.cpu_throttled, load.sampled))
    for name in COUNTERS:
        yield place.observe(name, getattr(load, name) if load.sampled else None)


def _ratio(above: float, below: float) -> float | None:
    return above / below if below > 0 else None


def observe_services(
    samples: pl.DataFrame, jobs: pl.DataFrame, runs: Sequence[Run]
) -> Iterator[Observation]:
    """Yield how the jobs of each service used what they asked for."""
    of_jobs = samples.filter(pl.col("job").is_not_null())
    jobs_of = {(run.cell, run.repeat): part for run, part in by_run(jobs, runs)}
    for run, rows in by_run(of_jobs, runs):
        mine = jobs_of[run.cell, run.repeat].filter(pl.col("class").fill_null("") != CLIENT)
        for service, part in by_subject(mine, "service"):
            asked = dict(part.select("job", "cpu").iter_rows())
            series = [
                (asked[job] or 0.0, counter(own, "cpu_seconds"), counter(own, "throttled_seconds"))
                for job, own in by_subject(rows.filter(pl.col("job").is_in(list(asked))), "job")
            ]
            for phase, parts in phases.stretches(run).items():
                yield from _observe_service(Place(run, service, phase), series, parts)


def _observe_service(
    place: Place, series: Sequence[tuple[float, Series, Series]], parts: Sequence[Span]
) -> Iterator[Observation]:
    sampled = sum(used.seconds(parts) for _, used, _ in series)
    if not sampled:
        return
    asked = sum(cores * used.seconds(parts) for cores, used, _ in series)
    spent = sum(used.growth(parts) for cores, used, _ in series if cores)
    held_back = sum(throttled.growth(parts) for _, _, throttled in series)
    yield place.observe("service_cpu_used_of_allocated", _ratio(spent, asked), len(series))
    yield place.observe("service_cpu_throttled", held_back / sampled, len(series))
