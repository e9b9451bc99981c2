# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json

import pytest

from pkgctl.cluster import pods
from pkgctl.scheduling.job import JobClass
from pkgctl.scheduling.resources import Resources
from tests.unit.cluster.objects import container, raw_pod

MEBIBYTE = 2**20


def asked(*containers, init=(), status=None, **spec) -> Resources:
    raw = raw_pod("p", *containers, initContainers=list(init), status=status, **spec)
    return pods.read(raw).asked


def test_containers_count_together():
    assert asked(container("100m", "64Mi"), container("0.4", "1Mi")) == Resources(
        0.5, 65 * MEBIBYTE
    )


def test_starting_up_counts_if_it_takes_more_and_each_resource_by_itself():
    first, second = container("2", "8Mi", "one"), container("1", "128Mi", "two")

    assert asked(container("100m", "64Mi"), init=[first, second]) == Resources(2.0, 128 * MEBIBYTE)


def test_sidecars_count_with_the_containers_and_with_what_starts_after_them():
    sidecar = container("300m", "32Mi", "proxy", restartPolicy="Always")
    before, after = container("1", name="before"), container("900m", name="after")

    # Running: 100 + 300. Starting: 1000, then 300, then 300 + 900.
    assert asked(container("100m"), init=[before, sidecar, after]).millicores == 1200
    assert asked(container("100m"), init=[before, sidecar]).millicores == 1000
    assert asked(container("2"), init=[before, sidecar, after]).millicores == 2300


def test_overhead_comes_on_top():
    assert asked(container("100m"), init=[container("1")], overhead={"cpu": "250m"}).millicores == (
        1250
    )


def test_what_a_pod_asks_for_as_a_whole_stands_for_its_containers():
    whole = {"requests": {"cpu": "3"}}

    assert asked(container("100m", "64Mi"), resources=whole) == Resources(3.0, 64 * MEBIBYTE)


@pytest.mark.parametrize(
    "state", [{"allocatedResources": {"cpu": "2"}}, {"resources": {"requests": {"cpu": "2"}}}]
)
def test_the_larger_counts_while_a_resize_is_under_way(state):
    status = {"containerStatuses": [{"name": "main", **state}]}

    assert asked(container("1"), status=status).millicores == 2000
    assert asked(container("3"), status=status).millicores == 3000


def test_other_resources_and_ports_of_the_node_are_kept_apart():
    first = container("1", ports=[{"hostPort": 80, "containerPort": 8080}])
    first["resources"]["requests"] |= {"nvidia.com/gpu": "2", "ephemeral-storage": "1Gi"}

    pod = pods.read(raw_pod("p", first))

    assert pod.scarce == (("nvidia.com/gpu", 2),)
    assert pod.asked.disk == 2**30
    assert pod.ports == {("TCP", "0.0.0.0", 80)}
    assert pod.is_alone and not pods.read(raw_pod("q")).is_alone


def test_pods_with_the_same_wish_have_the_same_text_and_those_with_none_have_none():
    everyones = {"key": "node.kubernetes.io/not-ready", "effect": "NoExecute", "operator": "Exists"}
    own = {"key": "only", "operator": "Exists"}

    plain = pods.read(raw_pod("p", tolerations=[everyones]))
    one = pods.read(raw_pod("p", tolerations=[everyones, own], nodeSelector={"a": "1", "b": "2"}))
    two = pods.read(raw_pod("q", tolerations=[own], nodeSelector={"b": "2", "a": "1"}))

    assert plain.wish == ""
    assert one.wish == two.wish
    assert json.loads(one.wish) == [{"a": "1", "b": "2"}, None, [own]]


@pytest.mark.parametrize(
    ("demand", "words"),
    [
        (
            {"affinity": {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [{}]}}},
            "required podAffinity",
        ),
        (
            {"topologySpreadConstraints": [{"whenUnsatisfiable": "DoNotSchedule"}]},
            "topologySpreadConstraints that must hold",
        ),
        ({"volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "c"}}]}, "by claim"),
        ({"volumes": [{"name": "v", "ephemeral": {}}]}, "by claim"),
        ({"resourceClaims": [{"name": "gpu"}]}, "resource claims"),
        (
            {"affinity": {"podAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [1]}}},
            "",
        ),
        ({"topologySpreadConstraints": [{"whenUnsatisfiable": "ScheduleAnyway"}]}, ""),
        ({"volumes": [{"name": "v", "emptyDir": {}}]}, ""),
    ],
)
def test_a_demand_that_nothing_here_can_meet_is_named(demand, words):
    found = pods.read(raw_pod("p", **demand)).beyond

    assert words in found and bool(words) == bool(found)


@pytest.mark.parametrize(
    ("change", "waits"),
    [
        ({}, False),
        ({"meta": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}, True),
        ({"schedulingGates": [{"name": "g"}]}, True),
        ({"schedulingGates": []}, False),
    ],
)
def test_pods_that_leave_or_are_gated_are_not_to_be_placed(change, waits):
    assert pods.read(raw_pod("p", **change)).waits is waits


def test_annotations_of_ours_become_what_policies_look_at():
    notes = {
        "pkgctl.dev/class": "latency",
        "pkgctl.dev/origin": "edge-1",
        "pkgctl.dev/clients": "edge-1=2, edge-2, edge-3=x",
        "other.io/class": "batch",
    }

    job = pods.job(pods.read(raw_pod("p", annotations=notes, priority=7)), frozenset({"n"}))

    assert (job.id, job.job_class, job.origin) == ("default/p", JobClass.LATENCY, "edge-1")
    assert job.clients == {"edge-1": 2.0, "edge-2": 1.0, "edge-3": 1.0}
    assert (job.priority, job.nodes, job.tenant) == (7, {"n"}, "default")


def test_what_only_changes_for_the_kubelet_changes_nothing_here():
    before = raw_pod("p", nodeName="n")
    after = raw_pod("p", nodeName="n", status={"phase": "Running", "podIP": "10.0.0.1"})

    assert pods.read(before) == pods.read(after)
