# SPDX-License-Identifier: GPL-3.0-or-later
"""The report's charts over the factors: latency, throughput, overheads, use and the queue."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from pkgctl.measure import phases
from pkgctl.measure.catalogue import METRICS
from pkgctl.measure.provisioning import BATCH
from pkgctl.measure.record import Cell, Scalar
from pkgctl.measure.table import Row, Table
from pkgctl.measure.utilisation import ALL_NODES
from pkgctl.report.figures import (
    SERIES,
    Axis,
    Figure,
    Panel,
    Point,
    Trace,
    axis,
    colour,
    dash,
    extent,
    level_axis,
    level_text,
    means,
    table_of,
)
from pkgctl.report.numbers import show_mean
from pkgctl.report.objectives import show_objective
from pkgctl.report.overheads import scaling_row
from pkgctl.report.plan import Plan, show_levels

Series = Mapping[str, Sequence[Point]]


@dataclass(frozen=True, slots=True)
class View:
    """What one panel shows: a metric in a phase ("" for the scale step's own).

    ``target`` is a value to draw as a line, such as an objective's share.
    """

    metric: str
    subject: str
    phase: str
    title: str
    target: float | None = None


@dataclass(frozen=True)
class Grid:
    """Which factor runs along the horizontal axis, and which cells make a series.

    ``ordered`` says whether a line from one level to the next means anything; ``partial``
    whether some cells are left out.
    """

    factor: str
    levels: tuple[str, ...]
    series: Mapping[str, Sequence[tuple[str, Cell]]]
    partial: bool
    ordered: bool


def grid_of(plan: Plan) -> Grid:
    """Return how cells are laid out in charts: along the scale, a series for the rest."""
    axis_factor = _axis_factor(plan)
    if axis_factor is None:
        cells = [(show_levels(cell.factors), cell) for cell in plan.record.cells]
        return Grid("", tuple(name for name, _ in cells), {"": cells}, False, False)
    levels = plan.levels[axis_factor]
    others = [*plan.others(axis_factor)]
    partial = len(others) > SERIES
    if partial:
        others = [*_baseline_others(plan, axis_factor)]
    series = {
        show_levels(at) if at else "": [
            (level_text(level), cell)
            for level in levels
            if (cell := plan.cell(**at, **{axis_factor: level}))
        ]
        for at in others
    }
    return Grid(
        axis_factor, tuple(map(level_text, levels)), series, partial, axis_factor == plan.scale
    )


def _axis_factor(plan: Plan) -> str | None:
    many = [name for name in plan.steady if len(plan.levels[name]) > 1]
    return plan.scale or next(iter(many), None) or plan.disturbing or next(iter(plan.levels), None)


def _baseline_others(plan: Plan, factor: str) -> Iterator[dict[str, Scalar]]:
    """Yield the disturbance's levels, or nothing but the baseline of all other factors."""
    if plan.disturbing is None or plan.disturbing == factor:
        yield {name: plan.baseline(name) for name in plan.levels if name != factor}
        return
    for level in plan.levels[plan.disturbing][:SERIES]:
        fixed = {name: plan.baseline(name) for name in plan.levels if name != factor}
        yield fixed | {plan.disturbing: level}


def rows_of(grid: Grid, table: Table, view: View) -> dict[str, list[Point]]:
    """Return a panel's points by series, without the cells that do not have the metric."""
    found = {}
    for name, cells in grid.series.items():
        rows = [(x, _row(table, view, cell)) for x, cell in cells]
        points = [Point(x, row) for x, row in rows if row is not None and row.mean is not None]
        if points:
            found[name] = points
    return found


def _row(table: Table, view: View, cell: Cell) -> Row | None:
    if view.phase:
        return table.find(view.metric, view.subject, view.phase, cell.id)
    return scaling_row(table, view.metric, view.subject, cell.id)


def factor_figure(
    name: str, title: str, caption: str, grid: Grid, table: Table, views: Sequence[View]
) -> Figure | None:
    """Return a figure with a panel for each view; panels of one metric share their axis."""
    found = [(view, rows_of(grid, table, view)) for view in views]
    found = [(view, series) for view, series in found if series]
    if not found:
        return None
    names = [each for each in grid.series if any(each in series for _, series in found)]
    panels = [
        _panel(f"{name}-{at}", view, series, names, grid, _shared_axis(view, found))
        for at, (view, series) in enumerate(found)
    ]
    tables = [table_of(series, grid.factor or "cell", view.title) for view, series in found]
    more = " Only the disturbance varies beside the axis; other factors are at their baseline."
    return Figure(
        id=name,
        title=title,
        caption=caption + (more if grid.partial else ""),
        panels=panels,
        legend=[(each, colour(at), dash(at)) for at, each in enumerate(names) if len(names) > 1],
        headers=tables[0][0],
        rows=[row for _, rows in tables for row in rows],
    )


def _shared_axis(view: View, found: Sequence[tuple[View, Series]]) -> Axis:
    unit = METRICS[view.metric].unit
    alike = [series for each, series in found if each.metric == view.metric]
    rows = [point.row for series in alike for points in series.values() for point in points]
    return axis(extent(rows), unit, from_zero=unit != "s")


def _panel(
    name: str, view: View, series: Series, names: Sequence[str], grid: Grid, chosen: Axis
) -> Panel:
    traces: list[Trace] = []
    for each, points in series.items():
        at = names.index(each)
        mode = "lines+markers" if grid.ordered else "markers"
        traces += means(each or view.title, at, points, grid.levels, chosen, mode)
    layout: dict[str, object] = {
        "xaxis": level_axis(grid.levels, grid.factor, len(names)),
        "yaxis": chosen.layout(),
    }
    if view.target is not None:
        layout["shapes"] = [_target(view.target)]
    texts = [
        f"{each or view.title}: "
        + ", ".join(f"{show_mean(point.row)} at {point.x}" for point in points)
        for each, points in series.items()
    ]
    return Panel(
        name, view.title, f"{view.title} by {grid.factor}. {'; '.join(texts)}", traces, layout
    )


def _target(value: float) -> dict[str, object]:
    return {
        "type": "line",
        "xref": "paper",
        "x0": 0,
        "x1": 1,
        "y0": value,
        "y1": value,
        "line": {"color": "@text", "width": 1, "dash": "dot"},
    }


# The figures


INTERVALS = "Means over repeats with 95 % intervals."


def latency_figure(plan: Plan, grid: Grid, table: Table, service: str) -> Figure | None:
    """Return the latency of a service by factor: p95 by phase, or three quantiles."""
    if plan.windowed:
        views = [
            View("latency_p95", service, phase, f"p95 {phase} the disturbance")
            for phase in (phases.BEFORE, phases.DURING, phases.AFTER)
        ]
    else:
        views = [
            View(f"latency_p{share}", service, phases.ALL, f"p{share}") for share in (50, 95, 99)
        ]
    caption = f"{INTERVALS} A failed request counts as infinitely late."
    return factor_figure(
        f"latency-{service}", f"Latency of {service} by factor", caption, grid, table, views
    )


def service_figure(plan: Plan, grid: Grid, table: Table, service: str) -> Figure | None:
    """Return a service's throughput, attainment and misses (if there are any) by factor."""
    phase = plan.telling
    at = f", {phase} the disturbance" if phase != phases.ALL else ""
    objective = plan.record.objectives.get(service)
    share = objective.at if objective else None
    views = [
        View("throughput", service, phase, f"answered per second{at}"),
        View("slo_attainment", service, phase, f"objective attained{at}", share),
    ]
    if _any(table, "miss_share", service):
        views.append(View("miss_share", service, phase, f"missed requests{at}"))
    title = f"Throughput{' and objective' if objective else ''} of {service}"
    dotted = f" Dotted: the objective, {show_objective(objective)}." if objective else ""
    return factor_figure(f"service-{service}", title, INTERVALS + dotted, grid, table, views)


def _any(table: Table, metric: str, subject: str) -> bool:
    """Return whether a metric is anything but nought anywhere."""
    rows = (row for row in table.rows if row.metric == metric and row.subject == subject)
    return any(row.mean for row in rows)


def scaling_figure(grid: Grid, table: Table, service: str) -> Figure | None:
    """Return how long a service's scale steps took by factor."""
    views = [
        View("scaling_time", service, "", "until all replicas are ready"),
        View("scaling_time_per_replica", service, "", "per replica"),
    ]
    title = f"Scaling time of {service}"
    return factor_figure(f"scaling-{service}", title, INTERVALS, grid, table, views)


def utilisation_figure(grid: Grid, table: Table) -> Figure | None:
    """Return the three ratios of allocated, used and capacity by factor."""
    views = [
        View(f"cpu_{first}_of_{second}", ALL_NODES, phases.ALL, f"{first} ÷ {second}")
        for first, second in (
            ("allocated", "capacity"),
            ("used", "capacity"),
            ("used", "allocated"),
        )
    ]
    caption = f"{INTERVALS} All nodes together, weighted by time, over the whole run."
    return factor_figure("utilisation", "CPU of all nodes", caption, grid, table, views)


def queue_figure(grid: Grid, table: Table) -> Figure | None:
    """Return the batch queue's waits and completion times by factor."""
    views = [
        View("wait_p95", BATCH, phases.ALL, "queue wait p95"),
        View("completion_mean", BATCH, phases.ALL, "mean completion time"),
        View("makespan", BATCH, phases.ALL, "makespan"),
    ]
    return factor_figure("queue", "Batch jobs", INTERVALS, grid, table, views)
