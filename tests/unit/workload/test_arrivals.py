# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import math
import random
import statistics
from itertools import pairwise

import pytest

from pkgctl.workload.arrivals import Arrival, at, constant, poisson, requests


def test_poisson_arrivals_are_in_order_and_within_the_duration() -> None:
    times = [arrival.time for arrival in poisson(50, 10, random.Random(1))]

    assert times == sorted(times)
    assert times[0] > 0 and times[-1] < 10


def test_poisson_counts_have_the_mean_and_the_variance_of_their_law() -> None:
    rng = random.Random(2)

    counts = [len(poisson(20, 1, rng)) for _ in range(2000)]

    # Five standard errors: of the mean sqrt(20 / n), of the variance about 20 * sqrt(2 / n).
    assert abs(statistics.fmean(counts) - 20) < 5 * math.sqrt(20 / 2000)
    assert abs(statistics.variance(counts) - 20) < 5 * 20 * math.sqrt(2.05 / 2000)


def test_poisson_gaps_are_exponential() -> None:
    times = [arrival.time for arrival in poisson(100, 100, random.Random(3))]
    gaps = sorted(later - earlier for earlier, later in pairwise(times))

    # Kolmogorov-Smirnov: 1.95 / sqrt(n) is exceeded once in a thousand samples.
    steps = enumerate(gaps)
    distance = max(abs((rank + 1) / len(gaps) - (1 - math.exp(-100 * gap))) for rank, gap in steps)
    assert distance < 1.95 / math.sqrt(len(gaps))


def test_a_seed_repeats_the_arrivals() -> None:
    runs = [poisson(30, 5, random.Random(seed)) for seed in (4, 4, 5)]

    assert runs[0] == runs[1] != runs[2]


@pytest.mark.parametrize(
    ("rate", "duration", "times"),
    [
        (2, 2, [0.0, 0.5, 1.0, 1.5]),
        (2, 1.6, [0.0, 0.5, 1.0, 1.5]),
        (0.5, 1, [0.0]),
        (3, 0, []),
    ],
)
def test_constant_arrivals_are_even(rate: float, duration: float, times: list[float]) -> None:
    assert [arrival.time for arrival in constant(rate, duration)] == times


def test_constant_arrivals_do_not_drift() -> None:
    arrivals = constant(30, 1000)

    assert len(arrivals) == 30_000
    assert arrivals[-1].time == 29_999 / 30


def test_given_moments_are_sorted() -> None:
    assert [arrival.time for arrival in at([3, 1, 2])] == [1, 2, 3]


@pytest.mark.parametrize(("rate", "duration"), [(0, 1), (-1, 1), (math.inf, 1), (1, -1)])
def test_impossible_processes_are_refused(rate: float, duration: float) -> None:
    with pytest.raises(ValueError, match="must be"):
        poisson(rate, duration, random.Random(1))
    with pytest.raises(ValueError, match="must be"):
        constant(rate, duration)


def test_requests_take_what_the_source_does_not_tell_from_the_experiment() -> None:
    arrivals = [Arrival(time=1.0), Arrival(time=2.0, work=0.5, in_bytes=7, out_bytes=0)]

    plan = requests(arrivals, "web", work=0.1, in_bytes=1, out_bytes=2, start=10.0)

    assert plan == [(11.0, "web", 0.1, 1, 2), (12.0, "web", 0.5, 7, 0)]
