# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import math

import polars as pl
import pytest

from pkgctl.measure import latency
from tests.unit.measure.rows import requests, run, values


def test_latency_counts_from_the_intended_time():
    rows = requests((1.0, 0.25)).with_columns(sent=pl.lit(1.2))

    assert latency.with_latency(rows)["latency"].to_list() == pytest.approx([0.25])


@pytest.mark.parametrize("status", ["error", "timeout", "anything"])
def test_a_request_that_was_not_answered_is_infinitely_late(status):
    rows = requests((1.0, 0.25)).with_columns(status=pl.lit(status))

    assert latency.with_latency(rows)["latency"].to_list() == [math.inf]


def test_an_answer_without_a_time_is_no_answer():
    rows = requests((1.0, 0.25)).with_columns(done=pl.lit(None, pl.Float64))

    assert latency.with_latency(rows)["latency"].to_list() == [math.inf]


def test_quantiles_are_those_of_nearest_rank():
    rows = requests(*[(0.05 * at, 0.001 * (100 - at)) for at in range(100)])

    found = values(latency.observe(rows, [run()]))

    assert found["latency_p50", "all"] == pytest.approx(0.050)
    assert found["latency_p95", "all"] == pytest.approx(0.095)
    assert found["latency_p99", "all"] == pytest.approx(0.099)
    assert found["requests", "all"] == 100


def test_misses_reach_the_tail_and_are_counted_apart():
    rows = requests(*[(0.05 * at, 0.01 if at < 94 else None) for at in range(100)])

    found = values(latency.observe(rows, [run()]))

    assert found["latency_p50", "all"] == pytest.approx(0.01)
    assert found["latency_p95", "all"] == math.inf
    assert found["miss_share", "all"] == pytest.approx(0.06)


def test_requests_are_cut_into_phases_by_their_intended_time():
    slow_later = requests((1.0, 0.01), (1.9, 5.0), (2.0, 0.5), (3.0, 0.5), (9.0, 0.01), (9.1, 0.01))

    found = values(latency.observe(slow_later, [run(windows=[(2.0, 4.0)])]))

    counts = {phase: count for (metric, phase), count in found.items() if metric == "requests"}
    assert counts == {"all": 6, "before": 2, "during": 2, "after": 2}
    assert found["latency_p50", "during"] == pytest.approx(0.5)


def test_too_few_requests_say_so_instead_of_stating_a_tail():
    rows = requests(*[(0.1 * at, 0.01) for at in range(60)])

    found = {each.metric: each for each in latency.observe(rows, [run()])}

    assert found["latency_p95"].value == pytest.approx(0.01)
    assert found["latency_p99"].value is None
    assert found["latency_p99"].note == "few samples (under 100)"


def test_a_declared_service_without_requests_is_reported_as_such():
    found = {each.metric: each for each in latency.observe(requests(), [run()], ["web"])}

    assert found["requests"].value == 0
    assert found["miss_share"].value is None
    assert found["latency_p95"].note == "no samples"


def test_services_are_kept_apart():
    rows = pl.concat([requests((1.0, 0.1), (2.0, 0.1)), requests((1.0, 9.0), service="db")])

    found = list(latency.observe(rows, [run()]))

    assert values(found, "web")["requests", "all"] == 2
    assert values(found, "db")["requests", "all"] == 1


def test_pooling_takes_the_requests_of_all_repeats():
    one = requests(*[(0.1 * at, 0.001 * (at + 1)) for at in range(50)])
    two = requests(*[(0.1 * at, 0.001 * (at + 51)) for at in range(50)], repeat=1)

    pooled = {each.metric: each for each in latency.pooled(pl.concat([one, two]), [run(0), run(1)])}

    assert pooled["latency_p99"].count == 100
    assert pooled["latency_p99"].value == pytest.approx(0.099)
    assert pooled["latency_p50"].interval.low == pytest.approx(0.040)
    assert pooled["latency_p50"].interval.high == pytest.approx(0.061)
