# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import math

import pytest

from pkgctl.report.contrast import contrast
from tests.unit.report.made import evaluation, p95

INF = math.inf


def judged(first, second):
    table = evaluation({"x": [1, 2]}, p95("a", *first) | p95("b", *second)).table
    rows = (table.find("latency_p95", "web", "all", cell) for cell in "ab")
    found = contrast(*rows)
    return found and found.verdict.value


@pytest.mark.parametrize(
    ("first", "second", "verdict"),
    [
        ((1.0, 1.1, 0.9), (2.0, 2.1, 1.9), "raised"),
        ((2.0, 2.1, 1.9), (1.0, 1.1, 0.9), "lowered"),
        ((1.0, 1.5, 0.5), (1.4, 1.1, 1.9), "unclear"),
        ((1.0, 1.0, 1.0), (1.0, 1.0, 1.0), "unclear"),
        ((1.0,), (2.0,), "unjudged"),
        ((1.0, 1.1), (2.0,), "unjudged"),
        ((1.0, 1.1, 1.2), (INF, INF, INF), "raised"),
        ((INF, INF), (1.0, 1.1), "lowered"),
        ((INF, INF), (INF, INF), "unclear"),
        ((1.0, 1.1), (INF, 1.0), "unclear"),
    ],
)
def test_a_difference_is_clear_only_if_the_intervals_are_apart(first, second, verdict):
    assert judged(first, second) == verdict


def test_what_may_not_be_stated_is_not_compared():
    assert judged((None, None), (1.0, 2.0)) is None


def test_different_metrics_are_not_compared():
    values = p95("a", 1.0, 1.1) | {("latency_p50", "web", "all", "b"): (1.0, 1.1)}
    table = evaluation({"x": [1]}, values).table

    assert contrast(*table.rows) is None
