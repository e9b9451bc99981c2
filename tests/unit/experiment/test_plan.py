# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from pkgctl.experiment import plan


def test_every_cell_runs_once_in_every_repeat(small):
    runs = plan.runs(small())

    assert len(runs) == 8
    assert len({run.key for run in runs}) == 8
    assert [run.repeat for run in runs] == [0] * 4 + [1] * 4


def test_the_order_within_a_repeat_follows_from_the_seed(small):
    first = [run.key for run in plan.runs(small())]

    assert [run.key for run in plan.runs(small())] == first
    orders = {tuple(run.key for run in plan.runs(small(f"seed={seed}"))) for seed in range(10)}
    assert len(orders) > 1


def test_the_cells_of_a_repeat_share_its_seed_and_repeats_do_not(small):
    runs = plan.runs(small())

    seeds = {repeat: {run.seed for run in runs if run.repeat == repeat} for repeat in (0, 1)}
    assert all(len(each) == 1 for each in seeds.values())
    assert seeds[0] != seeds[1]


def test_more_repeats_leave_the_first_as_they_were(small):
    few = {run.key: (run.seed, run.folder) for run in plan.runs(small())}
    many = {run.key: (run.seed, run.folder) for run in plan.runs(small("repeats=5"))}

    assert few.items() <= many.items()


def test_folders_are_numbered_by_cell_and_repeat(small):
    experiment = small()

    folders = {run.key: run.folder for run in plan.runs(experiment)}

    assert folders[experiment.cells[2].id, 1] == "cells/002-r1"


def test_derived_seeds_differ_by_label_and_fit_into_63_bits():
    seeds = {plan.derive(7, "load", index) for index in range(1000)}

    assert len(seeds) == 1000
    assert max(seeds) < 2**63
    assert plan.derive(7, "a", "b") != plan.derive(7, "a/b", "")


def test_the_estimate_counts_the_runs_and_what_stands_around_them(small):
    experiment = small()
    runs = plan.runs(experiment)

    whole = plan.estimate(experiment, runs)

    assert whole > sum(plan.run_seconds(run, experiment) for run in runs)
    assert plan.estimate(experiment, runs[:1]) < whole
    assert plan.estimate(small("verify=none"), runs) < whole
