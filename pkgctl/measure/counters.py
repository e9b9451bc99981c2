# SPDX-License-Identifier: GPL-3.0-or-later
"""Sampled counters and gauges as functions of time that can be asked about any stretch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from pkgctl.measure.phases import Span

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Series:
    """Values at increasing times (seconds after t0)."""

    times: Floats
    values: Floats

    def covered(self, span: Span) -> tuple[float, float]:
        """Return the part of a span that was sampled; an empty one has its ends equal."""
        if not len(self.times):
            return span.start, span.start
        start = max(span.start, float(self.times[0]))
        return start, max(start, min(span.end, float(self.times[-1])))

    def seconds(self, spans: Sequence[Span]) -> float:
        """Return how much of the spans was sampled, in seconds."""
        return sum(end - start for start, end in map(self.covered, spans))

    def growth(self, spans: Sequence[Span]) -> float:
        """Return by how much a counter grew within the spans, linear between samples."""
        total = 0.0
        for start, end in map(self.covered, spans):
            if end > start:
                first, last = np.interp([start, end], self.times, self.values)
                total += float(last - first)
        return total

    def area(self, spans: Sequence[Span]) -> float:
        """Return the integral of a gauge over the sampled part of the spans, by trapezium."""
        return sum(self._area(*self.covered(span)) for span in spans)

    def _area(self, start: float, end: float) -> float:
        if end <= start:
            return 0.0
        inside = (self.times > start) & (self.times < end)
        times = np.concatenate(([start], self.times[inside], [end]))
        return float(np.trapezoid(np.interp(times, self.times, self.values), times))

    def rates(self, spans: Sequence[Span]) -> tuple[Floats, Floats]:
        """Return the growth per second between samples, and each one's seconds in the spans."""
        steps = np.diff(self.times)
        overlap = np.zeros_like(steps)
        for start, end in map(self.covered, spans):
            shared = np.minimum(self.times[1:], end) - np.maximum(self.times[:-1], start)
            overlap += np.maximum(shared, 0.0)
        kept = steps > 0
        return np.diff(self.values)[kept] / steps[kept], overlap[kept]


def counter(samples: pl.DataFrame, column: str) -> Series:
    """Return a cumulative counter from its samples; a restart from nought loses nothing before."""
    series = gauge(samples, column)
    steps = np.maximum(np.diff(series.values, prepend=series.values[:1]), 0.0)
    return Series(series.times, np.cumsum(steps))


def gauge(samples: pl.DataFrame, column: str) -> Series:
    """Return the samples of one column in order of time, without the absent ones."""
    times, values = samples["t"].to_numpy(), samples[column].to_numpy()
    # Nulls of a column of floats become NaN.
    known = ~(np.isnan(times) | np.isnan(values))
    ordered, first = np.unique(times[known], return_index=True)
    return Series(ordered, values[known][first])
