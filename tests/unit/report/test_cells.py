# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import math

import pytest

from pkgctl.report.cells import cell_listing, entry, metric_groups
from pkgctl.report.plan import plan_of
from tests.unit.report.made import evaluation, p95


def shown(*values):
    (row,) = evaluation({}, p95("", *values)).table.rows
    found = entry(row)
    return found.mean.replace("\xa0", " "), found.interval.replace("\xa0", " ")


def test_an_entry_is_the_mean_and_its_interval():
    assert shown(0.1, 0.11, 0.12) == ("110 ms", "85.2–135 ms")


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ((0.1,), ("100 ms", "one repeat")),
        ((0.1, 0.1), ("100 ms", "all alike")),
        ((0.1, math.inf), ("∞", "no bound")),
    ],
)
def test_an_entry_without_an_interval_says_why(values, expected):
    assert shown(*values) == expected


def test_an_absent_row_is_a_dash():
    assert entry(None).mean == "–"


def test_a_tail_that_no_repeat_may_state_is_shown_pooled(found):
    row = found.table.find("latency_p99", "web", "during", "replicas=1,perturb=none")

    assert row.mean is None
    assert entry(row).interval == "all repeats pooled"
    assert "requests pooled" in entry(row).tip


def test_there_is_a_row_for_each_cell_with_its_levels(found):
    listing = cell_listing(plan_of(found.results.record), found.table)

    assert listing.factors == ("replicas", "perturb")
    assert [levels for levels, _, _ in listing.rows][:2] == [["1", "none"], ["1", "slow-uplink"]]
    assert {repeats for _, repeats, _ in listing.rows} == {"3/3"}
    assert listing.headers[:4] == ["p50", "p95", "p99", "p95 during"]


def test_groups_hold_all_metrics_but_those_of_single_nodes(found):
    groups = {group.name: group for group in metric_groups(found)}

    assert {"latency", "throughput", "objective", "provisioning", "utilisation"} <= set(groups)
    subjects = {subject for group in groups.values() for _, subject, _, _ in group.rows}
    assert subjects == {"web", "all nodes", "latency", "all disturbances"}
    phases = [phase for label, _, phase, _ in groups["latency"].rows if label == "latency p95"]
    assert phases == ["all", "before", "during", "after"]
