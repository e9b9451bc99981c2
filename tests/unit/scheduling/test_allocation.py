# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import random
from collections import Counter

import pytest

from pkgctl.scheduling.allocation import (
    LeastAllocated,
    MostAllocated,
    least_allocated,
    most_allocated,
    node_score,
)
from pkgctl.scheduling.job import Job
from pkgctl.scheduling.placing import Room
from pkgctl.scheduling.resources import Resources
from pkgctl.scheduling.view import NodeView
from tests.unit.scheduling.clusters import amounts, cluster, decide, job, jobs, node, places


def test_scores_are_those_of_kubernetes_for_nodes_of_different_size() -> None:
    # least: cpu (4000-3000)*100//4000 = 25 and 50, memory 50 and 50; most: 75 and 50, 50 and 50.
    asked = Job(id="pod", resources=Resources(3.0, 5000))
    small, large = (
        Room(NodeView(name=name, capacity=there, allocatable=there))
        for name, there in (("small", Resources(4.0, 10000)), ("large", Resources(6.0, 10000)))
    )

    assert [node_score(least_allocated, asked, room) for room in (small, large)] == [37, 50]
    assert [node_score(most_allocated, asked, room) for room in (small, large)] == [62, 50]


def test_what_is_placed_counts_with_the_job() -> None:
    # cpu (10000-6000)*100//10000 = 40, memory (20000-10000)*100//20000 = 50.
    there = Resources(10.0, 20000)
    one = node("n", holds=[Resources(3.0, 5000)])
    room = Room(NodeView(name="n", capacity=there, allocatable=there, jobs=one.jobs))
    asked = Job(id="pod", resources=Resources(3.0, 5000))

    assert node_score(least_allocated, asked, room) == 45
    assert node_score(most_allocated, asked, room) == (60 + 50) // 2


def test_jobs_that_ask_for_nothing_count_the_defaults_in_scores() -> None:
    # 100m of 1000m and 200Mi of 1000Mi: 90 and 80; with one such job there already: 80 and 60.
    nothing = Job(id="pod")
    empty = Room(node("n", cpu=1.0, memory=1000))
    one = Room(node("n", cpu=1.0, memory=1000, holds=[Resources()]))

    assert node_score(least_allocated, nothing, empty) == 85
    assert node_score(least_allocated, nothing, one) == 70


def test_more_than_there_is_scores_zero_or_full() -> None:
    assert least_allocated(1001, 1000) == 0
    assert most_allocated(1001, 1000) == 100


def test_each_division_is_rounded_down() -> None:
    assert least_allocated(1, 3) == 66
    assert most_allocated(2, 3) == 66
    # (66 + 33) // 2 = 49, not 50.
    room = Room(NodeView(name="n", capacity=Resources(3, 3), allocatable=Resources(3, 3)))
    assert node_score(least_allocated, Job(id="pod", resources=Resources(1, 2)), room) == 49


def test_a_resource_that_the_node_has_not_is_left_out() -> None:
    there = Resources(4.0, 0)
    room = Room(NodeView(name="n", capacity=there, allocatable=there))

    assert node_score(least_allocated, Job(id="pod", resources=Resources(1.0)), room) == 75


def test_a_node_without_anything_scores_zero() -> None:
    room = Room(NodeView(name="n", capacity=Resources(), allocatable=Resources()))

    assert node_score(most_allocated, Job(id="pod"), room) == 0


def test_least_allocated_spreads_and_most_allocated_packs() -> None:
    view = cluster(*(node(f"n{number}", cpu=4) for number in range(3)))

    spread = Counter(places(decide(LeastAllocated(), jobs(6), view)))
    packed = Counter(places(decide(MostAllocated(), jobs(6), view)))

    assert sorted(spread.values()) == [2, 2, 2]
    assert sorted(packed.values()) == [2, 4]


def test_the_emptier_node_wins_though_it_is_smaller() -> None:
    view = cluster(node("big", cpu=8, holds=[amounts(4, 2048)]), node("small", cpu=2))

    assert places(decide(LeastAllocated(), [job(cpu=0.2)], view)) == ["small"]
    assert places(decide(MostAllocated(), [job(cpu=0.2)], view)) == ["big"]


@pytest.mark.parametrize("scheduler", [LeastAllocated(), MostAllocated()])
def test_ties_fall_on_each_node_equally_often(scheduler: LeastAllocated | MostAllocated) -> None:
    view = cluster(*(node(f"n{number}") for number in range(4)))
    rng = random.Random(3)

    counts = Counter(places(scheduler.place([job()], view, rng))[0] for _ in range(4000))

    # Five standard deviations of a binomial with n = 4000, p = 1/4.
    assert all(abs(count - 1000) < 137 for count in counts.values())
    assert len(counts) == 4
