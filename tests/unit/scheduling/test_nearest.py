# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest

from pkgctl.nodeside import Quality
from pkgctl.scheduling.decision import Reject, Wait
from pkgctl.scheduling.nearest import Nearest
from pkgctl.scheduling.view import ClusterView
from tests.unit.scheduling.clusters import cluster, decide, job, node, places

DELAYS = {
    "client": {"cloud": 0.04, "edge": 0.002, "far": 0.1},
    "other": {"cloud": 0.03, "edge": 0.2, "far": 0.1},
}


def three(cpu: float = 4.0) -> ClusterView:
    return cluster(node("cloud", cpu), node("edge", cpu), node("far", cpu), delays=DELAYS)


def test_the_node_with_the_smallest_delay_from_the_origin_wins() -> None:
    assert places(decide(Nearest(), [job()], three())) == ["edge"]


def test_full_nodes_spill_over_to_the_next() -> None:
    queue = [job(number) for number in range(7)]

    found = places(decide(Nearest(), queue, three(cpu=2)))

    assert found == ["edge", "edge", "cloud", "cloud", "far", "far", None]


def test_the_origin_itself_is_at_no_distance() -> None:
    assert places(decide(Nearest(), [job(origin="far")], three())) == ["far"]


@pytest.mark.parametrize(
    ("weights", "best"),
    [
        ({"client": 1.0, "other": 1.0}, "cloud"),  # cloud 35 ms, edge 101 ms, far 100 ms
        ({"client": 50.0, "other": 1.0}, "edge"),  # edge about 6 ms, cloud about 40 ms
        ({"client": 1.0, "other": 0.0}, "edge"),
    ],
)
def test_clients_count_by_their_weights(weights: dict[str, float], best: str) -> None:
    assert places(decide(Nearest(), [job(clients=weights, origin=None)], three())) == [best]


def test_equal_delays_go_by_name() -> None:
    view = cluster(node("b"), node("a"), delays={"client": {"a": 0.01, "b": 0.01}})

    assert places(decide(Nearest(), [job()], view)) == ["a"]


def test_nodes_out_of_reach_get_nothing() -> None:
    links = {"client": {"down": Quality(delay=0.001, loss=1.0), "there": Quality(delay=0.05)}}
    view = ClusterView(nodes=(node("down"), node("there"), node("unlisted")), links=links)

    decisions = decide(Nearest(), [job(number) for number in range(5)], view)

    assert places(decisions) == ["there"] * 4 + [None]
    assert decisions[-1] == Wait("job-4", "0/3 nodes: 2 out of reach, 1 lack cpu")


def test_a_job_that_nobody_uses_is_rejected_and_the_others_are_placed() -> None:
    queue = [job(0), job(1, origin=None), job(2)]

    decisions = decide(Nearest(), queue, three())

    assert places(decisions) == ["edge", None, "edge"]
    assert isinstance(decisions[1], Reject)
    assert "neither clients nor an origin" in decisions[1].reason
