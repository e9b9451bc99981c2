# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import dataclasses
import math

import pytest

from pkgctl.nodeside import Quality
from pkgctl.scheduling.resources import Resources
from pkgctl.scheduling.view import ClusterView
from tests.unit.scheduling.clusters import amounts, cluster, job, node


def test_requested_is_the_sum_over_the_jobs() -> None:
    one = node("a", holds=[amounts(0.1, 100)] * 10)

    assert one.requested == amounts(1.0, 1000)


def test_nodes_are_found_by_name() -> None:
    view = cluster(node("a"), node("b"))

    assert view.by_name["b"] is view.nodes[1]


def test_delays_are_those_of_the_links() -> None:
    links = {"a": {"b": Quality(delay=0.02), "c": Quality(loss=1.0)}}
    view = ClusterView(nodes=(), links=links)

    assert view.delay("a", "b") == 0.02
    assert view.delay("a", "a") == 0.0
    assert view.delay("b", "a") == math.inf
    assert view.delay("a", "c") == math.inf


def test_a_view_cannot_be_changed() -> None:
    view = cluster(node("a"))

    with pytest.raises(dataclasses.FrozenInstanceError):
        view.nodes = ()  # type: ignore[misc]
    with pytest.raises(dataclasses.FrozenInstanceError):
        view.nodes[0].allocatable = Resources()  # type: ignore[misc]


def test_jobs_can_be_kept_in_sets() -> None:
    assert len({job(1, clients={"a": 1.0}), job(1, clients={"a": 1.0}), job(2)}) == 2
