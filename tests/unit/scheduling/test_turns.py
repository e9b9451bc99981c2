# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import random
from collections import Counter

from pkgctl.scheduling.turns import Random, RoundRobin
from tests.unit.scheduling.clusters import cluster, decide, job, jobs, node, places


def test_round_robin_takes_the_nodes_in_turn_by_name() -> None:
    view = cluster(node("b"), node("c"), node("a"))

    assert places(decide(RoundRobin(), jobs(7), view)) == ["a", "b", "c", "a", "b", "c", "a"]


def test_round_robin_goes_on_in_the_next_call() -> None:
    view, scheduler = cluster(node("a"), node("b"), node("c")), RoundRobin()

    found = [places(decide(scheduler, [job(number)], view))[0] for number in range(4)]

    assert found == ["a", "b", "c", "a"]


def test_round_robin_stays_fair_when_nodes_come_and_go() -> None:
    nodes = [node(f"n{number}", cpu=1000) for number in range(5)]
    scheduler, rng, counts = RoundRobin(), random.Random(2), Counter[str | None]()
    for number in range(1000):
        away = rng.randrange(5)
        view = cluster(*(one for index, one in enumerate(nodes) if index != away))
        counts.update(places(decide(scheduler, [job(number)], view)))

    assert all(150 < counts[one.name] < 250 for one in nodes)


def test_round_robin_keeps_its_turn_when_the_last_node_served_is_gone() -> None:
    scheduler = RoundRobin()
    decide(scheduler, jobs(2), cluster(node("a"), node("b"), node("c")))

    assert places(decide(scheduler, jobs(2), cluster(node("a"), node("c")))) == ["c", "a"]


def test_round_robin_passes_over_full_nodes() -> None:
    view = cluster(node("a", cpu=2), node("b", cpu=1), node("c", cpu=2))

    assert places(decide(RoundRobin(), jobs(5), view)) == ["a", "b", "c", "a", "c"]


def test_random_takes_each_node_equally_often() -> None:
    view, scheduler, rng = cluster(node("a"), node("b"), node("c")), Random(), random.Random(4)

    counts = Counter(places(scheduler.place([job()], view, rng))[0] for _ in range(3000))

    # Five standard deviations of a binomial with n = 3000, p = 1/3.
    assert all(abs(count - 1000) < 130 for count in counts.values())


def test_random_depends_on_the_generator_alone() -> None:
    view = cluster(*(node(f"n{number}", cpu=100) for number in range(10)))

    runs = [places(decide(Random(), jobs(50), view, seed=seed)) for seed in (1, 1, 2)]

    assert runs[0] == runs[1] != runs[2]
