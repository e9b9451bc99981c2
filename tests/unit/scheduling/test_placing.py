# SPDX-License-Identifier: GPL-3.0-or-later
"""What holds for every scheduler, and the rules by which a job fits a node."""

from __future__ import annotations

import random
from collections import defaultdict

import pytest

from pkgctl.scheduling.decision import Place, Scheduler, Wait
from pkgctl.scheduling.job import Job
from pkgctl.scheduling.registry import SCHEDULERS, scheduler
from pkgctl.scheduling.resources import Resources
from pkgctl.scheduling.view import ClusterView
from tests.unit.scheduling.clusters import amounts, cluster, decide, job, jobs, node, places


@pytest.fixture(params=sorted(SCHEDULERS))
def each(request: pytest.FixtureRequest) -> Scheduler:
    return scheduler(request.param)


def reachable(view: ClusterView) -> ClusterView:
    """Return the view with links from the client to each node."""
    return cluster(*view.nodes, delays={"client": {node.name: 0.01 for node in view.nodes}})


def test_every_job_gets_one_decision_in_the_order_of_the_queue(each: Scheduler) -> None:
    view = reachable(cluster(node("a", cpu=2), node("b", cpu=1)))

    decisions = decide(each, jobs(5), view)

    assert [decision.job for decision in decisions] == [f"job-{number}" for number in range(5)]
    assert [type(decision) for decision in decisions] == [Place] * 3 + [Wait] * 2


def test_an_empty_queue_needs_no_decision(each: Scheduler) -> None:
    assert list(decide(each, [], reachable(cluster(node("a"))))) == []


def test_no_node_is_ever_given_more_than_it_has(each: Scheduler) -> None:
    rng = random.Random(7)
    for _ in range(50):
        view, queue = some_cluster(rng), some_jobs(rng)

        decisions = decide(each, queue, view, seed=rng.randrange(1000))

        check_nothing_is_overcommitted(view, queue, places(decisions))


def test_whoever_waits_would_not_have_fitted_anywhere(each: Scheduler) -> None:
    rng = random.Random(8)
    for _ in range(30):
        view, queue = some_cluster(rng), some_jobs(rng)

        found = places(decide(each, queue, view))

        free = {
            one.name: one.allocatable.millicores - one.requested.millicores for one in view.nodes
        }
        for asked, place in zip(queue, found, strict=True):
            if place is not None:
                free[place] -= asked.resources.millicores
            elif asked.resources.memory == 0:
                assert all(room < asked.resources.millicores for room in free.values())


def test_the_same_seed_gives_the_same_places(each: Scheduler) -> None:
    view = reachable(cluster(*(node(f"n{number}", cpu=20) for number in range(9))))
    again = type(each)()

    first = places(decide(each, jobs(40), view, seed=5))

    assert places(decide(again, jobs(40), view, seed=5)) == first


def test_jobs_go_only_where_they_are_allowed(each: Scheduler) -> None:
    view = reachable(cluster(node("a"), node("b"), node("c")))

    decisions = decide(each, [job(number, nodes=["b"]) for number in range(5)], view)

    assert places(decisions) == ["b"] * 4 + [None]


def test_nodes_that_are_not_ready_get_nothing(each: Scheduler) -> None:
    view = reachable(cluster(node("a", ready=False), node("b")))

    assert places(decide(each, jobs(3), view)) == ["b"] * 3


def test_what_is_placed_already_counts(each: Scheduler) -> None:
    view = reachable(cluster(node("a", cpu=4, holds=[amounts(3, 64)]), node("b", cpu=1)))

    found = places(decide(each, jobs(3), view))

    assert sorted(place or "-" for place in found) == ["-", "a", "b"]


def test_ten_tenths_of_a_core_fit_one_core(each: Scheduler) -> None:
    view = reachable(cluster(node("a", cpu=1.0)))

    assert places(decide(each, jobs(11, cpu=0.1), view)) == ["a"] * 10 + [None]


def test_a_job_that_asks_for_nothing_fits_a_full_node(each: Scheduler) -> None:
    view = reachable(cluster(node("a", cpu=1, holds=[amounts(2, 8192)])))

    assert places(decide(each, [job(cpu=0, memory=0)], view)) == ["a"]


def test_a_wait_says_what_is_missing_where() -> None:
    view = cluster(
        *(node(f"full-{number}", cpu=1) for number in range(5)),
        *(node(f"down-{number}", cpu=8, ready=False) for number in range(2)),
    )

    (decision,) = decide(scheduler("random"), [job(cpu=2)], view)

    assert decision == Wait("job-0", "0/7 nodes: 5 lack cpu, 2 not ready")


def test_a_node_counts_under_each_thing_it_lacks() -> None:
    view = cluster(node("a", cpu=1, memory=64))

    (decision,) = decide(scheduler("random"), [job(cpu=2, memory=128, disk=1000)], view)

    assert decision == Wait("job-0", "0/1 nodes: 1 lack cpu, 1 lack disk, 1 lack memory")


def test_a_cluster_without_nodes_is_named() -> None:
    assert decide(scheduler("random"), [job()], cluster()) == (
        Wait("job-0", "0/0 nodes: there are none"),
    )


def test_disallowed_nodes_are_counted() -> None:
    (decision,) = decide(scheduler("random"), [job(nodes=["x"])], cluster(node("a")))

    assert decision == Wait("job-0", "0/1 nodes: 1 not allowed")


@pytest.mark.parametrize(("cpu", "millicores"), [(0.0, 0), (0.1, 100), (0.0001, 1), (2.5, 2500)])
def test_cpu_is_counted_in_whole_thousandths_rounded_up(cpu: float, millicores: int) -> None:
    assert Resources(cpu).millicores == millicores


@pytest.mark.parametrize("wrong", [-1.0, float("nan"), float("inf")])
def test_impossible_amounts_are_refused(wrong: float) -> None:
    with pytest.raises(ValueError, match="cpu must be zero or more"):
        Resources(cpu=wrong)


def some_cluster(rng: random.Random) -> ClusterView:
    nodes = [
        node(
            f"n{number}",
            cpu=rng.choice([0.5, 1, 2, 4]),
            memory=rng.choice([128, 512, 2048]),
            holds=[amounts(0.2, 32)] * rng.randrange(3),
            ready=rng.random() < 0.8,
        )
        for number in range(rng.randrange(1, 6))
    ]
    return reachable(cluster(*nodes)) if all(one.ready for one in nodes) else some_cluster(rng)


def some_jobs(rng: random.Random) -> list[Job]:
    return [
        job(number, cpu=rng.choice([0, 0.1, 0.3, 1, 3]), memory=rng.choice([0, 0, 64, 300]))
        for number in range(rng.randrange(1, 30))
    ]


def check_nothing_is_overcommitted(
    view: ClusterView, queue: list[Job], found: list[str | None]
) -> None:
    millicores: dict[str, int] = defaultdict(int)
    memory: dict[str, int] = defaultdict(int)
    for asked, place in zip(queue, found, strict=True):
        if place is not None:
            millicores[place] += asked.resources.millicores
            memory[place] += asked.resources.memory
    for one in view.nodes:
        assert millicores[one.name] <= one.allocatable.millicores - one.requested.millicores
        assert memory[one.name] <= one.allocatable.memory - one.requested.memory
