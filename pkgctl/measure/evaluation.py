# SPDX-License-Identifier: GPL-3.0-or-later
"""A whole run evaluated: every metric of every cell, and the two files that keep them."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pkgctl.measure import (
    latency,
    provisioning,
    queueing,
    reaction,
    throughput,
    timing,
    utilisation,
)
from pkgctl.measure.catalogue import METRICS
from pkgctl.measure.observations import Observation
from pkgctl.measure.record import Cell
from pkgctl.measure.results import Results, read_results
from pkgctl.measure.table import Row, Table, tabulate, to_frame

NODE_GROUPS = ("utilisation", "network", "disk")
METRICS_FILE = "metrics.parquet"
SUMMARY_FILE = "summary.json"


@dataclass(frozen=True)
class Evaluation:
    """A run's results with the table of metrics made from them."""

    results: Results
    table: Table


def evaluate(folder: Path) -> Evaluation:
    """Return every metric of a run folder.

    Raises:
        ResultsError: if the folder holds no readable ``run.json``.
    """
    results = read_results(folder)
    runs, services = results.measured, results.record.services
    pooled = latency.pooled(results.requests, runs, services)
    return Evaluation(results, tabulate(observe(results), pooled))


def observe(results: Results) -> Iterator[Observation]:
    """Yield each metric of each measured repeat."""
    record, runs = results.record, results.measured
    # A service that this run knows no request of is no subject of a request metric.
    asked = record.services if results.requests.height else ()
    yield from latency.observe(results.requests, runs, asked)
    yield from throughput.observe(results.requests, runs, record.objectives, asked)
    yield from provisioning.observe(results.jobs, runs)
    yield from provisioning.observe_scaling(results.jobs, results.events, runs)
    yield from utilisation.observe(results.samples, results.jobs, runs, record.nodes)
    yield from utilisation.observe_services(results.samples, results.jobs, runs)
    yield from queueing.observe(results.jobs, runs)
    yield from timing.observe(results.events, runs)
    yield from reaction.observe(results.events, results.jobs, runs)


def write(evaluation: Evaluation, answer: Sequence[str] = ()) -> None:
    """Write ``metrics.parquet`` and ``summary.json`` into the run folder.

    Args:
        evaluation: what to write.
        answer: the sentences that answer the run's question.
    """
    folder = evaluation.results.folder
    to_frame(evaluation.table, evaluation.results.record).write_parquet(folder / METRICS_FILE)
    text = json.dumps(summary(evaluation, answer), indent=2, ensure_ascii=False, allow_nan=False)
    (folder / SUMMARY_FILE).write_text(text + "\n", encoding="utf-8")


def summary(evaluation: Evaluation, answer: Sequence[str] = ()) -> dict[str, object]:
    """Return the run in short, as JSON takes it: an infinite number is the text "inf"."""
    record = evaluation.results.record
    rows: dict[str, list[Row]] = {}
    for row in evaluation.table.rows:
        if not of_one_node(row):
            rows.setdefault(row.cell, []).append(row)
    return {
        "format": 1,
        "name": record.name,
        "question": record.question,
        "status": record.status,
        "answer": list(answer),
        "cells": [_cell(cell, rows.get(cell.id, [])) for cell in record.cells],
        "links": link_verdicts(evaluation.results),
        "missing": list(evaluation.results.problems),
        "warnings": list(record.warnings),
    }


def of_one_node(row: Row) -> bool:
    """Return whether a row is of a single node; ``metrics.parquet`` alone has those."""
    nodes = METRICS[row.metric].group in NODE_GROUPS and not row.metric.startswith("service_")
    return nodes and row.subject != utilisation.ALL_NODES


def link_verdicts(results: Results) -> dict[str, int]:
    """Return how many links passed, failed and were not measured."""
    verdicts = results.links["verdict"].to_list()
    return {verdict: verdicts.count(verdict) for verdict in ("pass", "fail", "unmeasured")}


def _cell(cell: Cell, rows: Sequence[Row]) -> dict[str, object]:
    return {
        "id": cell.id,
        "factors": dict(cell.factors),
        "runs_planned": len(cell.runs),
        "runs_measured": sum(run.status == "done" for run in cell.runs),
        "metrics": [_row(row) for row in rows if row.mean is not None],
    }


def _row(row: Row) -> dict[str, object]:
    return {
        "metric": row.metric,
        "subject": row.subject,
        "phase": row.phase,
        "mean": _finite(row.mean),
        "low": row.interval.low if row.interval else None,
        "high": row.interval.high if row.interval else None,
        "n_repeats": len(row.stated),
        "note": row.note,
    }


def _finite(value: float | None) -> float | str | None:
    return "inf" if value is not None and math.isinf(value) else value
