# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import random
from collections.abc import Sequence
from typing import get_args

import pytest

from pkgctl.errors import SpecError
from pkgctl.scheduling.decision import Decision, Preempt
from pkgctl.scheduling.job import Job
from pkgctl.scheduling.registry import PROVISIONERS, SCHEDULERS, provisioner, scheduler
from pkgctl.scheduling.view import ClusterView
from tests.unit.scheduling.clusters import cluster, decide, job, node


class Pushy:
    """A scheduler of a user's own, which displaces whatever is there."""

    def place(
        self, queue: Sequence[Job], view: ClusterView, rng: random.Random
    ) -> Sequence[Decision]:
        victims = tuple(placed.id for placed in view.nodes[0].jobs)
        return [Preempt(each.id, view.nodes[0].name, victims) for each in queue]


def test_each_name_gives_a_new_scheduler() -> None:
    for name in SCHEDULERS:
        assert scheduler(name) is not scheduler(name)


def test_each_name_gives_a_provisioner() -> None:
    for name in PROVISIONERS:
        assert provisioner(name).plan(cluster(node("a")), []) == ()


def test_an_unknown_name_gets_a_hint() -> None:
    with pytest.raises(SpecError, match=r"'least-alocated'.*did you mean least-allocated\?"):
        scheduler("least-alocated")
    with pytest.raises(SpecError, match=r"'prefetch'; did you mean prefetched\?"):
        provisioner("prefetch")


def test_a_class_of_the_users_own_is_found_by_its_address() -> None:
    own = scheduler(f"{__name__}:Pushy")

    assert decide(own, [job()], cluster(node("a"))) == [Preempt("job-0", "a", ())]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("no.such.module:Class", "cannot be imported"),
        ("random:NoSuchClass", "cannot be imported"),
        (":Class", "cannot be imported"),
        ("random:Random", "no method 'place'"),
    ],
)
def test_an_address_that_leads_nowhere_is_named(name: str, said: str) -> None:
    with pytest.raises(SpecError, match=said):
        scheduler(name)


def test_a_decision_is_one_of_four() -> None:
    assert {kind.__name__ for kind in get_args(Decision)} == {"Place", "Wait", "Reject", "Preempt"}
