# SPDX-License-Identifier: GPL-3.0-or-later
"""That jobs which are alike are placed as if each had been looked at by itself."""

from __future__ import annotations

import dataclasses
import random
from collections import Counter
from collections.abc import Iterable, Sequence

import pytest

from pkgctl.scheduling import allocation, placing
from pkgctl.scheduling.decision import Decision, Place, Wait
from pkgctl.scheduling.job import Job
from pkgctl.scheduling.placing import Room, explain
from pkgctl.scheduling.view import ClusterView
from tests.unit.scheduling.clusters import amounts, cluster, job, node


def one_by_one(
    queue: Iterable[Job], view: ClusterView, score: allocation.Score, rng: random.Random
) -> list[Decision]:
    """Look at every room for every job, and remember nothing."""
    rooms, decisions = [Room(each) for each in view.nodes], list[Decision]()
    for each in queue:
        found = [list(room.obstacles(each)) for room in rooms]
        fitting = [room for room, why in zip(rooms, found, strict=True) if not why]
        if not fitting:
            words = Counter(word for why in found for word in why)
            decisions.append(Wait(each.id, explain(len(rooms), words)))
            continue
        scores = [allocation.node_score(score, each, room) for room in fitting]
        best = [room for room, own in zip(fitting, scores, strict=True) if own == max(scores)]
        chosen = rng.choice(best)
        chosen.take(each.resources)
        decisions.append(Place(each.id, chosen.node.name))
    return decisions


def some_view(rng: random.Random) -> ClusterView:
    nodes = [
        node(
            f"n{number:02}",
            cpu=rng.choice([0.5, 1, 2, 4]),
            memory=rng.choice([256, 512, 2048]),
            holds=[amounts(0.2, 32)] * rng.randrange(3),
            ready=rng.random() < 0.9,
        )
        for number in range(rng.randrange(1, 14))
    ]
    slots = [None, 2, 5, 9]
    return cluster(*(dataclasses.replace(each, slots=rng.choice(slots)) for each in nodes))


def some_queue(rng: random.Random, view: ClusterView) -> Sequence[Job]:
    names = [each.name for each in view.nodes]
    some = [None, None, names[::2], names[1::3]]
    return [
        job(
            number,
            cpu=rng.choice([0, 0.1, 0.3]),
            memory=rng.choice([0, 64]),
            nodes=rng.choice(some),
        )
        for number in range(60)
    ]


@pytest.mark.parametrize(
    ("scheduler", "score"),
    [
        (allocation.LeastAllocated(), allocation.least_allocated),
        (allocation.MostAllocated(), allocation.most_allocated),
    ],
)
def test_every_decision_is_that_of_looking_at_each_job_alone(scheduler, score):
    rng, waits = random.Random(11), 0
    for seed in range(150):
        view = some_view(rng)
        queue = some_queue(rng, view)

        found = scheduler.place(queue, view, random.Random(seed))

        assert list(found) == one_by_one(queue, view, score, random.Random(seed))
        waits += sum(isinstance(each, Wait) for each in found)
    assert waits > 500  # full clusters were among them


def test_a_long_queue_of_like_jobs_looks_at_each_node_once_and_then_where_something_went(
    monkeypatch,
):
    looked = Counter[str]()
    real = placing.Room.fits

    def fits(room, asked):
        looked[room.node.name] += 1
        return real(room, asked)

    monkeypatch.setattr(placing.Room, "fits", fits)
    view = cluster(*(node(f"n{number}", cpu=100) for number in range(20)))

    allocation.LeastAllocated().place(
        [job(number, cpu=0.1) for number in range(400)], view, random.Random(1)
    )

    assert looked.total() <= 20 + 400


def test_a_node_takes_no_more_jobs_than_it_has_slots():
    view = cluster(dataclasses.replace(node("a", holds=[amounts(0, 0)]), slots=3))

    found = allocation.LeastAllocated().place(
        [job(number, cpu=0, memory=0) for number in range(3)], view, random.Random(1)
    )

    assert found == (
        Place("job-0", "a"),
        Place("job-1", "a"),
        Wait("job-2", "0/1 nodes: 1 no slot"),
    )
