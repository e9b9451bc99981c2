# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import contextlib

import pytest

from ansible_collections.pkgctl.testbed.plugins.module_utils import (
    cgroups,
    clamping,
    hierarchies,
    layers,
    quotas,
)
from ansible_collections.pkgctl.testbed.plugins.module_utils.errors import (
    DisturbanceError,
    KernelError,
)
from ansible_collections.pkgctl.testbed.plugins.module_utils.quotas import State

from . import trees

MIB = 1 << 20
DATA = "7:3"
WORLDS = pytest.mark.parametrize("world", [trees.v1, trees.v2, trees.hybrid])


@pytest.fixture
def clamped(tmp_path):
    return tmp_path / "clamped.json"


def child(node, name, cores):
    made = node.child(name)
    made.create()
    trees.unlimited(made)
    made.set_cpu(cores)
    return made


def cpu_to(node, cores, clamped):
    now = quotas.read(node, [])
    quotas.apply(node, now, State(cores, now.memory, now.pids), clamped)


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        ({"cup": 1}, "cup: unknown limit; known are cpu, memory, pids, read_bps"),
        ({"cpu": 0}, "cpu: must be above zero, not 0"),
        ({"memory": -5}, "memory: must be above zero, not -5"),
        ({"cpu": 0.001}, "smallest share is 10m, not 0.001"),
    ],
)
def test_a_limit_that_nothing_could_run_under_is_refused(limits, words):
    with pytest.raises(DisturbanceError, match=words):
        quotas.check(limits)


def test_the_smallest_limit_of_all_layers_holds():
    stored = {"base": {"cpu": 1.0, "memory": 100}, "a": {"cpu": 0.5, "pids": 9}, "b": {"cpu": 0.7}}

    assert quotas.composed(stored) == {"cpu": 0.5, "memory": 100, "pids": 9}


def test_a_wanted_state_is_in_the_kernels_own_steps():
    found = quotas.wanted_state({"cpu": 1 / 3, "memory": 10_000, "pids": 7.0}, [])

    assert found == State(0.33333, 8192, 7)


def test_every_mounted_disk_is_throttled_and_a_node_without_one_is_not():
    limits = {"read_bps": 1000.0, "write_iops": 5}

    assert quotas.wanted_state(limits, ["7:0", "7:1"]).throttles == {
        ("7:0", "read_bps"): 1000,
        ("7:0", "write_iops"): 5,
        ("7:1", "read_bps"): 1000,
        ("7:1", "write_iops"): 5,
    }
    assert quotas.wanted_state(limits, []).throttles == {}


def test_what_differs_is_told_and_what_does_not_is_not():
    now = State(1.0, MIB, 5, {(DATA, "read_bps"): 7})

    assert quotas.actions(now, State(0.5, MIB, 5)) == ["cpu: 0.5", "read_bps of 7:3: unlimited"]
    assert quotas.actions(now, now) == []


def test_limits_are_shown_a_fact_a_line():
    assert State(None, 64 * MIB, None, {(DATA, "read_bps"): 7}).show() == (
        "cpu: unlimited\nmemory: 64Mi\npids: unlimited\nread_bps of 7:3: 7\n"
    )


@WORLDS
def test_what_is_applied_is_read_back_in_every_world(world, tmp_path, clamped):
    node = trees.node(world(tmp_path))
    then = State(0.5, 64 * MIB, 100)

    quotas.apply(node, quotas.read(node, []), then, clamped)

    assert quotas.read(node, []) == then
    assert not clamped.exists()


def test_a_throttle_of_version_1_is_written_to_its_own_file(tmp_path, clamped):
    node = trees.node(trees.v1(tmp_path))
    then = State(None, None, None, {(DATA, "read_bps"): 1000})

    quotas.apply(node, quotas.read(node, [DATA]), then, clamped)

    assert trees.shown(node, "blkio", "blkio.throttle.read_bps_device") == "7:3 1000"
    assert quotas.read(node, [DATA]) == then


def test_a_throttle_of_version_1_goes_with_a_zero(tmp_path, clamped):
    node = trees.node(trees.v1(tmp_path))
    now = State(None, None, None, {(DATA, "read_bps"): 1000})

    quotas.apply(node, now, State(None, None, None), clamped)

    assert trees.shown(node, "blkio", "blkio.throttle.read_bps_device") == "7:3 0"


def test_a_throttle_of_version_2_has_a_key_in_one_file(tmp_path, clamped):
    node = trees.node(trees.v2(tmp_path))
    now = State(None, None, None)

    quotas.apply(node, now, State(None, None, None, {(DATA, "write_iops"): 9}), clamped)
    assert trees.shown(node, "blkio", "io.max") == "7:3 wiops=9"

    quotas.apply(node, State(None, None, None, {(DATA, "write_iops"): 9}), now, clamped)
    assert trees.shown(node, "blkio", "io.max") == "7:3 wiops=max"


def test_throttles_of_version_2_are_read_and_those_of_other_disks_left_out(tmp_path):
    node = trees.node(trees.v2(tmp_path))
    others = "254:0 rbps=5 wbps=max riops=max wiops=max\n"
    listed = f"7:3 rbps=1000 wbps=max riops=max wiops=9\n{others}"
    trees.put(node, "blkio", "io.max", listed)

    assert quotas.read(node, [DATA]).throttles == {
        (DATA, "read_bps"): 1000,
        (DATA, "write_iops"): 9,
    }


@WORLDS
def test_throttles_of_a_device_that_is_ours_no_more_are_taken_off(world, tmp_path, clamped):
    node = trees.node(world(tmp_path))
    stale = "7:9 rbps=max wbps=max riops=max wiops=50\n"
    if node.machine.is_unified("blkio"):
        trees.put(node, "blkio", "io.max", stale)
    else:
        trees.put(node, "blkio", "blkio.throttle.write_iops_device", "7:9 50\n")

    now = quotas.read(node, [DATA])
    quotas.apply(node, now, State(None, None, None), clamped)

    assert now.throttles == {("7:9", "write_iops"): 50}
    if node.machine.is_unified("blkio"):
        assert trees.shown(node, "blkio", "io.max") == "7:9 wiops=max"
    else:
        assert trees.shown(node, "blkio", "blkio.throttle.write_iops_device") == "7:9 0"


def test_a_throttle_that_is_refused_says_what_and_where(tmp_path, clamped):
    node = trees.node(trees.v1(tmp_path))
    file = node.folder("blkio") / "blkio.throttle.read_bps_device"
    file.unlink()
    file.mkdir()

    with pytest.raises(KernelError, match=r"write '7:3 1000' to .*read_bps_device: Is a directory"):
        quotas.apply(
            node,
            State(None, None, None),
            State(None, None, None, {(DATA, "read_bps"): 1000}),
            clamped,
        )


def test_a_machine_that_cannot_throttle_has_no_throttles(tmp_path):
    machine = trees.v1(tmp_path)
    bare = {name: path for name, path in machine.v1.items() if name != "blkio"}
    node = cgroups.Group(trees.NODE, hierarchies.Hierarchies(bare, None, frozenset()))
    node.create()
    node.set_cpu(1.0)
    node.set_memory(MIB)
    node.set_pids(5)
    trees.put(node, "cpu", "cpu.cfs_period_us", "100000")

    assert quotas.read(node, [DATA]).throttles == {}


@WORLDS
def test_a_child_is_clamped_while_its_node_is_smaller_and_gets_its_own_back(
    world, tmp_path, clamped
):
    node = trees.node(world(tmp_path))
    node.set_cpu(1.0)
    big, small = child(node, "job-big", 0.8), child(node, "job-small", 0.1)
    free = child(node, "session", None)

    cpu_to(node, 0.3, clamped)
    assert [each.cpu() for each in (node, big, small, free)] == [0.3, 0.3, 0.1, None]

    cpu_to(node, 0.5, clamped)
    assert [each.cpu() for each in (node, big, small, free)] == [0.5, 0.5, 0.1, None]

    cpu_to(node, 1.0, clamped)
    assert [each.cpu() for each in (node, big, small, free)] == [1.0, 0.8, 0.1, None]
    assert layers.load(clamped) == {}


def order_of_writes(monkeypatch):
    """Note the groups in the order in which their CPU is set."""
    noted = []
    real = cgroups.Group.set_cpu

    def set_cpu(group, cores):
        noted.append(group.path.removeprefix(trees.NODE))
        real(group, cores)

    monkeypatch.setattr(cgroups.Group, "set_cpu", set_cpu)
    return noted


def test_children_shrink_before_their_parents_and_grow_after_them(tmp_path, clamped, monkeypatch):
    node = trees.node(trees.v1(tmp_path))
    node.set_cpu(1.0)
    job = child(node, "job", 0.8)
    child(job, "inner", 0.7)
    noted = order_of_writes(monkeypatch)

    cpu_to(node, 0.3, clamped)
    cpu_to(node, 1.0, clamped)

    assert noted == ["/job/inner", "/job", "", "", "/job", "/job/inner"]


def test_a_child_that_started_small_because_its_node_was_gets_its_own_later(tmp_path, clamped):
    node = trees.node(trees.v1(tmp_path))
    node.set_cpu(0.3)
    late = child(node, "job-late", None)

    quotas.bound_child(node, late, 0.8, tmp_path)
    assert late.cpu() == 0.3

    cpu_to(node, 1.0, clamped)
    assert late.cpu() == 0.8


class Killed(BaseException):
    """Stands for a SIGKILL."""


@pytest.mark.parametrize("after", range(4))
@pytest.mark.parametrize(("first", "second"), [(1.0, 0.3), (0.3, 1.0), (0.3, 0.5)])
def test_what_was_cut_short_between_any_two_writes_is_put_right(
    first, second, after, tmp_path, clamped, monkeypatch
):
    node = trees.node(trees.v1(tmp_path))
    node.set_cpu(1.0)
    jobs = [child(node, "big", 0.8), child(node, "mid", 0.4), child(node, "small", 0.1)]
    cpu_to(node, first, clamped)
    real, left = cgroups.Group.set_cpu, iter(range(after))

    def set_cpu(group, cores):
        if next(left, None) is None:
            raise Killed
        real(group, cores)

    with monkeypatch.context() as patched, contextlib.suppress(Killed):
        patched.setattr(cgroups.Group, "set_cpu", set_cpu)
        cpu_to(node, second, clamped)
    cpu_to(node, second, clamped)

    assert clamping.misfits(node, second, clamped) == []
    assert [job.cpu() for job in jobs] == [min(own, second) for own in (0.8, 0.4, 0.1)]
    cpu_to(node, 1.0, clamped)
    assert [job.cpu() for job in jobs] == [0.8, 0.4, 0.1]
    assert layers.load(clamped) == {}


def test_a_clamped_child_that_has_not_what_it_should_is_named(tmp_path, clamped):
    node = trees.node(trees.v1(tmp_path))
    node.set_cpu(1.0)
    job = child(node, "job-web", 0.8)
    cpu_to(node, 0.3, clamped)

    job.set_cpu(0.2)

    assert clamping.misfits(node, 0.3, clamped) == ["job-web"]
    cpu_to(node, 0.3, clamped)
    assert job.cpu() == 0.3


def test_a_clamped_child_that_is_given_a_new_limit_keeps_that(tmp_path, clamped):
    node = trees.node(trees.v1(tmp_path))
    node.set_cpu(1.0)
    job = child(node, "job", 0.8)
    cpu_to(node, 0.3, clamped)

    quotas.bound_child(node, job, 0.2, tmp_path)
    cpu_to(node, 1.0, clamped)

    assert job.cpu() == 0.2


def test_the_namesake_of_a_clamped_child_that_went_keeps_its_own_limit(tmp_path, clamped):
    node = trees.node(trees.v1(tmp_path))
    node.set_cpu(1.0)
    first = child(node, "job", 0.8)
    cpu_to(node, 0.3, clamped)
    for folder in first.folders():
        for file in folder.iterdir():
            file.unlink()
    first.remove()
    cpu_to(node, 0.25, clamped)

    second = child(node, "job", 0.1)
    cpu_to(node, 1.0, clamped)

    assert second.cpu() == 0.1


def test_memory_of_less_than_a_page_is_refused():
    with pytest.raises(DisturbanceError, match=r"memory: must be a page \(4Ki\) at least"):
        quotas.check({"memory": 1024})
