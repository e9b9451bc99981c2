# SPDX-License-Identifier: GPL-3.0-or-later
"""The report of a run as one HTML file that needs nothing but itself."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup

from pkgctl.measure.catalogue import METRICS
from pkgctl.measure.evaluation import Evaluation, evaluate, write
from pkgctl.measure.record import Record
from pkgctl.report import charts, matrices
from pkgctl.report.answer import answer
from pkgctl.report.cells import cell_listing, measured_metrics, metric_groups
from pkgctl.report.figures import Figure
from pkgctl.report.over_time import latency_over_time
from pkgctl.report.plan import Plan, plan_of
from pkgctl.report.steps import provisioning_figure
from pkgctl.report.tiles import tiles

REPORT_FILE = "report.html"
INPUTS = ("experiment.yaml", "topology.yaml")
MOST_INPUT = 200_000


def build(folder: Path) -> Path:
    """Write the report, the metrics and the summary of a run, and return the report's path.

    Raises:
        ResultsError: if the folder holds no readable ``run.json``.
    """
    evaluation = evaluate(folder)
    sentences = answer(evaluation)
    write(evaluation, [sentence.text for sentence in sentences])
    path = folder / REPORT_FILE
    path.write_text(render(evaluation), encoding="utf-8")
    return path


def render(evaluation: Evaluation) -> str:
    """Return the report of an evaluated run as HTML."""
    record, plan = evaluation.results.record, plan_of(evaluation.results.record)
    sections = [section for section in _sections(evaluation, plan) if section.figures]
    return _environment().get_template("report.html.jinja").render(
        record=record,
        when=_when(record),
        counts=counts(evaluation),
        sentences=answer(evaluation),
        tiles=tiles(evaluation, plan),
        sections=sections,
        nodes=matrices.node_matrix(evaluation),
        link_matrix=matrices.link_matrix(evaluation),
        link_listing=matrices.link_listing(evaluation),
        cells=cell_listing(plan, evaluation.table),
        metrics=[*metric_groups(evaluation)],
        definitions=[METRICS[name] for name in measured_metrics(evaluation.table)],
        problems=evaluation.results.problems,
        provenance=provenance(record),
        inputs=[*inputs(evaluation.results.folder)],
        figures=_figures(sections),
        drawing=_drawing() if sections else "",
    )  # fmt: skip


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("pkgctl.report"),
        autoescape=select_autoescape(["html", "jinja"], default_for_string=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    # The style and the script are ours, and are not HTML.
    environment.globals["raw"] = lambda name: Markup(_source(environment, name))
    return environment


def _source(environment: Environment, name: str) -> str:
    loader = environment.loader
    return loader.get_source(environment, name)[0] if loader else ""


def _figures(sections: Sequence[Section]) -> Markup:
    """Return every panel's traces and layout as JSON that may stand inside a script element."""
    panels = [
        {"id": panel.id, "data": list(panel.traces), "layout": panel.layout}
        for section in sections
        for figure in section.figures
        for panel in figure.panels
    ]
    text = json.dumps(panels, ensure_ascii=True, separators=(",", ":"), allow_nan=False)
    return Markup(text.replace("<", "\\u003c"))


def _drawing() -> str:
    """Return the drawing library, packed: a third of its size, and no address to be seen."""
    from plotly.offline import get_plotlyjs

    packed = gzip.compress(get_plotlyjs().encode(), compresslevel=9, mtime=0)
    return base64.b64encode(packed).decode("ascii")


# What the page says beside the numbers


@dataclass(frozen=True)
class Section:
    """A part of the report with charts."""

    id: str
    title: str
    figures: Sequence[Figure]


def _sections(evaluation: Evaluation, plan: Plan) -> Iterator[Section]:
    table, grid = evaluation.table, charts.grid_of(plan)
    services = table.subjects("latency_p95")
    latency = [
        figure
        for service in services
        for figure in (
            latency_over_time(evaluation, plan, service),
            charts.latency_figure(plan, grid, table, service),
            charts.service_figure(plan, grid, table, service),
        )
    ]
    started = [
        figure
        for service in table.subjects("scaling_time")
        for figure in (
            provisioning_figure(plan, grid, table, service),
            charts.scaling_figure(grid, table, service),
        )
    ]
    yield Section("latency", "Latency and service", _present(latency))
    yield Section("overheads", "Provisioning and scaling", _present(started))
    yield Section("queue", "Batch jobs", _present([charts.queue_figure(grid, table)]))
    yield Section("use", "Utilisation", _present([charts.utilisation_figure(grid, table)]))


def _present(figures: Sequence[Figure | None]) -> list[Figure]:
    return [figure for figure in figures if figure is not None]


def _when(record: Record) -> str:
    started, finished = _moment(record.started), _moment(record.finished)
    if started is None:
        return ""
    text = f"{started:%-d %B %Y, %H:%M}{' UTC' if not started.utcoffset() else ''}"
    if finished is None:
        return text
    minutes, seconds = divmod(round((finished - started).total_seconds()), 60)
    return f"{text}, took {minutes} min {seconds} s" if minutes else f"{text}, took {seconds} s"


def _moment(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return None


def counts(evaluation: Evaluation) -> str:
    """Return how many cells and runs there are, and how many of them were measured."""
    record = evaluation.results.record
    measured, planned = len(evaluation.results.measured), len(record.runs)
    cells = len(record.cells)
    text = f"{cells} {'cell' if cells == 1 else 'cells'}, "
    if measured == planned:
        return text + f"{planned} {'run' if planned == 1 else 'runs'}"
    return text + f"{measured} of {planned} runs measured"


def provenance(record: Record) -> list[tuple[str, str]]:
    """Return where the numbers come from: command, seed, machine, cluster and versions."""
    found = [
        ("command", record.command),
        ("seed", "" if record.seed is None else str(record.seed)),
        ("topology", f"{record.topology}, {len(record.nodes)} nodes"),
        ("started", record.started),
        ("finished", record.finished),
        *((f"machine: {name.replace('_', ' ')}", _fact(name, fact))
          for name, fact in record.machine.items()),
        *((f"cluster: {name}", str(fact)) for name, fact in record.cluster.items()),
        *((f"version: {name}", str(version)) for name, version in record.versions.items()),
    ]  # fmt: skip
    return [(name, value) for name, value in found if value]


def _fact(name: str, fact: object) -> str:
    if name == "memory" and isinstance(fact, int | float):
        return f"{fact / (1 << 30):.1f} GiB"
    return json.dumps(fact, ensure_ascii=False) if isinstance(fact, dict | list) else str(fact)


def inputs(folder: Path) -> Iterator[tuple[str, str]]:
    """Yield the input files that the run folder keeps, each with its text."""
    for name in INPUTS:
        path = folder / name
        try:
            text = path.read_text(encoding="utf-8", errors="replace")
        except OSError:
            continue
        cut = text[:MOST_INPUT]
        yield name, cut if cut == text else f"{cut}\n… ({len(text)} characters in the file)"
