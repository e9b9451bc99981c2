# SPDX-License-Identifier: GPL-3.0-or-later
"""Charts as data: traces and axes for the browser to draw, and the same numbers as a table.

Colours are names of the page's own (``@s1``, ``@grid``); the page puts in those of the theme
in which it is read.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pkgctl.measure.record import Scalar
from pkgctl.measure.table import Row
from pkgctl.report.numbers import scale, show, show_interval, show_mean, unit_of

Trace = dict[str, object]
Layout = dict[str, object]
SERIES = 6
MARKERS = ("circle", "diamond", "square", "triangle-up", "x", "cross")
DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")
# Where the largest value is this many times the smallest, a linear axis hides the small ones.
LOG_FROM = 25.0


@dataclass(frozen=True)
class Panel:
    """One drawing: what the browser needs, and the words for who cannot see it."""

    id: str
    title: str
    description: str
    traces: Sequence[Trace]
    layout: Layout


@dataclass(frozen=True)
class Figure:
    """Panels that belong together, with their caption, legend and numbers."""

    id: str
    title: str
    caption: str
    panels: Sequence[Panel]
    legend: Sequence[tuple[str, str, str]] = ()
    headers: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Point:
    """One mean with its interval at a level of the horizontal factor."""

    x: str
    row: Row


def colour(index: int) -> str:
    """Return the name of a series' colour; after the last one they begin again."""
    return f"@s{index % SERIES + 1}"


def marker(index: int) -> str:
    """Return a series' marker, so that colour is not all that tells series apart."""
    return MARKERS[index % len(MARKERS)]


def dash(index: int) -> str:
    """Return a series' line pattern."""
    return DASHES[index % len(DASHES)]


def escape(text: str) -> str:
    """Return a text that the drawing library takes as text, not as markup."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


# Axes


@dataclass(frozen=True, slots=True)
class Axis:
    """A value axis: its limits, ticks and unit, so that all panels of a figure share one."""

    low: float
    high: float
    ticks: tuple[float, ...]
    unit: str
    logarithmic: bool = False

    def layout(self, title: str = "") -> Layout:
        """Return the axis as the drawing library takes it."""
        ends = [self.low, self.high]
        chosen = scale(max(self.ticks, default=1.0), self.unit)
        each = [show(tick, self.unit) for tick in self.ticks]
        texts = each if self.logarithmic else [chosen.text(tick) for tick in self.ticks]
        return {
            "type": "log" if self.logarithmic else "linear",
            "range": [math.log10(end) for end in ends] if self.logarithmic else ends,
            "tickvals": list(self.ticks),
            "ticktext": texts,
            "title": {"text": escape(title)} if title else {},
        }

    def place(self, value: float) -> float:
        """Return where a value is drawn: one without bound at the upper edge."""
        if math.isinf(value):
            return self.high / 1.04 if not self.logarithmic else self.high / 1.08
        return max(value, self.low) if self.logarithmic else value


def axis(values: Sequence[float], unit: str, *, from_zero: bool = False) -> Axis:
    """Return an axis that holds every finite value; logarithmic if they differ very much."""
    finite = [value for value in values if math.isfinite(value) and value >= 0]
    positive = [value for value in finite if value > 0]
    if not positive:
        return Axis(0.0, 1.0, (0.0, 1.0), unit)
    if not from_zero and max(positive) / min(positive) >= LOG_FROM:
        return _logarithmic(min(positive), max(positive), unit)
    return _linear(max(positive) * 1.08, unit)


def _linear(high: float, unit: str) -> Axis:
    step = _step(high / 5, scale(high, unit).size)
    count = math.floor(high / step + 1e-9)
    return Axis(0.0, high, tuple(step * index for index in range(count + 1)), unit)


def _step(least: float, size: float) -> float:
    """Return the next of 1, 2, 5 × 10ⁿ in the unit that will be shown."""
    shown = least / size
    power = 10.0 ** math.floor(math.log10(shown))
    return (
        float(next(each for each in (1, 2, 5, 10) if each * power >= shown * 0.999)) * power * size
    )


def _logarithmic(low: float, high: float, unit: str) -> Axis:
    bottom, top = low / 1.3, high * 1.4
    decades = range(math.floor(math.log10(bottom)), math.ceil(math.log10(top)) + 1)
    steps = (1, 2, 5) if len(decades) <= 4 else (1,)
    ticks = [step * 10.0**decade for decade in decades for step in steps]
    return Axis(bottom, top, tuple(t for t in ticks if bottom <= t <= top), unit, True)


def extent(rows: Sequence[Row]) -> list[float]:
    """Return every value that a chart of these rows must have room for."""
    means = [row.mean for row in rows if row.mean is not None]
    ends = [end for row in rows if row.interval for end in (row.interval.low, row.interval.high)]
    return [*means, *(end for end in ends if end > 0)]


# Means with intervals over the levels of a factor


def means(
    name: str,
    index: int,
    points: Sequence[Point],
    levels: Sequence[str],
    chosen: Axis,
    mode: str = "lines+markers",
) -> list[Trace]:
    """Return a series of means with their intervals, beside the other series at each level."""
    found = [(levels.index(point.x), point.row) for point in points if point.row.mean is not None]
    bounded = [(at, row) for at, row in found if math.isfinite(row.mean or 0.0)]
    endless = [(at, row) for at, row in found if math.isinf(row.mean or 0.0)]
    shift = 0.07 * index
    drawn = _series(name, index, [(at + shift, row) for at, row in bounded], chosen)
    traces = [drawn | {"mode": mode}]
    if endless:
        traces.append(_endless(name, index, [(at + shift, row) for at, row in endless], chosen))
    return traces


def _series(name: str, index: int, found: Sequence[tuple[float, Row]], chosen: Axis) -> Trace:
    means_ = [row.mean or 0.0 for _, row in found]
    highs = [row.interval.high if row.interval else row.mean or 0.0 for _, row in found]
    lows = [row.interval.low if row.interval else row.mean or 0.0 for _, row in found]
    return {
        "type": "scatter",
        "name": escape(name),
        "x": [at for at, _ in found],
        "y": [chosen.place(mean) for mean in means_],
        "error_y": {
            "type": "data",
            "symmetric": False,
            "array": [high - mean for high, mean in zip(highs, means_, strict=True)],
            "arrayminus": [
                mean - chosen.place(low) for low, mean in zip(lows, means_, strict=True)
            ],
            "color": colour(index),
            "thickness": 1.6,
            "width": 4,
        },
        "line": {"color": colour(index), "width": 1.5, "dash": dash(index)},
        "marker": {"color": colour(index), "size": 9, "symbol": marker(index)},
        "hovertext": [escape(hover(name, row)) for _, row in found],
        "hoverinfo": "text",
    }


def _endless(name: str, index: int, found: Sequence[tuple[float, Row]], chosen: Axis) -> Trace:
    return {
        "type": "scatter",
        "mode": "markers",
        "name": escape(name),
        "x": [at for at, _ in found],
        "y": [chosen.place(math.inf) for _ in found],
        "marker": {"color": colour(index), "size": 12, "symbol": "arrow-up"},
        "hovertext": [escape(f"{name}: no bound ({row.note})") for _, row in found],
        "hoverinfo": "text",
        "cliponaxis": False,
    }


def hover(name: str, row: Row) -> str:
    """Return what is shown of a point when it is pointed at."""
    lines = [f"{name}: {show_mean(row)}"]
    if row.interval:
        lines.append(f"95 % CI {show_interval(row.interval, unit_of(row), row.mean)}")
    values = ", ".join(show(value, unit_of(row)) for value in row.values)
    return "; ".join([*lines, f"repeats: {values}"])


def level_axis(levels: Sequence[str], title: str, series: int) -> Layout:
    """Return a horizontal axis of named levels, with room for the series beside each other."""
    middle = 0.07 * (series - 1) / 2
    return {
        "tickvals": [index + middle for index in range(len(levels))],
        "ticktext": [escape(level) for level in levels],
        "range": [-0.4 + middle, len(levels) - 0.6 + middle],
        "title": {"text": escape(title)} if title else {},
        "showgrid": False,
    }


def table_of(
    series: Mapping[str, Sequence[Point]], factor: str, measure: str
) -> tuple[tuple[str, ...], Sequence[tuple[str, ...]]]:
    """Return a chart's points as the headers and rows of a table."""
    rows = [
        (name, point.x, measure, show_mean(point.row), interval_text(point.row), point.row.note)
        for name, points in series.items()
        for point in points
    ]
    return ("series", factor, "metric", "mean", "95 % CI", "note"), rows


def interval_text(row: Row) -> str:
    """Return a row's interval, or why it has none."""
    if row.interval is None:
        return "none" if row.mean is not None else ""
    return show_interval(row.interval, unit_of(row), row.mean)


def level_text(level: Scalar) -> str:
    """Return a level for an axis, short enough to stand beside others."""
    text = f"{level:g}" if isinstance(level, float) else str(level)
    return text if len(text) <= 24 else f"{text[:23]}…"


def number(value: float) -> float:
    """Return a number with no more digits than a drawing can show."""
    return float(f"{value:.5g}")
