# SPDX-License-Identifier: GPL-3.0-or-later
"""Our scheduler on a real API: where pods go, where they do not, and what is said about it."""

from __future__ import annotations

import itertools
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from pkgctl.cluster.client import Api
from pkgctl.scheduling.decision import Preempt
from pkgctl.scheduling.placing import place_each

from .controlplane import ControlPlane
from .schedulers import BOUND_BY, Desk, desk, overfull, pod

pytestmark = pytest.mark.kubernetes("control-plane", "kwok")
NODES = 6
_numbers = itertools.count()


@pytest.fixture
def here(plane: ControlPlane, api: Api, account: Path) -> Iterator[Desk]:
    """A namespace, and a scheduler with no other rights than those of its account."""
    with desk(plane, api, f"test-{next(_numbers)}", account) as made:
        made.scheduler()
        yield made


def change_node(api: Api, name: str, *, kind: str = "merge", **body: object) -> None:
    api.patch(f"/api/v1/nodes/{name}", body, kind=kind)


def test_pods_are_bound_and_run_with_an_event_for_each(here):
    here.make(24, cpu="1")

    found = here.wait_bound(24)

    assert sorted(Counter(found.values()).values()) == [4] * NODES  # spread evenly
    assert overfull(here.api) == {}
    here.wait_for(lambda: here.events("pod-23", "Scheduled"), "the event")
    assert here.events("pod-23", "Scheduled") == [
        f"Successfully assigned {here.namespace}/pod-23 to {found['pod-23']}"
    ]
    by = {each["metadata"]["annotations"][BOUND_BY] for each in here.pods()}
    assert by == {here.holder()}
    here.wait_for(
        lambda: {each["status"]["phase"] for each in here.pods()} == {"Running"}, "pods to run"
    )


def test_pods_of_other_schedulers_and_gated_pods_are_left_alone(here):
    here.api.post(here.path, pod("theirs", scheduler="somebody-else"))
    here.api.post(here.path, pod("gated", schedulingGates=[{"name": "wait/for-it"}]))
    here.make(1)
    here.wait_bound(1)
    time.sleep(1)
    assert set(here.bound()) == {"pod-0"}

    here.api.patch(f"{here.path}/gated", {"spec": {"schedulingGates": []}})

    assert set(here.wait_bound(2)) == {"pod-0", "gated"}


def test_a_pod_that_fits_nowhere_says_why_once_and_goes_when_there_is_room(here):
    here.make(1, cpu="9")
    here.wait_for(lambda: here.events("pod-0", "FailedScheduling"), "the event")
    for number in range(5):  # changes that do not help
        change_node(here.api, "fake-0", metadata={"labels": {"count": str(number)}})
    here.make(1, "other")
    here.wait_bound(1)
    time.sleep(1)
    assert here.events("pod-0", "FailedScheduling") == [f"0/{NODES} nodes: {NODES} lack cpu"]

    status = {"status": {"allocatable": {"cpu": "10"}, "capacity": {"cpu": "10"}}}
    here.api.patch("/api/v1/nodes/fake-3/status", status)

    try:
        assert here.wait_bound(2)["pod-0"] == "fake-3"
        assert len(here.events("pod-0", "FailedScheduling")) == 1
    finally:
        status["status"] = {"allocatable": {"cpu": "8"}, "capacity": {"cpu": "8"}}
        here.api.patch("/api/v1/nodes/fake-3/status", status)


def test_a_pod_that_leaves_makes_room_for_one_that_waits(here):
    here.make(NODES, "large", cpu="7")
    here.wait_bound(NODES)
    here.make(1, "next", cpu="7")
    here.wait_for(lambda: here.events("next-0", "FailedScheduling"), "the event")
    freed = here.node_of("large-2")

    here.api.delete(f"{here.path}/large-2", {"gracePeriodSeconds": 0})

    here.wait_for(lambda: here.node_of("next-0") == freed, "the next to take its place")


def test_a_resize_in_place_makes_room_for_one_that_waits(here):
    here.make(NODES, "large", cpu="7")
    here.wait_bound(NODES)
    here.make(1, "next", cpu="6")
    here.wait_for(lambda: here.events("next-0", "FailedScheduling"), "the event")
    smaller = {"containers": [{"name": "main", "resources": {"requests": {"cpu": "1"}}}]}

    here.api.patch(f"{here.path}/large-1/resize", {"spec": smaller}, kind="strategic")

    here.wait_for(lambda: here.node_of("next-0") == here.node_of("large-1"), "the room to be seen")


def test_a_cordoned_a_tainted_and_an_unready_node_get_nothing(here):
    taint = {"key": "only", "value": "some", "effect": "NoSchedule"}
    change_node(here.api, "fake-0", spec={"unschedulable": True})
    change_node(here.api, "fake-1", spec={"taints": [taint]})
    try:
        bearing = [{"key": "only", "operator": "Equal", "value": "some", "effect": "NoSchedule"}]
        here.make(12)
        here.make(12, "bearing", tolerations=bearing)
        found = here.wait_bound(24)
    finally:
        change_node(here.api, "fake-0", spec={"unschedulable": None})
        change_node(here.api, "fake-1", spec={"taints": None})

    plain = {node for name, node in found.items() if name.startswith("pod")}
    others = {node for name, node in found.items() if name.startswith("bearing")}
    assert plain == {f"fake-{number}" for number in range(2, NODES)}
    assert others == plain | {"fake-1"}


def affinity(*expressions: dict[str, object]) -> dict[str, object]:
    terms = {"nodeSelectorTerms": [{"matchExpressions": list(expressions)}]}
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}}


@pytest.mark.parametrize(
    ("wish", "nodes"),
    [
        ({"nodeSelector": {"site": "north"}}, {"fake-0", "fake-1"}),
        (
            {"affinity": affinity({"key": "site", "operator": "NotIn", "values": ["north"]})},
            {"fake-2", "fake-3", "fake-4", "fake-5"},
        ),
        ({"affinity": affinity({"key": "size", "operator": "Gt", "values": ["4"]})}, {"fake-5"}),
        (
            {
                "nodeSelector": {"site": "north"},
                "affinity": affinity({"key": "size", "operator": "Exists"}),
            },
            {"fake-0", "fake-1"},
        ),
    ],
    ids=["selector", "not in", "greater", "both"],
)
def test_pods_go_where_their_selector_and_affinity_let_them(here, wish, nodes):
    for number in range(NODES):
        labels = {"site": "north" if number < 2 else "south", "size": str(number)}
        change_node(here.api, f"fake-{number}", metadata={"labels": labels})

    here.make(12, **wish)

    assert set(here.wait_bound(12).values()) == nodes


def test_ports_of_a_node_are_given_once(here):
    here.make(NODES + 1, ports=[8080])

    found = here.wait_bound(NODES)

    assert len(set(found.values())) == NODES
    (left,) = {f"pod-{number}" for number in range(NODES + 1)} - set(found)
    here.wait_for(lambda: here.events(left, "FailedScheduling"), "the event")
    assert "have the port taken" in here.events(left, "FailedScheduling")[0]


def test_other_resources_are_counted(here):
    amounts = {"lab/thing": "3"}
    here.api.patch(
        "/api/v1/nodes/fake-4/status", {"status": {"allocatable": amounts, "capacity": amounts}}
    )

    here.make(4, asked={"lab/thing": "1"})

    assert set(here.wait_bound(3).values()) == {"fake-4"}
    time.sleep(1)
    assert len(here.bound()) == 3


def waiting_for_slots(here: Desk) -> list[str]:
    notes = [note for n in range(3) for note in here.events(f"pod-{n}", "FailedScheduling")]
    return [note for note in notes if "1 no slot" in note]


def test_a_node_takes_no_more_pods_than_it_may(here):
    few = {"status": {"allocatable": {"pods": "2"}, "capacity": {"pods": "2"}}}
    many = {"status": {"allocatable": {"pods": "110"}, "capacity": {"pods": "110"}}}
    here.api.patch("/api/v1/nodes/fake-0/status", few)
    try:
        here.make(3, cpu="1m", nodeSelector={"kubernetes.io/hostname": "fake-0"})
        here.wait_bound(2)
        here.wait_for(
            lambda: [
                each for n in range(3) for each in here.events(f"pod-{n}", "FailedScheduling")
            ],
            "the event",
        )
        assert len(here.bound()) == 2
    finally:
        here.api.patch("/api/v1/nodes/fake-0/status", many)
    here.wait_bound(3)


def test_a_lowered_node_is_seen_without_its_kubelet(here):
    less = {"pkgctl.dev/millicores": "500"}
    lowered = {"status": {"allocatable": less, "capacity": less}}
    here.api.patch("/api/v1/nodes/fake-0/status", lowered)
    try:
        here.make(2, cpu="400m", nodeSelector={"kubernetes.io/hostname": "fake-0"})
        here.wait_bound(1)
        time.sleep(1)
        assert len(here.bound()) == 1
    finally:
        none = {"pkgctl.dev/millicores": None}
        here.api.patch(
            "/api/v1/nodes/fake-0/status", {"status": {"allocatable": none, "capacity": none}}
        )
    here.wait_bound(2)


def test_the_higher_priority_goes_first(plane, api, account):
    classes = "/apis/scheduling.k8s.io/v1/priorityclasses"
    api.post(classes, {"metadata": {"name": "urgent"}, "value": 1000})
    with desk(plane, api, "priorities", account) as here:
        here.make(NODES, "low", cpu="7")
        here.make(NODES, "high", cpu="7", priorityClassName="urgent")
        here.scheduler()

        found = here.wait_bound(NODES)

        assert {name.partition("-")[0] for name in found} == {"high"}


def test_what_it_cannot_give_is_named_and_the_pod_is_not_bound(here):
    label = {"labelSelector": {"matchLabels": {"a": "b"}}, "topologyKey": "kubernetes.io/hostname"}
    apart = {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [label]}}
    here.make(1, affinity=apart)
    here.make(1, "claiming", volumes=[{"name": "v", "persistentVolumeClaim": {"claimName": "c"}}])

    for name, words in (("pod-0", "required podAntiAffinity"), ("claiming-0", "volumes by claim")):
        here.wait_for(lambda name=name: here.events(name, "FailedScheduling"), "the event")
        assert words in here.events(name, "FailedScheduling")[0]
    assert here.bound() == {}


def test_a_pod_chooses_its_policy_among_those_that_are_known(here):
    here.make(4, "packed", cpu="1", annotations={"pkgctl.dev/policy": "most-allocated"})
    here.make(1, "odd", annotations={"pkgctl.dev/policy": "os:system"})

    assert len(set(here.wait_bound(4).values())) == 1
    here.wait_for(lambda: here.events("odd-0", "FailedScheduling"), "the event")
    assert "no scheduler is called 'os:system'" in here.events("odd-0", "FailedScheduling")[0]


class Displacing:
    """Places where there is room, else evicts one pod of lower priority."""

    def place(self, queue, view, rng):
        placed = place_each(queue, view, lambda job, rooms: rooms[0])
        return [
            decision if hasattr(decision, "node") else self.displace(job, view, decision)
            for job, decision in zip(queue, placed, strict=True)
        ]

    def displace(self, job, view, decision):
        for node in view.nodes:
            for there in node.jobs:
                if there.priority < job.priority:
                    return Preempt(job.id, node.name, (there.id,))
        return decision


def test_a_policy_can_have_pods_evicted_for_a_more_urgent_one(plane, api, account):
    api.post(
        "/apis/scheduling.k8s.io/v1/priorityclasses",
        {"metadata": {"name": "pressing"}, "value": 5000},
    )
    with desk(plane, api, "eviction", account) as here:
        here.scheduler("--policy", "tests.kubernetes.test_scheduler:Displacing")
        here.make(NODES, "low", cpu="7", terminationGracePeriodSeconds=0)
        here.wait_bound(NODES)

        here.make(1, "high", cpu="7", priorityClassName="pressing")

        here.wait_for(lambda: here.node_of("high-0"), "the urgent pod to be bound")
        left = {each["metadata"]["name"] for each in here.pods()}
        (gone,) = {f"low-{number}" for number in range(NODES)} - left
        here.wait_for(lambda: here.events(gone, "Preempted"), "the event")
        assert overfull(api) == {}


def test_a_mixed_crowd_comes_and_goes_and_no_node_is_ever_overfull(here):
    rng = random.Random(5)
    for number in range(3):
        cpu = f"{rng.choice([300, 700, 1100])}m"
        here.make(30, f"crowd-{number}", cpu=cpu)
        here.wait_for(lambda: len(here.bound()) >= 25, "most of them")
        for name in rng.sample(sorted(here.bound()), 20):
            here.api.delete(f"{here.path}/{name}", {"gracePeriodSeconds": 0})
        assert overfull(here.api) == {}

    here.wait_for(lambda: len(here.bound()) == len(here.pods()) == 30, "all to be bound")
    assert overfull(here.api) == {}


def test_its_account_may_do_nothing_else(plane, account):
    def may(verb: str, what: str, *more: str) -> bool:
        try:
            words = ["auth", "can-i", verb, what, *more, "--kubeconfig", str(account), "-q"]
            plane.kubectl(*words)
        except AssertionError:
            return False
        return True

    assert may("create", "pods", "--subresource=binding", "-A")
    assert may("update", "leases/pkgctl-scheduler", "-n", "pkgctl")
    for verb, what in (
        ("create", "pods"),
        ("delete", "pods"),
        ("patch", "nodes"),
        ("get", "secrets"),
        ("update", "leases/kube-scheduler"),
        ("list", "configmaps"),
    ):
        assert not may(verb, what, "-A")


def test_who_may_not_schedule_is_told_in_one_line(plane, api, account):
    with desk(plane, api, "nobody", account) as here:
        nobody = here.scheduler(kubeconfig=plane.service_account("nobody", "default"))

        assert nobody.process.wait(240) == 1
        (line,) = nobody.said().splitlines()
        assert 'cannot get resource "leases"' in line


def test_a_cluster_that_was_not_prepared_is_named(plane, api, account):
    with desk(plane, api, "unprepared", account) as here:
        lost = here.scheduler("--namespace", "nowhere", kubeconfig=plane.kubeconfig)

        assert lost.process.wait(240) == 1
        (line,) = lost.said().splitlines()
        assert "there is no namespace nowhere" in line and "pkgctl cluster manifests" in line


def test_the_manifests_are_valid_and_applying_them_again_changes_nothing(plane, account):
    printed = subprocess.run(
        [sys.executable, "-m", "pkgctl", "cluster", "manifests"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout

    again = plane.kubectl("apply", "-f", "-", given=printed).splitlines()

    assert again and all(line.endswith("unchanged") for line in again)
