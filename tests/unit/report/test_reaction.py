# SPDX-License-Identifier: GPL-3.0-or-later
"""What is said of Kubernetes' reaction to a node that was gone."""

from __future__ import annotations

import math

from pkgctl.report.plan import plan_of
from pkgctl.report.reaction import reaction_sentences
from tests.unit.report.made import evaluation

WHO = ("ours", "theirs")


def told(values):
    made = evaluation({"scheduler": WHO}, values, repeats=2)
    found = reaction_sentences(plan_of(made.results.record), made.table)
    return [each.text for each in found]


def of(metric, who, *values):
    return {(metric, "edge-1", "all", f"scheduler={who}"): values}


def test_each_cell_tells_when_it_was_noticed_and_when_replaced():
    found = told(
        of("notice_delay", "ours", 49.0, 51.0)
        | of("replaced", "ours", 1.0, 1.0)
        | of("replace_delay", "ours", 54.0, 56.0)
        | of("notice_delay", "theirs", 50.0, 50.0)
        | of("replaced", "theirs", 0.0, 0.0)
    )

    assert found[0].startswith("Kubernetes took edge-1 for not ready 50 s")
    assert found[0].endswith(
        "with scheduler = ours; its replicas were replaced by 55 s after that onset."
    )
    assert found[1].endswith("with scheduler = theirs; none of its replicas was replaced.")


def test_what_was_never_ready_is_told():
    (text,) = told(
        of("notice_delay", "ours", 49.0, 51.0)
        | of("replaced", "ours", 1.0, 1.0)
        | of("replace_delay", "ours", 54.0, math.inf)
    )

    assert "did not become ready in each repeat" in text


def test_nothing_is_said_where_nothing_was_noticed():
    assert told({}) == []
