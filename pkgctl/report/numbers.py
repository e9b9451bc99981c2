# SPDX-License-Identifier: GPL-3.0-or-later
"""Numbers for people: three digits that count, and the unit that suits the size."""

from __future__ import annotations

import math
from dataclasses import dataclass

from pkgctl.measure.catalogue import METRICS
from pkgctl.measure.statistics import Interval
from pkgctl.measure.table import Row

INFINITY, ABSENT, MINUS = "∞", "–", "−"
# A number and its unit stay on one line.
HARD = "\u00a0"
_STEPS = {
    "s": ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs")),
    "bytes": ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"), (1, "B")),
    "bytes/s": ((1 << 30, "GiB/s"), (1 << 20, "MiB/s"), (1 << 10, "KiB/s"), (1, "B/s")),
    "bit/s": ((1e9, "Gbit/s"), (1e6, "Mbit/s"), (1e3, "kbit/s"), (1, "bit/s")),
    "share": ((0.01, "%"),),
    "1/s": ((1, "/s"),),
    "s/s": ((1, "s/s"),),
    "1": ((1, ""),),
}


@dataclass(frozen=True, slots=True)
class Scale:
    """A unit as it is shown: its size in the metric's own unit, and its name."""

    size: float
    name: str

    def number(self, value: float) -> str:
        """Return a value in this unit, without the unit."""
        return digits(value / self.size)

    def text(self, value: float) -> str:
        """Return a value with this unit."""
        shown = self.number(value)
        return f"{shown}{HARD}{self.name}" if self.name and shown != INFINITY else shown


def plain(text: str) -> str:
    """Return a text with ordinary blanks only, for terminals and for other programs."""
    return text.replace(HARD, " ")


def digits(value: float) -> str:
    """Return a number with three digits that count, and no more than it has."""
    if math.isinf(value):
        return INFINITY if value > 0 else MINUS + INFINITY
    size = abs(value)
    if size >= 99.95:
        text = f"{value:.0f}"
    elif size >= 9.995:
        text = f"{value:.1f}"
    else:
        text = f"{value:.2f}" if size >= 0.0995 or not size else f"{value:.2g}"
    text = text.rstrip("0").rstrip(".") if "." in text and "e" not in text else text
    return "0" if text in ("-0", "") else text.replace("-", MINUS)


def scale(value: float | None, unit: str) -> Scale:
    """Return the unit in which a value reads best."""
    steps = _STEPS[unit]
    size = abs(value) if value is not None and math.isfinite(value) else 0.0
    # A zero has no size of its own; it takes the unit that small times are shown in.
    if not size:
        return Scale(*(steps[1] if unit == "s" else steps[-1]))
    # 999.6 ms would be written "1000 ms": what rounds up to a unit is shown in it.
    return next((Scale(*step) for step in steps if size >= 0.9995 * step[0]), Scale(*steps[-1]))


def show(value: float | None, unit: str) -> str:
    """Return a value with its unit; "–" for an absent one."""
    return ABSENT if value is None else scale(value, unit).text(value)


def show_interval(interval: Interval, unit: str, near: float | None = None) -> str:
    """Return an interval, in the unit that suits ``near`` (its estimate)."""
    chosen = scale(interval.high if near is None else near, unit)
    return f"{chosen.number(interval.low)}–{chosen.text(interval.high)}"


def unit_of(row: Row) -> str:
    """Return the unit of a row's metric."""
    return METRICS[row.metric].unit


def show_mean(row: Row | None) -> str:
    """Return a row's mean with its unit."""
    return ABSENT if row is None else show(row.mean, unit_of(row))


def show_row(row: Row | None, *, named: bool = True) -> str:
    """Return a row's mean with its interval: ``51 ms (95 % CI 41–61 ms)``.

    Args:
        row: the row, if it was measured.
        named: whether to say what the brackets hold; once in a sentence is enough.
    """
    if row is None or row.mean is None:
        return ABSENT
    if row.interval is None:
        return show_mean(row)
    inside = show_interval(row.interval, unit_of(row), row.mean)
    return f"{show_mean(row)} ({f'95{HARD}%{HARD}CI ' if named else ''}{inside})"


def ratio(first: float, second: float) -> str:
    """Return how many times larger or smaller the second is: ``×2.1`` or ``÷3``."""
    if first <= 0 or second <= 0 or not math.isfinite(first + second):
        return ""
    return f"×{digits(second / first)}" if second >= first else f"÷{digits(first / second)}"
