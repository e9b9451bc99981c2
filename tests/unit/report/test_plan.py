# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest

from pkgctl.report.numbers import plain
from pkgctl.report.plan import plan_of, show_levels
from tests.unit.report.made import evaluation


def plan(factors, **more):
    return plan_of(evaluation(factors, {}, **more).results.record)


def test_the_factor_that_names_windows_is_the_disturbing_one():
    found = plan({"link": ["good", "slow"], "replicas": [1, 8]}, window="slow")

    assert found.disturbing == "link"
    assert found.steady == ("replicas",)


def test_a_factor_called_perturb_is_disturbing_even_without_windows():
    assert plan({"perturb": ["none", "x"]}).disturbing == "perturb"
    assert plan({"scheduler": ["a", "b"]}).disturbing is None


def test_the_scale_is_the_longest_factor_of_numbers():
    found = plan({"fast": [True, False], "size": [1, 2], "replicas": [1, 2, 4]})

    assert found.scale == "replicas"
    assert found.ends("replicas") == (1, 4)
    assert plan({"fast": [True, False]}).scale is None


@pytest.mark.parametrize(
    ("levels", "baseline"),
    [(["slow", "none"], "none"), (["b", "a"], "b"), ([True, False], False), ([4, 1], 4)],
)
def test_the_baseline_is_the_quiet_level_or_the_first(levels, baseline):
    assert plan({"factor": levels}).baseline("factor") == baseline


def test_cells_are_found_with_the_rest_at_baseline():
    found = plan({"replicas": [1, 2], "perturb": ["none", "slow"]})

    assert found.cell(replicas=2).id == "replicas=2,perturb=none"
    assert found.cell(replicas=3) is None


def test_the_telling_phase_of_a_cell_is_during_only_where_it_is_disturbed():
    found = plan({"perturb": ["none", "slow"]}, window="slow")

    assert found.phase_of(found.cell(perturb="slow")) == "during"
    assert found.phase_of(found.cell()) == "all"


def test_levels_are_shown_as_the_experiment_writes_them():
    assert plain(show_levels({"a": True, "b": 0.5, "c": "x"})) == "a = true, b = 0.5, c = x"
    assert show_levels({}) == "the only cell"
