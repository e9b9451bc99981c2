# SPDX-License-Identifier: GPL-3.0-or-later
"""Our scheduler killed, stopped and cut off in the middle of its work.

The pods of these tests fill the cluster to the last: six fit a node, and there are six for each. So
a pod that is bound by mistake shows as a node that is overfull, or as a pod that finds no place.
"""

from __future__ import annotations

import itertools
import signal
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from pkgctl.cluster.client import Api
from pkgctl.scheduling.allocation import LeastAllocated

from .controlplane import ControlPlane
from .schedulers import BOUND_BY, Desk, Witness, desk, overfull

pytestmark = pytest.mark.kubernetes("control-plane", "kwok")
NODES, CPU = 50, "1300m"  # of 8 cores each
PODS = 6 * NODES
# Three hundred pods are bound within a second, so whoever is to be caught at it makes a pause.
PAUSE_SECONDS = 5.0
SLOWLY = ("--policy", "tests.kubernetes.test_scheduler_lost:Slow")
_numbers = itertools.count()


class Slow(LeastAllocated):
    """Takes its time for all pods but the first hundred or so."""

    def __init__(self):
        self._has_begun = False

    def place(self, queue, view, rng):
        if self._has_begun:
            time.sleep(PAUSE_SECONDS)
        self._has_begun = True
        return super().place(queue, view, rng)


@pytest.fixture
def here(plane: ControlPlane, api: Api, account: Path) -> Iterator[Desk]:
    with desk(plane, api, f"lost-{next(_numbers)}", account) as made:
        yield made


def check_full(here: Desk, witness: Witness | None = None) -> None:
    """Every pod has its node, none ever had two, and every node is just full."""
    found = here.bound()
    assert len(found) == len(here.pods()) == PODS
    assert overfull(here.api) == {}
    assert set(Counter(found.values()).values()) == {6}
    if witness is not None:
        seen = witness.stop()
        assert len(seen) == PODS
        assert {len(nodes) for nodes in seen.values()} == {1}


def by_whom(here: Desk) -> Counter[str]:
    return Counter(
        each["metadata"]["annotations"][BOUND_BY]
        for each in here.pods()
        if each["spec"].get("nodeName")
    )


def test_no_pod_is_bound_twice_or_left_behind_when_it_is_killed_and_started_again(here):
    witness = Witness(here.api, here.path)
    here.make(PODS, cpu=CPU)
    first = here.scheduler(*SLOWLY)
    witness.wait(20)
    first.kill()
    time.sleep(2)  # for what is on its way
    left = PODS - len(here.bound())
    time.sleep(0.5)
    assert len(here.bound()) == PODS - left  # nobody else binds
    assert left > 0

    again = here.scheduler()

    here.wait_bound(PODS)
    check_full(here, witness)
    assert len(by_whom(here)) == 2
    assert again.end() == 0
    assert f"stopped; {left} pods were bound" in again.said()


def test_it_can_be_killed_again_and_again(here):
    witness = Witness(here.api, here.path)
    here.make(PODS, cpu=CPU)
    for _ in range(3):
        before = len(here.bound())
        killed = here.scheduler(*SLOWLY)
        witness.wait(before + 20)
        killed.kill()

    here.scheduler()

    here.wait_bound(PODS)
    check_full(here, witness)


def test_one_that_is_stopped_in_the_middle_is_dead_before_another_takes_over(here):
    witness = Witness(here.api, here.path)
    here.make(PODS, cpu=CPU)
    stopped = here.scheduler(*SLOWLY)
    witness.wait(20)
    stopped.signal(signal.SIGSTOP)  # with bindings decided that are not sent
    time.sleep(2)
    ((old, before),) = by_whom(here).items()
    assert before < PODS
    other = here.scheduler()
    here.wait_for(lambda: here.holder() not in ("", old), "the other to have the lease")

    assert stopped.process.poll() == -signal.SIGKILL
    here.wait_bound(PODS)
    check_full(here, witness)
    assert by_whom(here)[old] == before
    assert other.process.poll() is None


def test_one_that_goes_on_after_another_took_over_does_nothing_and_waits_for_its_turn(here):
    here.make(PODS // 2, "early", cpu=CPU)
    stopped = here.scheduler(is_part=True)
    here.wait_bound(PODS // 2)
    old = here.holder()
    second = here.scheduler()
    here.wait_for(lambda: f"waiting: {old} has the lease" in second.said(), "the second to wait")
    stopped.signal(signal.SIGSTOP)
    here.make(PODS // 2, "late", cpu=CPU)  # it finds them waiting, as it will see it

    here.wait_bound(PODS)  # by the second, when the lease has run out
    new = here.holder()
    assert new != old
    check_full(here)
    stopped.signal(signal.SIGCONT)

    here.wait_for(lambda: f"waiting: {new} has the lease" in stopped.said(), "the first to wait")
    assert "the lease is lost" in stopped.said()
    for name in sorted(here.bound())[:12]:
        here.api.delete(f"{here.path}/{name}", {"gracePeriodSeconds": 0})
    here.make(12, "after", cpu=CPU)
    here.wait_bound(PODS)
    check_full(here)
    bound = {each["metadata"]["name"]: each["metadata"]["annotations"] for each in here.pods()}
    mine = {name for name, notes in bound.items() if notes[BOUND_BY] == old}
    assert {name.partition("-")[0] for name in mine} == {"early"}

    # Its turn comes at once when the other ends in good order, for that gives the lease back.
    assert second.end() == 0
    assert here.holder() in ("", old)
    here.wait_for(lambda: here.holder() == old, "the first to take over")
    stopped.kill()


def test_it_goes_on_when_the_api_is_started_again_in_the_middle(here):
    witness = Witness(here.api, here.path)
    here.make(PODS, cpu=CPU)
    scheduler = here.scheduler(*SLOWLY)
    witness.wait(20)

    here.plane.stop_api()
    here.plane.start_api()

    assert len(witness.stop()) < PODS
    here.wait_bound(PODS)
    check_full(here)
    assert scheduler.process.poll() is None


def test_it_goes_on_when_the_api_was_gone_for_half_a_minute(here):
    witness = Witness(here.api, here.path)
    here.make(PODS, cpu=CPU)
    scheduler = here.scheduler(*SLOWLY)
    witness.wait(20)

    here.plane.stop_api()
    time.sleep(30)
    here.plane.start_api()

    assert len(witness.stop()) < PODS
    here.wait_bound(PODS)
    check_full(here)
    assert scheduler.process.poll() is None
    assert set(by_whom(here)) == {here.holder()}
    assert "does not answer" in scheduler.said()


def test_a_waiting_one_takes_over_from_one_that_was_killed(here):
    first, second = here.scheduler(), here.scheduler()
    here.wait_for(lambda: "waiting: " in first.said() + second.said(), "one of them to wait")
    leading, waiting = (first, second) if "scheduling the pods" in first.said() else (second, first)
    here.make(PODS // 2, "early", cpu=CPU)
    here.wait_bound(PODS // 2)
    leading.kill()

    here.make(PODS // 2, "late", cpu=CPU)

    here.wait_bound(PODS)
    check_full(here)
    assert "scheduling the pods" in waiting.said()
