# SPDX-License-Identifier: GPL-3.0-or-later
"""What ``run.json`` says: the plan of a run and how far it came, as frozen values."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pkgctl.errors import ResultsError

FORMAT = 1
Scalar = str | int | float | bool | None


@dataclass(frozen=True)
class Window:
    """A disturbance's time in a run, in seconds after t0; the same in every cell that compares.

    ``end`` is None for one that lasts until the run ends; ``active`` says whether the
    disturbance was really applied in this cell.
    """

    name: str
    start: float
    end: float | None = None
    active: bool = True


@dataclass(frozen=True)
class Run:
    """One repeat of one cell."""

    cell: str
    repeat: int
    seed: int | None = None
    folder: str | None = None
    status: str = "missing"
    duration: float | None = None
    windows: tuple[Window, ...] = ()
    note: str = ""
    strain: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Cell:
    """One combination of the factors' levels."""

    id: str
    factors: Mapping[str, Scalar]
    runs: tuple[Run, ...] = ()


@dataclass(frozen=True)
class Node:
    """A node as the topology declared it: ``cpu`` in cores, ``memory`` in bytes."""

    name: str
    site: str = ""
    kind: str = ""
    role: str = ""
    cpu: float | None = None
    memory: float | None = None


@dataclass(frozen=True)
class Objective:
    """At least the share ``at`` of requests answered within ``latency`` seconds."""

    latency: float
    at: float


@dataclass(frozen=True)
class Record:
    """A whole run: the question, the plan, the machine, and what was noted on the way."""

    name: str
    question: str = ""
    status: str = "running"
    started: str = ""
    finished: str = ""
    seed: int | None = None
    command: str = ""
    topology: str = ""
    nodes: tuple[Node, ...] = ()
    factors: Mapping[str, tuple[Scalar, ...]] = field(default_factory=dict)
    cells: tuple[Cell, ...] = ()
    objectives: Mapping[str, Objective] = field(default_factory=dict)
    services: tuple[str, ...] = ()
    machine: Mapping[str, object] = field(default_factory=dict)
    cluster: Mapping[str, object] = field(default_factory=dict)
    versions: Mapping[str, object] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    @property
    def runs(self) -> tuple[Run, ...]:
        """Every planned repeat of every cell, in the order of the plan."""
        return tuple(run for cell in self.cells for run in cell.runs)


def read_record(folder: Path) -> Record:
    """Return what the folder's ``run.json`` says.

    Raises:
        ResultsError: if the file is missing, is not JSON, or is not a run of this format.
    """
    path = folder / "run.json"
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ResultsError(f"{path}: not found; a run folder holds a run.json") from error
    except (OSError, ValueError) as error:
        raise ResultsError(f"{path}: cannot be read: {error}") from error
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise ResultsError(f"{path}: not a run of format {FORMAT}")
    try:
        return parse_record(found)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ResultsError(f"{path}: {type(error).__name__}: {error}") from error


def parse_record(found: Mapping[str, Any]) -> Record:
    """Return the record that a decoded ``run.json`` describes; absent keys take defaults."""
    services = found.get("services") or {}
    topology = found.get("topology") or {}
    return Record(
        name=str(found["name"]),
        question=str(found.get("question") or ""),
        status=str(found.get("status") or "running"),
        started=str(found.get("started") or ""),
        finished=str(found.get("finished") or ""),
        seed=found.get("seed"),
        command=str(found.get("command") or ""),
        topology=str(topology.get("name") or ""),
        nodes=tuple(_node(node) for node in topology.get("nodes") or ()),
        factors=_factors(found.get("factors") or {}),
        cells=tuple(_cell(cell) for cell in found.get("cells") or ()),
        objectives=_objectives(services),
        services=tuple(services),
        machine=found.get("machine") or {},
        cluster=found.get("cluster") or {},
        versions=found.get("versions") or {},
        warnings=tuple(str(warning) for warning in found.get("warnings") or ()),
    )


def _node(found: Mapping[str, Any]) -> Node:
    texts = {key: str(found.get(key) or "") for key in ("name", "site", "kind", "role")}
    return Node(**texts, cpu=_number(found.get("cpu")), memory=_number(found.get("memory")))


def _cell(found: Mapping[str, Any]) -> Cell:
    name = str(found["id"])
    runs = tuple(_run(name, run) for run in found.get("runs") or ())
    factors = {key: _level(level) for key, level in (found.get("factors") or {}).items()}
    return Cell(name, factors, runs)


def _factors(found: Mapping[str, Any]) -> dict[str, tuple[Scalar, ...]]:
    return {name: tuple(_level(level) for level in levels) for name, levels in found.items()}


def _level(found: object) -> Scalar:
    """Return a factor's level; one that is a list or a mapping becomes its JSON text."""
    if found is None or isinstance(found, str | int | float | bool):
        return found
    return json.dumps(found, ensure_ascii=False, sort_keys=True)


def _run(cell: str, found: Mapping[str, Any]) -> Run:
    return Run(
        cell=cell,
        repeat=int(found["repeat"]),
        seed=found.get("seed"),
        folder=found.get("folder"),
        status=str(found.get("status") or "missing"),
        duration=_number(found.get("duration")),
        windows=_windows(found.get("windows") or ()),
        note=str(found.get("error") or found.get("note") or ""),
        strain={name: float(each) for name, each in (found.get("strain") or {}).items()},
    )


def _windows(found: Sequence[Mapping[str, Any]]) -> tuple[Window, ...]:
    return tuple(
        Window(
            str(window.get("name") or ""),
            float(window["start"]),
            _number(window.get("end")),
            bool(window.get("active", True)),
        )
        for window in found
    )


def _objectives(services: Mapping[str, Any]) -> dict[str, Objective]:
    wanted = {name: (service or {}).get("slo") for name, service in services.items()}
    return {
        name: Objective(float(slo["latency"]), float(slo["at"]))
        for name, slo in wanted.items()
        if slo
    }


def _number(found: Any) -> float | None:
    return None if found is None else float(found)
