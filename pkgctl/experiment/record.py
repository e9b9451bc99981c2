# SPDX-License-Identifier: GPL-3.0-or-later
"""What run.json says before anything has run: the question, the plan, the machine, the versions."""

from __future__ import annotations

import hashlib
import json
import os
import platform
from collections.abc import Iterable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from pkgctl import __version__, topology
from pkgctl.experiment import plan, windows
from pkgctl.experiment.folder import FORMAT, MISSING, now
from pkgctl.nodeside import hierarchies
from pkgctl.spec import Cell, Experiment

DELAY_BACKEND = "delay line (NFQUEUE)"
TOOLS = ("ansible-core", "ansible-runner", "polars", "pydantic")


def fresh(experiment: Experiment, command: str) -> dict[str, Any]:
    """Return run.json of a run in which nothing is done yet."""
    head = experiment.head
    return {
        "format": FORMAT,
        "name": head.name,
        "question": head.question,
        "status": "running",
        "started": now(),
        "finished": None,
        "seed": head.seed,
        "repeats": head.repeats,
        "topology": _topology(experiment.topology),
        "factors": {name: list(levels) for name, levels in head.factors.items()},
        "cells": _cells(experiment),
        "services": _services(experiment.cells),
        "measure": list(head.measure),
        "machine": machine(),
        "versions": versions(),
        "inputs": digest(experiment),
        "warnings": [],
        "command": command,
    }


def _topology(net: topology.Topology) -> dict[str, Any]:
    keys = ("name", "site", "kind", "role", "cpu", "memory")
    return {
        "name": net.name,
        "nodes": [{key: getattr(node, key) for key in keys} for node in net.nodes],
    }


def _cells(experiment: Experiment) -> list[dict[str, Any]]:
    runs = plan.runs(experiment)
    return [
        {
            "id": cell.id,
            "factors": dict(cell.factors),
            "runs": [_run(run) for run in sorted(_of(cell, runs), key=lambda run: run.repeat)],
        }
        for cell in experiment.cells
    ]


def _of(cell: Cell, runs: Iterable[plan.Run]) -> Iterable[plan.Run]:
    return (run for run in runs if run.cell is cell)


def _run(run: plan.Run) -> dict[str, Any]:
    return {
        "repeat": run.repeat,
        "seed": run.seed,
        "folder": run.folder,
        "status": MISSING,
        "duration": run.cell.body.duration,
        "windows": windows.planned(run.cell.body),
    }


def _services(cells: Iterable[Cell]) -> dict[str, Any]:
    """Return each service's objective, as the first cell that has the service states it."""
    found: dict[str, Any] = {}
    for cell in cells:
        for name, service in cell.body.services.items():
            slo = service.slo and {"latency": service.slo.latency, "at": service.slo.at}
            found.setdefault(name, {"slo": slo})
    return found


def digest(experiment: Experiment) -> str:
    """Return a fingerprint of all that a run follows from: file, settings, topology, traces."""
    inputs = {
        "values": experiment.values,
        "topology": experiment.topology.to_dict(),
        "traces": {str(path): _content(path) for path in traces(experiment)},
    }
    text = json.dumps(inputs, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def traces(experiment: Experiment) -> list[Path]:
    """Return the trace files that the cells name, each once."""
    found: dict[Path, None] = {}
    for cell in experiment.cells:
        parts = [load.arrivals for load in cell.body.load]
        parts += [queue.arrivals for queue in cell.body.jobs.values()]
        for arrivals in parts:
            if arrivals.trace is not None:
                found[experiment.trace(arrivals.trace)] = None
    return list(found)


def _content(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def machine() -> dict[str, Any]:
    """Return what is known of this machine, and what delays and bounds its nodes."""
    return {
        "kernel": platform.release(),
        "cgroup": hierarchies.here().world,
        "delay_backend": DELAY_BACKEND,
        "cpus": len(os.sched_getaffinity(0)),
        "memory": os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
    }


def versions() -> dict[str, str]:
    """Return the versions of what the numbers depend on."""
    found = {"pkgctl": __version__, "python": platform.python_version()}
    return found | {tool: _version(tool) for tool in TOOLS}


def _version(tool: str) -> str:
    try:
        return metadata.version(tool)
    except metadata.PackageNotFoundError:
        return "unknown"


def totals(record: Mapping[str, Any]) -> dict[str, int]:
    """Return how many runs are done, failed and missing."""
    states = [run["status"] for cell in record["cells"] for run in cell["runs"]]
    return {state: states.count(state) for state in ("done", "failed", "missing")}
