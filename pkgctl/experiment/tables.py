# SPDX-License-Identifier: GPL-3.0-or-later
"""The rows of one run: requests, jobs and samples, with every time in seconds after t0. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pkgctl.experiment.placing import Entry
from pkgctl.experiment.plan import Run

STAMPS = ("submitted", "decided", "fetching", "artifact", "started", "ready", "finished")
USAGE = (
    "cpu_seconds",
    "throttled_seconds",
    "memory_bytes",
    "rx_bytes",
    "tx_bytes",
    "read_bytes",
    "write_bytes",
)
Row = dict[str, Any]


def requests(
    run: Run, results: Iterable[tuple[str, Mapping[str, Any]]], warm_up: float
) -> list[Row]:
    """Return a row for each request; those of the warm-up are left out.

    Args:
        run: the run.
        results: the client and what it wrote of the request, in seconds after the warm-up began.
        warm_up: how many seconds before t0 that was.
    """
    rows = [_request(run, client, row, warm_up) for client, row in results]
    return sorted((row for row in rows if row["intended"] >= 0), key=lambda row: row["intended"])


def _request(run: Run, client: str, row: Mapping[str, Any], warm_up: float) -> Row:
    times = {key: row.get(key) for key in ("intended", "sent", "first_byte", "done")}
    shifted = {key: None if at is None else round(at - warm_up, 6) for key, at in times.items()}
    kept = {key: row.get(key) for key in ("service", "replica", "node", "status")}
    moved = {key: row.get(key, 0) for key in ("bytes_in", "bytes_out")}
    return {"cell": run.cell.id, "repeat": run.repeat, "client": client, **kept, **shifted, **moved}


def jobs(run: Run, entries: Iterable[Entry], t0: float, answered: Iterable[Row]) -> list[Row]:
    """Return a row for each replica and each job.

    Args:
        run: the run.
        entries: what is known of them.
        t0: when the load began (CLOCK_MONOTONIC).
        answered: the rows of the requests, for each replica's first byte.
    """
    first = first_bytes(answered)
    return [{**_job(run, entry, t0), "first_byte": first.get(entry.job.id)} for entry in entries]


def first_bytes(rows: Iterable[Row]) -> dict[str, float]:
    """Return when the first byte of each replica's first answer came."""
    found: dict[str, float] = {}
    for row in rows:
        replica, moment = row["replica"], row["first_byte"]
        if replica is not None and moment is not None:
            found[replica] = min(moment, found.get(replica, moment))
    return found


def _job(run: Run, entry: Entry, t0: float) -> Row:
    job, state = entry.job, entry.state
    stamps = {"submitted": entry.submitted, **(state.stamps if state else {})}
    return {
        "cell": run.cell.id,
        "repeat": run.repeat,
        "job": job.id,
        "service": entry.service,
        "class": str(job.job_class),
        "node": entry.node,
        "cached": state.cached if state else None,
        "cpu": job.resources.cpu,
        "memory": job.resources.memory,
        "artifact_bytes": job.artifact.bytes if job.artifact else 0,
        **{key: round(stamps[key] - t0, 6) for key in STAMPS if key in stamps},
        "status": entry.status,
        "phase": entry.phase,
    }


def samples(run: Run, taken: Iterable[Mapping[str, Any]], t0: float) -> list[Row]:
    """Return a row for each node and job of each sample."""
    return [
        {
            "cell": run.cell.id,
            "repeat": run.repeat,
            "t": round(sample["mono"] - t0, 6),
            "node": row["node"],
            "job": row["job"],
            **{key: row[key] for key in USAGE},
        }
        for sample in taken
        for row in sample["rows"]
    ]


def moments(at: float, planned: float | None, t0: float, wall: float) -> Row:
    """Return when an event came and when it was planned, on each clock.

    Args:
        at: when it came (CLOCK_MONOTONIC).
        planned: when it should have come; None if nobody planned it.
        t0: when the load began.
        wall: what has to be added to CLOCK_MONOTONIC to have unix time.
    """
    found = {"t": at - t0, "mono": at, "wall": at + wall}
    if planned is None:
        return found
    plan = {"planned": planned - t0, "planned_mono": planned, "planned_wall": planned + wall}
    return {**found, **plan}
