# SPDX-License-Identifier: GPL-3.0-or-later
"""Latency over the time of a run: each request, and quantiles by bin, by disturbance."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

import polars as pl

from pkgctl.measure.evaluation import Evaluation
from pkgctl.measure.latency import with_latency
from pkgctl.measure.record import Cell, Scalar, Window
from pkgctl.measure.statistics import nearest_rank
from pkgctl.report import notices
from pkgctl.report.figures import (
    Axis,
    Figure,
    Panel,
    Trace,
    axis,
    colour,
    escape,
    number,
)
from pkgctl.report.numbers import show
from pkgctl.report.plan import Plan, show_levels, show_scalar

# A panel's title, and the name, colour and cell of each of its lines.
Group = tuple[str, list[tuple[str, int, Cell]]]
MOST_PANELS = 12
MOST_POINTS = 500
MOST_BINS = 60
WIDTHS = (0.05, 0.1, 0.2, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 15.0, 30.0, 60.0, 300.0, 900.0, 3600.0)
# A p95 needs 20 to be more than the maximum of its bin; arrivals by chance need some to spare.
ENOUGH = 35


@dataclass(frozen=True, slots=True)
class Bin:
    """A stretch of time with its requests' quantiles (None with too few of them)."""

    middle: float
    count: int
    p50: float | None
    p95: float | None


@dataclass(frozen=True)
class Line:
    """One cell's requests over time: a sample of them, and their bins."""

    name: str
    index: int
    times: Sequence[float]
    latencies: Sequence[float]
    bins: Sequence[Bin]


def bin_width(duration: float, count: int) -> float:
    """Return the narrowest usual width that gives at most 60 bins of enough requests on average."""
    widest = duration / 4
    usable = (
        width
        for width in WIDTHS
        if width < widest and duration / width <= min(MOST_BINS, count / ENOUGH)
    )
    return next(usable, widest)


def bins_of(requests: pl.DataFrame, width: float) -> list[Bin]:
    """Return the quantiles of the requests (columns intended, latency) by bin of time."""
    grouped = (
        requests.group_by((pl.col("intended") // width).cast(pl.Int64).alias("bin"))
        .agg(pl.col("latency").sort())
        .sort("bin")
    )
    return [
        Bin((at + 0.5) * width, len(each), nearest_rank(each, 0.5), nearest_rank(each, 0.95))
        for at, each in grouped.iter_rows()
    ]


def latency_over_time(evaluation: Evaluation, plan: Plan, service: str) -> Figure | None:
    """Return the figure of a service, one panel for each cell without its disturbance."""
    requests = with_latency(evaluation.results.requests).filter(pl.col("service") == service)
    if not requests.height:
        return None
    duration = _duration(evaluation, requests)
    panels = [*_panels(plan)]
    shown = panels if len(panels) <= MOST_PANELS else [*_along_scale(plan)][:MOST_PANELS]
    cells = max(1, requests["cell"].n_unique())
    width = bin_width(duration, requests.height // cells)
    lines = [[_line(requests, *each, width) for each in cells] for _, cells in shown]
    chosen = axis([value for group in lines for line in group for value in _extent(line)], "s")
    windows = _windows(evaluation)
    marks = [_marks(evaluation, cells, duration) for _, cells in shown]
    drawn = [
        _panel(f"time-{service}-{at}", title, lines[at], chosen, windows, marks[at], duration)
        for at, (title, _) in enumerate(shown)
    ]
    return Figure(
        id=f"time-{service}",
        title=f"Latency of {service} over time",
        caption=_caption(width, len(shown), len(panels), windows) + notices.sentence(marks),
        panels=drawn,
        legend=_legend(lines),
        headers=("cell", "time", "requests", "p50", "p95"),
        rows=[*_rows(shown, lines)],
    )


def _marks(
    evaluation: Evaluation, cells: Sequence[tuple[str, int, Cell]], duration: float
) -> list[notices.Mark]:
    return notices.marks(evaluation.results.events, [cell.id for *_, cell in cells], duration)


def _caption(width: float, shown: int, panels: int, windows: Sequence[Window]) -> str:
    text = (
        f"Lines: p95 (solid) and p50 (dotted) in bins of {show(width, 's')}, all repeats "
        "together, by intended time. Dots: single requests. A mark on the upper edge has no "
        "bound: too many requests of its bin failed."
    )
    text += " Shaded: the disturbance's window." if windows else ""
    more = f" {shown} of {panels} combinations are drawn; other factors are at their baseline."
    return text + (more if panels > shown else "")


def _duration(evaluation: Evaluation, requests: pl.DataFrame) -> float:
    known = [run.duration for run in evaluation.results.measured if run.duration]
    last = requests.select(pl.col("intended").max()).item() or 0.0
    return float(max([*known, last, 0.1]))


def _panels(plan: Plan) -> Iterator[Group]:
    """Yield each combination of the steady factors."""
    if not plan.levels:
        yield "", [("all requests", 0, cell) for cell in plan.record.cells[:1]]
        return
    for at in plan.others(*([plan.disturbing] if plan.disturbing else [])):
        yield _group(plan, at)


def _along_scale(plan: Plan) -> Iterator[Group]:
    """Yield the levels of the scale, with every other steady factor at its baseline."""
    fixed = {name: plan.baseline(name) for name in plan.steady}
    for level in plan.levels[plan.scale] if plan.scale else (None,):
        yield _group(plan, fixed | ({plan.scale: level} if plan.scale else {}))


def _group(plan: Plan, at: Mapping[str, Scalar]) -> Group:
    """Return the cells at some levels, one for each disturbance."""
    disturbing = plan.disturbing
    levels = plan.levels[disturbing] if disturbing else (None,)
    cells = [
        (show_scalar(level) if disturbing else "all requests", index, cell)
        for index, level in enumerate(levels)
        if (cell := plan.cell(**at, **({disturbing: level} if disturbing else {})))
    ]
    return show_levels(at) if at else "", cells


def _line(requests: pl.DataFrame, name: str, index: int, cell: Cell, width: float) -> Line:
    mine = requests.filter(pl.col("cell") == cell.id).drop_nulls("intended").sort("intended")
    step = max(1, math.ceil(mine.height / MOST_POINTS))
    sample = mine.gather_every(step)
    return Line(
        name,
        index,
        sample["intended"].to_list(),
        sample["latency"].to_list(),
        bins_of(mine, width),
    )


def _extent(line: Line) -> list[float]:
    quantiles = [value for each in line.bins for value in (each.p50, each.p95) if value]
    return [*quantiles, *line.latencies]


def _windows(evaluation: Evaluation) -> list[Window]:
    """Return the windows that were applied anywhere, each once."""
    found = {
        (window.name, window.start): window
        for run in evaluation.results.record.runs
        for window in run.windows
        if window.active
    }
    return list(found.values())


def _panel(
    name: str,
    title: str,
    lines: Sequence[Line],
    chosen: Axis,
    windows: Sequence[Window],
    marks: Sequence[notices.Mark],
    duration: float,
) -> Panel:
    traces = [trace for line in lines for trace in _traces(line, chosen)]
    layout: dict[str, object] = {
        "yaxis": chosen.layout(),
        "xaxis": {
            "range": [0, number(duration)],
            "ticksuffix": " s",
            "title": {"text": "time after the start of load"},
        },
        "shapes": [*(_shade(window, duration) for window in windows), *notices.lines(marks)],
        "annotations": [*(_name(window, duration) for window in windows), *notices.names(marks)],
    }
    return Panel(name, title, _describe(title, lines), traces, layout)


def _traces(line: Line, chosen: Axis) -> Iterator[Trace]:
    yield {
        "type": "scatter",
        "mode": "markers",
        "x": [number(time) for time in line.times],
        "y": [number(chosen.place(value)) for value in line.latencies],
        "marker": {"color": colour(line.index), "size": 3, "opacity": 0.35},
        "hoverinfo": "skip",
    }
    for share, pattern, wide in (("p50", "dot", 1.5), ("p95", "solid", 2.2)):
        found = [(each, getattr(each, share)) for each in line.bins]
        yield {
            "type": "scatter",
            "mode": "lines+markers",
            "name": escape(f"{line.name}, {share}"),
            "x": [number(each.middle) for each, _ in found],
            "y": [None if value is None else number(chosen.place(value)) for _, value in found],
            "line": {"color": colour(line.index), "width": wide, "dash": pattern},
            "marker": {"color": colour(line.index), "size": 2 * wide},
            "hovertext": [
                escape(f"{line.name}, {share}: {show(value, 's')} of {each.count} requests")
                for each, value in found
            ],
            "hoverinfo": "text",
        }


def _shade(window: Window, duration: float) -> dict[str, object]:
    return {
        "type": "rect",
        "xref": "x",
        "yref": "paper",
        "x0": window.start,
        "x1": duration if window.end is None else window.end,
        "y0": 0,
        "y1": 1,
        "fillcolor": "@shade",
        "line": {"width": 0},
        "layer": "below",
    }


def _name(window: Window, duration: float) -> dict[str, object]:
    end = duration if window.end is None else window.end
    return {
        "x": (window.start + end) / 2,
        "y": 1,
        "xref": "x",
        "yref": "paper",
        "text": escape(window.name),
        "showarrow": False,
        "yanchor": "bottom",
        "font": {"size": 11, "color": "@muted"},
    }


def _legend(lines: Sequence[Sequence[Line]]) -> list[tuple[str, str, str]]:
    names = {line.name: line.index for group in lines for line in group}
    if len(names) < 2:
        return []
    return [(name, colour(index), "solid") for name, index in names.items()]


def _describe(title: str, lines: Sequence[Line]) -> str:
    parts = []
    for line in lines:
        known = [each.p95 for each in line.bins if each.p95 is not None]
        finite = [value for value in known if math.isfinite(value)]
        if finite:
            span = f"between {show(min(finite), 's')} and {show(max(finite), 's')}"
            parts.append(f"{line.name}: p95 by bin {span}, on average {show(fmean(finite), 's')}")
    return f"Latency over time{', ' + title if title else ''}. " + "; ".join(parts)


def _rows(panels: Sequence[Group], lines: Sequence[Sequence[Line]]) -> Iterator[tuple[str, ...]]:
    for (title, _), group in zip(panels, lines, strict=True):
        for line in group:
            where = ", ".join(part for part in (title, line.name) if part)
            for each in line.bins:
                numbers = (show(each.p50, "s"), show(each.p95, "s"))
                yield (where, show(each.middle, "s"), str(each.count), *numbers)
