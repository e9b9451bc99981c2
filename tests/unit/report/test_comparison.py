# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import math
from dataclasses import replace

import pytest

from pkgctl.errors import ResultsError
from pkgctl.report import compare
from pkgctl.report.comparison import differences, matched, verdict
from tests.unit.report.made import evaluation, p95
from tests.unit.report.synthetic import Shape, write_run

SMALL = Shape(factors={"replicas": [1, 2]})


def difference(first, second, seeds=True):
    one = evaluation({}, p95("", *first), repeats=len(first))
    two = evaluation({}, p95("", *second), repeats=len(second))
    (cell,) = one.results.record.cells
    (other,) = two.results.record.cells
    if not seeds:
        runs = tuple(replace(run, seed=run.repeat + 100) for run in other.runs)
        other = replace(other, runs=runs)
    (found,) = differences(one, two, cell, other)
    return found


def test_repeats_with_the_same_seed_are_subtracted_from_each_other():
    found = difference((1.0, 2.0, 3.0), (1.1, 2.2, 3.3))

    # Differences 0.1, 0.2, 0.3: mean 0.2, half width 4.302653 · 0.1 / √3
    assert found.paired
    assert found.value == pytest.approx(0.2)
    assert found.interval.low == pytest.approx(0.2 - 0.2484138, abs=1e-6)


def test_pairs_find_what_means_alone_do_not():
    first, second = (1.0, 2.0, 3.0), (1.2, 2.21, 3.19)

    assert difference(first, second).clear
    assert not difference(first, second, seeds=False).clear


def test_without_common_seeds_the_means_are_independent():
    found = difference((1.0, 2.0, 3.0), (11.0, 12.0, 13.0), seeds=False)

    assert not found.paired
    assert found.interval.low == pytest.approx(10 - 2.266958, abs=1e-5)


def test_a_repeat_without_a_partner_undoes_the_pairs():
    assert not difference((1.0, 2.0, 3.0), (1.1, 2.2)).paired


@pytest.mark.parametrize(
    ("first", "second"), [((1.0,), (2.0,)), ((1.0, 2.0), (math.inf, 2.0)), ((1.0, 2.0), (3.0,))]
)
def test_one_repeat_and_infinite_values_have_no_interval(first, second):
    found = difference(first, second)

    assert found.interval is None
    assert not found.clear


def test_a_direction_is_good_or_bad():
    assert verdict(difference((1.0, 1.1), (2.0, 2.1))) == "higher, worse"
    assert verdict(difference((2.0, 2.1), (1.0, 1.1))) == "lower, better"


def test_a_run_does_not_differ_from_itself(whole):
    text = compare(whole, whole)

    assert "paired by seed" in text
    assert "*" not in text.split("\n", 3)[3]
    assert "0 of " in text
    assert "\xa0" not in text


def test_two_runs_are_compared_cell_by_cell(tmp_path):
    one = write_run(tmp_path / "one", SMALL)
    two = write_run(tmp_path / "two", replace(SMALL, rate=75.0))

    text = compare(one, two)

    assert f"A  {one}  (complete, 6 of 6 runs)" in text
    assert "replicas = 1\n" in text and "replicas = 2\n" in text
    assert "* higher, better" in text  # more is answered, as more is asked
    assert "∞" in text and "no bound" in text
    assert "comparisons differ; if nothing had changed" in text


def test_cells_of_one_run_only_are_named(tmp_path):
    one = write_run(tmp_path / "one", SMALL)
    two = write_run(tmp_path / "two", replace(SMALL, factors={"replicas": [2, 4]}))

    text = compare(one, two)

    assert "Only in A: replicas=1" in text
    assert "Only in B: replicas=4" in text


def test_one_repeat_is_said_to_give_no_interval(tmp_path):
    one = write_run(tmp_path / "one", replace(SMALL, repeats=1))

    assert "that needs two repeats in both runs" in compare(one, one)


def test_runs_without_a_common_cell_cannot_be_compared(tmp_path):
    one = write_run(tmp_path / "one", SMALL)
    two = write_run(tmp_path / "two", replace(SMALL, factors={"scheduler": ["a"]}))

    with pytest.raises(ResultsError, match=r"no cell in common: replicas=1, replicas=2 against"):
        compare(one, two)


def test_cells_are_matched_by_their_id():
    one = evaluation({"replicas": [1, 2]}, {})
    two = evaluation({"replicas": [2, 3]}, {})

    assert [cell.id for cell, _ in matched(one, two)] == ["replicas=2"]
