# SPDX-License-Identifier: GPL-3.0-or-later
"""Made-up run folders for tests: a small queueing model, seeded, and nothing measured.

Every name and number here is test data. ``write_run`` writes what a whole run of an
experiment leaves behind; its options take parts away again.
"""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from pkgctl.measure.results import EVENTS, JOBS, LINKS, REQUESTS, SAMPLES, Columns

DURATION = 6.0
WINDOW = (2.0, 4.0)
TIMEOUT = 2.0
SERVERS = ("edge-a-1", "edge-a-2", "edge-b-1")
EDGE = {"kind": "small", "role": "edge", "cpu": 0.5, "memory": 1 << 28}
NODES = [
    {"name": "cloud-1", "site": "cloud", "kind": "server", "role": "cloud"}
    | {"cpu": 2.0, "memory": 1 << 30},
    {"name": "edge-a-1", "site": "edge-a"} | EDGE,
    {"name": "edge-a-2", "site": "edge-a"} | EDGE,
    {"name": "edge-b-1", "site": "edge-b"} | EDGE,
    {"name": "user-1", "site": "edge-a"} | EDGE | {"kind": "device", "role": "user"},
]


@dataclass(frozen=True)
class Shape:
    """What kind of run to make up."""

    factors: Mapping[str, Sequence[object]] = field(
        default_factory=lambda: {"replicas": [1, 2, 4, 8], "perturb": ["none", "slow-uplink"]}
    )
    repeats: int = 3
    rate: float = 30.0
    duration: float = DURATION
    windows: bool = True
    status: str = "complete"
    batch: bool = False
    objective: bool = True


def cells_of(factors: Mapping[str, Sequence[object]]) -> list[dict[str, object]]:
    """Return the full crossing of some factors, the last one changing fastest."""
    found: list[dict[str, object]] = [{}]
    for name, levels in factors.items():
        found = [{**cell, name: level} for cell in found for level in levels]
    return found


def cell_id(factors: Mapping[str, object]) -> str:
    return ",".join(f"{name}={level}" for name, level in factors.items())


def write_run(folder: Path, shape: Shape | None = None) -> Path:
    """Write a whole run folder and return it."""
    shape = shape or Shape()
    folder.mkdir(parents=True, exist_ok=True)
    cells, events = [], []
    for index, factors in enumerate(cells_of(shape.factors)):
        runs = []
        for repeat in range(shape.repeats):
            runs.append(_write_cell(folder, shape, factors, index, repeat, events))
        cells.append({"id": cell_id(factors), "factors": factors, "runs": runs})
    _write(folder / "links.parquet", links_of([str(node["name"]) for node in NODES]), LINKS)
    _write(folder / "events.parquet", events, EVENTS)
    (folder / "experiment.yaml").write_text(EXPERIMENT, encoding="utf-8")
    (folder / "topology.yaml").write_text("name: three-sites\nsites: {}\n", encoding="utf-8")
    (folder / "run.json").write_text(json.dumps(record_of(shape, cells), indent=1))
    return folder


def record_of(shape: Shape, cells: Sequence[Mapping[str, object]]) -> dict[str, object]:
    """Return the decoded ``run.json`` of a made-up run."""
    web = {"slo": {"latency": 0.15, "at": 0.95}} if shape.objective else {}
    return {
        "format": 1,
        "name": "scaling",
        "question": "What does it cost to scale an edge service, and what does a slow uplink "
        "do to its tail?",
        "status": shape.status,
        "started": "2025-03-01T10:00:00+00:00",
        "finished": "2025-03-01T10:03:12+00:00",
        "seed": 7,
        "repeats": shape.repeats,
        "topology": {"name": "three-sites", "nodes": NODES},
        "factors": dict(shape.factors),
        "cells": list(cells),
        "services": {"web": web},
        "measure": ["provisioning", "scaling", "latency", "throughput", "utilisation", "slo"],
        "machine": {
            "kernel": "6.8.0-test",
            "cpus": 2,
            "memory": 8 << 30,
            "delay_backend": "delay line",
            "cgroup": "v2",
        },
        "versions": {"pkgctl": "0.1.0", "python": "3.11.7"},
        "warnings": ["edge-b-1: the CPU governor is not known; rates may drift"],
        "command": "pkgctl experiment scaling.yaml",
    }


EXPERIMENT = """\
name: scaling
question: What does it cost to scale an edge service, and what does a slow uplink do to its tail?
topology: three-sites
seed: 7
repeats: 3
factors:
  replicas: [1, 2, 4, 8]
  perturb: [none, slow-uplink]
perturbations:
  slow-uplink: {src: {site: edge-a}, dst: {site: cloud}, direction: both, bw: 5mbit, delay: 40ms,
                start: 2s, duration: 2s}
"""


def _write_cell(
    folder: Path,
    shape: Shape,
    factors: Mapping[str, object],
    index: int,
    repeat: int,
    events: list[dict[str, object]],
) -> dict[str, object]:
    replicas = int(str(factors.get("replicas", 2)))
    disturbed = factors.get("perturb") not in (None, "none")
    name, place = cell_id(factors), f"cells/{index:03d}-r{repeat}"
    # The same arrivals for every cell of a repeat, so that cells can be compared in pairs.
    arrivals = random.Random(1000 + repeat)
    rng = random.Random(f"{name} {repeat}")
    jobs = jobs_of(replicas, rng)
    if shape.batch:
        jobs += batch_of(random.Random(repeat), rng, replicas)
    requests = requests_of(shape, replicas, disturbed, arrivals, rng)
    (folder / place).mkdir(parents=True, exist_ok=True)
    labels = {"cell": name, "repeat": repeat}
    _write(folder / place / "jobs.parquet", [labels | row for row in jobs], JOBS)
    _write(folder / place / "requests.parquet", [labels | row for row in requests], REQUESTS)
    samples = samples_of(shape, jobs, len(requests), rng)
    _write(folder / place / "samples.parquet", [labels | row for row in samples], SAMPLES)
    if disturbed and shape.windows:
        events += [labels | row for row in events_of(rng)]
    return {
        "repeat": repeat,
        "seed": 7000 + repeat,
        "folder": place,
        "status": "done",
        "t0_wall": 1.7e9,
        "duration": shape.duration,
        "windows": windows_of(disturbed) if shape.windows else [],
    }


def windows_of(active: bool) -> list[dict[str, object]]:
    return [{"name": "slow-uplink", "start": WINDOW[0], "end": WINDOW[1], "active": active}]


def jobs_of(replicas: int, rng: random.Random) -> list[dict[str, object]]:
    """Return the web replicas: the first on each node is cold, and cold ones share a link."""
    rows = []
    seen: set[str] = set()
    for index in range(replicas):
        node = SERVERS[index % len(SERVERS)]
        cached = node in seen
        submitted = (-2.0 if cached else -4.0) + 0.002 * index
        decided = submitted + rng.uniform(0.002, 0.006)
        artifact = decided + (0.001 if cached else _transfer(rng))
        seen.add(node)
        started = artifact + rng.uniform(0.008, 0.015)
        ready = started + rng.uniform(0.11, 0.16)
        rows.append({
            "job": f"web-{index}", "service": "web", "class": "latency", "node": node,
            "cached": cached, "cpu": 0.1, "memory": 48 << 20, "artifact_bytes": 2 << 20,
            "submitted": submitted, "decided": decided, "artifact": artifact, "started": started,
            "ready": ready, "first_byte": 0.02 + 0.03 * index, "finished": None,
            "status": "running", "phase": "deploy",
        })  # fmt: skip
    client = dict.fromkeys(JOBS) | {
        "job": "load-0", "service": "web", "class": "client", "node": "user-1", "cached": True,
        "submitted": -1.0, "decided": -1.0, "started": -0.9, "ready": -0.8, "status": "running",
        "phase": "deploy",
    }  # fmt: skip
    return [*rows, client]


def _transfer(rng: random.Random) -> float:
    return 8 * (2 << 20) / 20e6 * rng.uniform(1.05, 1.25)


def batch_of(arrivals: random.Random, rng: random.Random, servers: int) -> list[dict[str, object]]:
    """Return batch jobs that queue first come, first served for ``servers`` slots."""
    free = [0.0] * servers
    rows, time = [], 0.0
    for index in range(40):
        time += arrivals.expovariate(12.0)
        slot = min(range(servers), key=free.__getitem__)
        started = max(time, free[slot]) + 0.01
        free[slot] = started + rng.uniform(0.15, 0.45)
        rows.append({
            "job": f"sort-{index}", "service": "sort", "class": "batch", "node": "cloud-1",
            "cached": index > 0, "cpu": 0.5, "memory": 32 << 20, "artifact_bytes": 1 << 20,
            "submitted": time, "decided": started - 0.008, "artifact": started - 0.006,
            "started": started, "ready": started + 0.02, "first_byte": None,
            "finished": free[slot], "status": "finished", "phase": "deploy",
        })  # fmt: skip
    return rows


def requests_of(
    shape: Shape, replicas: int, disturbed: bool, arrivals: random.Random, rng: random.Random
) -> list[dict[str, object]]:
    """Return open-loop requests to replicas that each serve one at a time."""
    rows = []
    free = [0.0] * replicas
    time, index = arrivals.expovariate(shape.rate) if shape.rate else shape.duration, 0
    while time < shape.duration:
        replica = index % replicas
        slow = disturbed and WINDOW[0] <= time < WINDOW[1] and shape.windows
        way = 0.003 + (0.041 + rng.expovariate(200.0) if slow else rng.expovariate(4000.0))
        begin = max(time + way, free[replica])
        free[replica] = begin + 0.012 + rng.expovariate(90.0)
        done = free[replica] + way
        late = done - time > TIMEOUT
        rows.append({
            "service": "web", "client": "user-1", "replica": f"web-{replica}",
            "node": SERVERS[replica % len(SERVERS)], "intended": time, "sent": time + 0.0002,
            "first_byte": None if late else done - 0.0004, "done": time + TIMEOUT if late else done,
            "status": "timeout" if late else "ok", "bytes_in": 1024, "bytes_out": 8192,
        })  # fmt: skip
        time, index = time + arrivals.expovariate(shape.rate), index + 1
    return rows


def samples_of(
    shape: Shape, jobs: Sequence[Mapping[str, object]], requests: int, rng: random.Random
) -> list[dict[str, object]]:
    """Return cumulative counters of every node and web replica, five a second."""
    replicas = [job for job in jobs if job["class"] == "latency"]
    each = 0.0025 * requests / shape.duration / len(replicas)
    share = {
        str(node["name"]): each * sum(job["node"] == node["name"] for job in replicas)
        for node in NODES
    }
    rows: list[dict[str, object]] = []
    used = dict.fromkeys(share, 0.0)
    for step in range(int((shape.duration + 2.0) * 5)):
        t = -1.0 + 0.2 * step
        for node, rate in share.items():
            used[node] += 0.2 * rate * rng.uniform(0.7, 1.3) * (t > 0)
            rows.append(_sample(t, node, None, used[node], 1 << 26, requests))
        for job in replicas:
            node = str(job["node"])
            own = used[node] * each / share[node] if share[node] else 0.0
            rows.append(_sample(t, node, job["job"], own, 48 << 20, 0))
    return rows


def _sample(
    t: float, node: str, job: object, used: float, memory: int, requests: int
) -> dict[str, object]:
    traffic = 9000.0 * requests * max(t, 0.0) / DURATION
    return {
        "t": t, "node": node, "job": job, "cpu_seconds": used,
        "throttled_seconds": 0.3 * used, "memory_bytes": memory,
        "rx_bytes": traffic / 8, "tx_bytes": traffic, "read_bytes": 0, "write_bytes": 4096,
    }  # fmt: skip


def events_of(rng: random.Random) -> list[dict[str, object]]:
    """Return the beginning and the end of the disturbance, a few milliseconds late."""
    found = []
    for kind, planned in zip(("layer-on", "layer-off"), WINDOW, strict=True):
        t = planned + rng.uniform(0.001, 0.006)
        found.append({
            "t": t, "wall": 1.7e9 + t, "planned": planned, "kind": kind, "name": "slow-uplink",
            "target": "edge-a-1", "detail": "",
        })  # fmt: skip
    return found


def links_of(names: Sequence[str], failing: int = 1) -> list[dict[str, object]]:
    """Return every directed pair; the first ``failing`` miss their rate, the last is unmeasured."""
    pairs = [(src, dst) for src in names for dst in names if src != dst]
    rng = random.Random(len(pairs))
    verdicts = ["fail"] * failing + ["pass"] * (len(pairs) - failing - 1) + ["unmeasured"]
    return [_link(*pair, verdict, rng) for pair, verdict in zip(pairs, verdicts, strict=True)]


def _link(src: str, dst: str, verdict: str, rng: random.Random) -> dict[str, object]:
    delay = 0.012 if "cloud" in src + dst else 0.004
    asked = {
        "src": src, "dst": dst, "asked_rate": 20e6, "asked_delay": delay, "asked_loss": 0.0,
        "asked_rtt": 2 * delay, "tolerance_rtt": 0.001, "goodput_expected": 19.2e6,
    }  # fmt: skip
    if verdict == "unmeasured":
        return asked | {"verdict": verdict, "reason": "only sampled pairs are measured"}
    share = 0.82 if verdict == "fail" else rng.uniform(0.985, 1.004)
    reason = "goodput 15.7 mbit is 18 % under the expected 19.2 mbit" if verdict == "fail" else ""
    return asked | {
        "rtt_p50": 2 * delay + rng.uniform(0.0001, 0.0003), "rtt_p95": 2 * delay + 0.0006,
        "goodput": share * 19.2e6, "loss": 0.0, "verdict": verdict, "reason": reason,
    }  # fmt: skip


def _write(path: Path, rows: Sequence[Mapping[str, object]], columns: Columns) -> None:
    table = [{name: row.get(name) for name in columns} for row in rows]
    pl.DataFrame(table, schema=dict(columns), strict=False).write_parquet(path)
