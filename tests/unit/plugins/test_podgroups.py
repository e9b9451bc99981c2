# SPDX-License-Identifier: GPL-3.0-or-later
"""The groups of pods below a node's, by their names, and what is read from them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ansible_collections.pkgctl.testbed.plugins.module_utils import podgroups, sampler

from . import trees

UID = "01234567-89ab-cdef-0123-456789abcdef"
SPELT = UID.replace("-", "_")


@pytest.fixture(params=[trees.v1, trees.v2, trees.hybrid], ids=lambda world: world.__name__)
def node(request, tmp_path):
    return trees.node(request.param(tmp_path))


@pytest.mark.parametrize(
    ("name", "uid"),
    [
        (f"pod{UID}", UID),
        (f"kubepods-pod{SPELT}.slice", UID),
        (f"pkgctl-kubepods-burstable-pod{SPELT}.slice", UID),
        ("kubepods.slice", None),
        ("burstable", None),
        (f"tripod{UID}", None),
        (f"pod{UID}x", None),
        (f"cri-containerd-{UID}.scope", None),
    ],
)
def test_a_group_is_a_pods_by_its_name(name, uid):
    assert podgroups.pod_uid(name) == uid


@pytest.mark.parametrize(
    "path",
    [
        f"kubepods/pod{UID}",
        f"kubepods/besteffort/pod{UID}",
        f"kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{SPELT}.slice",
        f"edge-1-kubepods.slice/edge-1-kubepods-pod{SPELT}.slice",
    ],
)
def test_pods_are_found_wherever_a_kubelet_puts_them(node, path):
    made(node, path)
    made(node, "kubepods/other")
    made(node, f"web-0/pod{UID}")

    assert [(uid, group.path) for uid, group in podgroups.pods(node)] == [
        (UID, f"{node.path}/{path}")
    ]


def test_a_node_without_pods_has_none(node):
    assert list(podgroups.pods(node)) == []


def test_a_pod_is_held_back_by_its_own_bound_or_by_a_containers(node):
    pod = made(node, f"kubepods/pod{UID}", throttled=1)
    made(node, f"kubepods/pod{UID}/main", throttled=3)
    made(node, f"kubepods/pod{UID}/pause", throttled=0)

    used = podgroups.usage(pod)

    assert (used.cpu_seconds, used.throttled_seconds) == (7.0, 3.0)


def test_a_sample_has_a_row_for_each_pod(node):
    made(node, f"kubepods/pod{UID}")

    rows = sampler.sample([("edge-1", node)], [], {})

    assert [(row["node"], row["job"]) for row in rows] == [
        ("edge-1", None),
        ("edge-1", f"pod:{UID}"),
    ]


def made(node, path, throttled=0):
    """Make a group that has used seven seconds, and was held back for some."""
    group = replace(node, path=f"{node.path}/{path}")
    group.create()
    if group.machine.is_unified("cpu"):
        text = f"usage_usec 7000000\nthrottled_usec {throttled}000000\n"
        trees.put(group, "cpu", "cpu.stat", text)
    else:
        trees.put(group, "cpu", "cpu.stat", f"throttled_time {throttled}000000000\n")
        trees.put(group, "cpuacct", "cpuacct.usage", "7000000000\n")
    return group
