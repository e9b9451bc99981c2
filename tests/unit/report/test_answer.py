# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import math
from dataclasses import replace

import polars as pl
import pytest

from pkgctl.measure.evaluation import evaluate
from pkgctl.measure.record import Objective
from pkgctl.measure.results import LINKS
from pkgctl.report.answer import answer
from tests.unit.report.made import evaluation, p95

ONE, EIGHT = "replicas=1", "replicas=8"
SLOW, FAST = (0.130, 0.132, 0.134), (0.050, 0.051, 0.052)


def said(found):
    """Return the sentences but the one that no link was measured, as (kind, text)."""
    return [(each.kind.value, each.text) for each in answer(found) if "No link" not in each.text]


def disturbed(values, **more):
    factors = {"perturb": ["none", "slow"]}
    return said(evaluation(factors, values, window="slow", **more))


def test_a_clear_effect_of_a_number_is_claimed_with_its_intervals():
    found = said(evaluation({"replicas": [1, 2, 8]}, p95(ONE, *SLOW) | p95(EIGHT, *FAST)))

    assert found == [
        (
            "clear",
            "Going from replicas = 1 to 8 cut the p95 latency of web from 132 ms "
            "(95 % CI 127–137 ms) to 51 ms (48.5–53.5 ms), ÷2.59.",
        )
    ]


def test_the_other_way_round_it_is_raised():
    (found,) = said(evaluation({"replicas": [1, 8]}, p95(ONE, *FAST) | p95(EIGHT, *SLOW)))

    assert "raised the p95 latency of web from 51 ms" in found[1]
    assert "×2.59" in found[1]


def test_overlapping_intervals_are_no_clear_difference():
    values = p95(ONE, 0.1, 0.2, 0.3) | p95(EIGHT, 0.1, 0.15, 0.2)

    ((kind, text),) = said(evaluation({"replicas": [1, 8]}, values))

    assert kind == "not clear"
    assert "made no clear difference to the p95 latency of web: 200 ms" in text
    assert "cut" not in text


def test_one_repeat_claims_nothing():
    values = p95(ONE, 0.5) | p95(EIGHT, 0.1)

    ((kind, text),) = said(evaluation({"replicas": [1, 8]}, values, repeats=1))

    assert kind == "measured"
    assert "was 500 ms with 1, 100 ms with 8" in text
    assert "no difference is claimed" in text
    assert "CI" not in text


def test_levels_without_numbers_are_compared_best_against_worst():
    values = {}
    for name, at in (("a", 0.3), ("b", 0.1), ("c", 0.2)):
        values |= p95(f"scheduler={name}", at, at + 0.001, at - 0.001)

    ((kind, text),) = said(evaluation({"scheduler": ["a", "b", "c"]}, values))

    assert kind == "clear"
    assert text.startswith("Comparing 3 levels of scheduler, the p95 latency of web was lowest at ")
    assert text.index("with b") < text.index("with a")


def test_equal_levels_are_both_named():
    inf = math.inf
    values = p95("scheduler=a", inf, inf, inf) | p95("scheduler=b", inf, inf, inf)

    ((_, text),) = said(evaluation({"scheduler": ["a", "b"]}, values))

    assert "∞ with a, ∞ with b" in text


def test_other_factors_are_named_at_their_baseline():
    factors = {"replicas": [1, 8], "site": ["x", "y"]}
    values = p95("replicas=1,site=x", *SLOW) | p95("replicas=8,site=x", *FAST)

    assert said(evaluation(factors, values))[0][1].endswith("÷2.59 (site = x).")


def test_an_infinite_tail_is_explained():
    inf = math.inf
    values = p95(ONE, inf, inf, inf) | p95(EIGHT, *FAST)

    ((kind, text),) = said(evaluation({"replicas": [1, 8]}, values))

    assert kind == "clear"
    assert "from ∞ to 51 ms (95 % CI 48.5–53.5 ms) (∞: too many requests failed" in text


def test_where_the_tail_may_not_be_stated_the_median_is():
    values = {
        ("latency_p95", "web", "all", ONE): (None, None),
        ("latency_p50", "web", "all", ONE): (0.2, 0.201),
        ("latency_p50", "web", "all", EIGHT): (0.1, 0.101),
    }

    assert "the p50 latency of web" in said(evaluation({"replicas": [1, 8]}, values))[0][1]


def test_a_disturbance_is_judged_while_it_is_on_and_by_what_remains():
    quiet, slow = "perturb=none", "perturb=slow"
    values = (
        p95(quiet, *FAST, phase="during")
        | p95(slow, *SLOW, phase="during")
        | p95(quiet, *FAST, phase="after")
        | p95(slow, *FAST, phase="after")
    )

    found = disturbed(values)

    assert found[0][0] == "clear"
    assert found[0][1].startswith("While slow was on it raised the p95 latency of web from 51 ms")
    assert found[1] == (
        "not clear",
        "After slow had ended, no clear difference in the p95 latency of web remained.",
    )


def test_a_lasting_effect_is_claimed():
    quiet, slow = "perturb=none", "perturb=slow"
    values = (
        p95(quiet, *FAST, phase="during")
        | p95(slow, *SLOW, phase="during")
        | p95(quiet, *FAST, phase="after")
        | p95(slow, 0.1, 0.101, 0.102, phase="after")
    )

    assert disturbed(values)[1] == (
        "clear",
        "After slow had ended, the p95 latency of web was still raised: 101 ms, ×1.98.",
    )


def test_a_disturbance_without_a_clear_effect_is_not_claimed():
    values = p95("perturb=none", 0.1, 0.2, 0.3, phase="during")
    values |= p95("perturb=slow", 0.15, 0.2, 0.4, phase="during")

    ((kind, text),) = disturbed(values)

    assert kind == "not clear"
    assert text.startswith("slow made no clear difference to the p95 latency of web: 200 ms")


def test_a_disturbance_in_every_cell_is_judged_against_the_time_before():
    values = p95("", *FAST, phase="before") | p95("", *SLOW, phase="during")

    found = said(evaluation({}, values, window="slow"))

    assert found[0][1].startswith("While slow was on it raised the p95 latency of web from 51 ms")


def test_a_disturbances_setting_is_quoted_from_the_experiment(tmp_path):
    values = p95("perturb=none", *FAST, phase="during") | p95("perturb=slow", *SLOW, phase="during")
    made = evaluation({"perturb": ["none", "slow"]}, values, window="slow")
    (tmp_path / "experiment.yaml").write_text("perturbations: {slow: {bw: 5mbit, start: 2s}}")

    found = answer(replace(made, results=replace(made.results, folder=tmp_path)))

    assert "While slow (bw 5mbit) was on" in found[0].text


@pytest.mark.parametrize(
    ("attained", "kind", "words"),
    [
        ((0.99, 0.99, 0.98), "clear", "was held."),
        ((0.5, 0.51, 0.5), "clear", "was missed."),
        ((0.9, 0.99, 0.95), "not clear", "was not decided."),
        ((0.96,), "measured", "was held."),
    ],
)
def test_an_objective_is_held_if_its_whole_interval_is(attained, kind, words):
    values = {("slo_attainment", "web", "all", ""): attained}
    made = evaluation({}, values, objective=Objective(0.15, 0.95), repeats=len(attained))

    ((found_kind, text),) = [each for each in said(made) if "bjective" in each[1]][-1:]

    assert found_kind == kind
    assert text == f"The objective of web (95 % of requests within 150 ms) {words}"


def test_the_levels_that_held_an_objective_are_listed():
    values = {
        ("slo_attainment", "web", "all", f"replicas={count}"): attained
        for count, attained in {
            1: (0.5, 0.51, 0.5),
            2: (0.9, 0.99, 0.95),
            4: (1.0, 1.0, 1.0),
            8: (1.0, 1.0, 1.0),
        }.items()
    }
    made = evaluation({"replicas": [1, 2, 4, 8]}, values, objective=Objective(0.15, 0.95))

    assert said(made)[-1][1].endswith(
        "was missed with replicas = 1, not decided with replicas = 2 and held with "
        "replicas = 4 and 8."
    )


def test_links_that_are_not_as_asked_are_a_caution():
    made = evaluation({}, {})
    rows = [dict.fromkeys(LINKS) | {"verdict": each} for each in ("pass", "pass", "fail")]
    links = pl.DataFrame(rows, schema=dict(LINKS))

    found = answer(replace(made, results=replace(made.results, links=links)))[-1]

    assert found.text == "2 of 3 measured links were what was asked of them; 1 was not."
    assert found.kind.value == "caution"


def test_a_run_that_measured_less_than_planned_says_so_first():
    made = evaluation({"replicas": [1, 8]}, p95(ONE, *SLOW) | p95(EIGHT, *FAST), status="missing")

    assert said(made)[0] == (
        "incomplete",
        "Only 0 of 6 planned repeats were measured; what follows rests on these alone.",
    )


def test_a_whole_run_answers_its_question(found):
    text = " ".join(sentence.text for sentence in answer(found))

    assert "Going from replicas = 1 to 8 cut the p95 latency of web" in text
    assert "While slow-uplink (bw 5mbit, delay 40ms) was on it raised" in text
    assert "A cold start of web took" in text and "of it artifact transfer" in text
    assert "A warm start of web took" in text
    assert "From the decision until every replica of web was ready" in text
    assert "18 of 19 measured links" in text


def test_a_batch_run_answers_with_completion_times(batch):
    text = " ".join(sentence.text for sentence in answer(evaluate(batch)))

    assert "Going from replicas = 2 to 6 cut the mean completion time of batch jobs" in text
    assert "latency" not in text
