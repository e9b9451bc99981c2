# SPDX-License-Identifier: GPL-3.0-or-later
"""The steps of provisioning as stacked bars."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pkgctl.measure import phases
from pkgctl.measure.catalogue import STEPS
from pkgctl.measure.record import Cell
from pkgctl.measure.table import Row, Table
from pkgctl.report.charts import Grid
from pkgctl.report.figures import Figure, Panel, Trace, axis, escape, number
from pkgctl.report.numbers import show, show_interval, show_mean
from pkgctl.report.plan import Plan, show_level, show_levels

# Each step has its own, whether or not all of them are there.
_COLOURS = {"decide": 0, "place": 4, "transfer": 1, "start": 2, "ready": 3}


def provisioning_figure(plan: Plan, grid: Grid, table: Table, service: str) -> Figure | None:
    """Return the steps of provisioning as stacked bars, a bar for each level and state."""
    cells = next(iter(_undisturbed(plan, grid)), [])
    bars = [
        (f"{_bar(plan, grid, x)}{state}", state, cell)
        for x, cell in cells
        for state in ("cold", "warm")
        if _mean(table, f"provisioning_{state}", service, cell) is not None
    ]
    if not bars:
        return None
    totals = [
        _mean(table, f"provisioning_{state}", service, cell) or 0.0 for _, state, cell in bars
    ]
    steps = [step for step in STEPS if _is_known(table, step, service, bars)]
    labels = [STEPS[step][0] for step in steps]
    colours = [f"@t{_COLOURS[step]}" for step in steps]
    panel = _bars(service, bars, table, totals, steps)
    where = {name: plan.baseline(name) for name in plan.levels if name != grid.factor}
    at = f" ({show_levels(where)})" if where else ""
    return Figure(
        id=f"provisioning-{service}",
        title=f"Steps of provisioning {service}",
        caption=f"Mean seconds of each step over replicas and repeats{at}. Cold: the artifact "
        "had to be fetched; warm: nothing had to be.",
        panels=[panel],
        legend=[(*both, "bar") for both in zip(labels, colours, strict=True)],
        headers=("start", *labels, "total", "95 % CI"),
        rows=[*_provisioning_rows(service, bars, table, steps)],
    )


def _undisturbed(plan: Plan, grid: Grid) -> Iterator[Sequence[tuple[str, Cell]]]:
    """Yield the series at the baseline of all other factors, then the others."""
    where = {name: plan.baseline(name) for name in plan.levels if name != grid.factor}
    wanted = show_levels(where) if where else ""
    yield from (cells for name, cells in grid.series.items() if name == wanted)
    yield from grid.series.values()


def _bar(plan: Plan, grid: Grid, level: str) -> str:
    if not grid.factor:
        return f"{level}, " if len(plan.record.cells) > 1 else ""
    return f"{show_level(grid.factor, level)}, "


def _mean(table: Table, metric: str, subject: str, cell: Cell) -> float | None:
    row = table.find(metric, subject, phases.ALL, cell.id)
    return row.mean if row else None


def _is_known(table: Table, step: str, service: str, bars: Sequence[tuple[str, str, Cell]]) -> bool:
    means = (_mean(table, f"provisioning_{state}_{step}", service, cell) for _, state, cell in bars)
    return any(mean is not None for mean in means)


def _bars(
    service: str,
    bars: Sequence[tuple[str, str, Cell]],
    table: Table,
    totals: Sequence[float],
    steps: Sequence[str],
) -> Panel:
    names = [escape(name) for name, _, _ in bars]
    traces = [
        _step(STEPS[step][0], _COLOURS[step], names, [
            table.find(f"provisioning_{state}_{step}", service, phases.ALL, cell.id)
            for _, state, cell in bars
        ])
        for step in steps
    ]  # fmt: skip
    # Room on the right for the totals.
    chosen = axis([1.1 * total for total in totals], "s", from_zero=True)
    layout: dict[str, object] = {
        "barmode": "stack",
        "height": 90 + 34 * len(bars),
        "xaxis": chosen.layout(),
        "yaxis": {"autorange": "reversed", "automargin": True, "showgrid": False},
        "bargap": 0.35,
        "annotations": [_total(*each) for each in zip(names, totals, strict=True)],
    }
    text = "; ".join(f"{name}: {show(each, 's')}" for name, each in zip(names, totals, strict=True))
    return Panel(f"steps-{service}", "", f"Seconds of provisioning. {text}", traces, layout)


def _step(label: str, index: int, names: Sequence[str], rows: Sequence[Row | None]) -> Trace:
    return {
        "type": "bar",
        "orientation": "h",
        "name": label,
        "y": list(names),
        "x": [number(row.mean or 0.0) if row else 0.0 for row in rows],
        "marker": {"color": f"@t{index}"},
        "hovertext": [f"{label}: {show_mean(row)}" for row in rows],
        "hoverinfo": "text",
    }


def _total(name: str, total: float) -> dict[str, object]:
    return {
        "x": number(total),
        "y": name,
        "text": show(total, "s"),
        "xanchor": "left",
        "showarrow": False,
        "font": {"color": "@text"},
    }


def _provisioning_rows(
    service: str, bars: Sequence[tuple[str, str, Cell]], table: Table, steps: Sequence[str]
) -> Iterator[tuple[str, ...]]:
    for name, state, cell in bars:
        metrics = [*(f"provisioning_{state}_{step}" for step in steps), f"provisioning_{state}"]
        rows = [table.find(metric, service, phases.ALL, cell.id) for metric in metrics]
        whole = rows[-1]
        interval = whole.interval if whole else None
        text = show_interval(interval, "s", whole.mean) if whole and interval else "none"
        yield (name, *(show_mean(row) for row in rows), text)
