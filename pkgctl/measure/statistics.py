# SPDX-License-Identifier: GPL-3.0-or-later
"""Estimators: nearest-rank quantiles, and 95 % intervals for means and for quantiles."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from scipy import special

CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True)
class Interval:
    """The ends of a 95 % confidence interval, in the unit of what was estimated."""

    low: float
    high: float

    def overlaps(self, other: Interval) -> bool:
        """Return whether the two intervals share a point."""
        return self.low <= other.high and other.low <= self.high


def rank(count: int, share: float) -> int:
    """Return the nearest rank ⌈n·p⌉, counted from 1, of the quantile ``share`` of ``count``."""
    # 0.07 * 100 is 7.000000000000001 in floating point; its rank is 7, not 8.
    return max(1, math.ceil(round(count * share, 9)))


def samples_needed(share: float) -> int:
    """Return the fewest samples for which the nearest rank of ``share`` is not the maximum."""
    return math.ceil(round(1 / (1 - share), 9))


class Ordered(Protocol):
    """Samples in ascending order: a list, or a column too long to make a list of."""

    def __len__(self) -> int:
        """Return how many there are."""

    def __getitem__(self, index: int, /) -> float:
        """Return the one at an index."""


def nearest_rank(ordered: Ordered, share: float) -> float | None:
    """Return the sample whose rank is ⌈n·p⌉, or None where that says nothing but the maximum.

    Args:
        ordered: the samples in ascending order; infinite ones are allowed.
        share: the quantile, strictly between 0 and 1.
    """
    if len(ordered) < samples_needed(share):
        return None
    return float(ordered[rank(len(ordered), share) - 1])


def quantile_ranks(count: int, share: float) -> tuple[int, int] | None:
    """Return the ranks (from 1) of the order statistics that enclose a quantile with 95 %.

    The number of samples below the quantile is binomial, whatever the distribution; None
    means that ``count`` independent samples are too few for an interval with two ends.
    """
    below = special.bdtr(np.arange(count + 1), count, share)
    tail = (1 - CONFIDENCE) / 2
    low = int(np.searchsorted(below, tail, side="right"))
    high = int(np.searchsorted(below, 1 - tail, side="left")) + 1
    return (low, high) if low >= 1 and high <= count else None


def quantile_interval(ordered: Ordered, share: float) -> Interval | None:
    """Return the order-statistic interval of a quantile of samples in ascending order.

    Its ends may be infinite; None means too few samples for an interval with two ends.
    """
    ranks = quantile_ranks(len(ordered), share) if len(ordered) else None
    if ranks is None:
        return None
    return Interval(float(ordered[ranks[0] - 1]), float(ordered[ranks[1] - 1]))


def mean(values: Sequence[float]) -> float | None:
    """Return the arithmetic mean (infinite if a value is), or None without values."""
    return sum(values) / len(values) if values else None


def deviation(values: Sequence[float]) -> float:
    """Return the sample standard deviation (n − 1) of at least two finite values."""
    centre = sum(values) / len(values)
    return math.sqrt(sum((value - centre) ** 2 for value in values) / (len(values) - 1))


def student(confidence: float, freedom: float) -> float:
    """Return the two-sided critical value of Student's t."""
    return float(special.stdtrit(freedom, (1 + confidence) / 2))


def student_interval(values: Sequence[float]) -> Interval | None:
    """Return the 95 % interval of the mean, or None for fewer than two or infinite values."""
    if len(values) < 2 or not all(math.isfinite(value) for value in values):
        return None
    centre = sum(values) / len(values)
    half = student(CONFIDENCE, len(values) - 1) * deviation(values) / math.sqrt(len(values))
    return Interval(centre - half, centre + half)


def ratio_interval(first: Sequence[float], second: Sequence[float]) -> Interval | None:
    """Return the 95 % interval of the ratio of two paired, positive quantities.

    It is Student's for the mean of the logarithms of second[i] / first[i], taken back: pairs that
    saw the same arrivals differ by a factor far more than by an amount.

    Returns:
        None for fewer than two pairs, or a value that is not positive and finite.
    """
    pairs = list(zip(first, second, strict=True))
    if not all(0 < value < math.inf for pair in pairs for value in pair):
        return None
    logarithms = student_interval([math.log(after / before) for before, after in pairs])
    return logarithms and Interval(math.exp(logarithms.low), math.exp(logarithms.high))


def welch_interval(first: Sequence[float], second: Sequence[float]) -> Interval | None:
    """Return the 95 % interval of mean(second) − mean(first) of two independent samples."""
    if min(len(first), len(second)) < 2 or not all(map(math.isfinite, (*first, *second))):
        return None
    difference = sum(second) / len(second) - sum(first) / len(first)
    parts = [deviation(values) ** 2 / len(values) for values in (first, second)]
    if sum(parts) == 0:
        return Interval(difference, difference)
    weights = (
        part**2 / (len(values) - 1) for part, values in zip(parts, (first, second), strict=True)
    )
    half = student(CONFIDENCE, sum(parts) ** 2 / sum(weights)) * math.sqrt(sum(parts))
    return Interval(difference - half, difference + half)
