# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import dataclasses
import errno
import shutil
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ansible_collections.pkgctl.testbed.plugins.module_utils import cgroups, hierarchies
from ansible_collections.pkgctl.testbed.plugins.module_utils.cgroups import Group
from ansible_collections.pkgctl.testbed.plugins.module_utils.errors import (
    CapabilityError,
    KernelError,
)
from ansible_collections.pkgctl.testbed.plugins.module_utils.hierarchies import Hierarchies

from . import trees

MIB = 1 << 20
V1_MOUNTS = """\
proc /proc proc rw 0 0
cgroup /sys/fs/cgroup/cpu,cpuacct cgroup rw,nosuid,cpu,cpuacct 0 0
cgroup /sys/fs/cgroup/memory cgroup rw,memory 0 0
cgroup /sys/fs/cgroup/cpuset cgroup rw,cpuset 0 0
cgroup /sys/fs/cgroup/pids cgroup rw,pids 0 0
cgroup /sys/fs/cgroup/freezer cgroup rw,freezer 0 0
cgroup /sys/fs/cgroup/blkio cgroup rw,blkio 0 0
cgroup /sys/fs/cgroup/systemd cgroup rw,name=systemd 0 0
"""
EVERY_WORLD = [trees.v1, trees.v2, trees.hybrid]


@pytest.fixture(params=EVERY_WORLD, ids=lambda world: world.__name__)
def node(request, tmp_path):
    return trees.node(request.param(tmp_path))


@pytest.fixture
def old(tmp_path):
    return trees.node(trees.v1(tmp_path))


@pytest.fixture
def new(tmp_path):
    return trees.node(trees.v2(tmp_path))


def unified(folder, controllers):
    (folder / "cgroup.controllers").write_text(controllers + "\n")
    return f"cgroup2 {folder} cgroup2 rw,nosuid,nodev,noexec,relatime 0 0\n"


def test_hierarchies_of_version_1_are_read_with_those_that_share_a_mount():
    found = hierarchies.read(V1_MOUNTS)

    assert (found.world, found.v2) == ("v1", None)
    assert found.v1["cpu"] == found.v1["cpuacct"] == Path("/sys/fs/cgroup/cpu,cpuacct")
    assert "cpuset" not in found.v1
    assert all(found.has(name) and not found.is_unified(name) for name in hierarchies.USED)
    assert len(found.roots()) == 5


def test_a_unified_hierarchy_that_lists_nothing_is_not_used(tmp_path):
    found = hierarchies.read(V1_MOUNTS + unified(tmp_path, ""))

    assert found.world == "hybrid"
    assert tmp_path not in found.roots()
    assert not found.is_unified("freezer")


def test_hierarchies_that_containers_alone_use_are_known(tmp_path):
    found = hierarchies.read(V1_MOUNTS + unified(tmp_path, ""))

    assert found.others == (
        Path("/sys/fs/cgroup/cpuset"),
        Path("/sys/fs/cgroup/systemd"),
        tmp_path,
    )
    assert hierarchies.read(unified(tmp_path, "cpu memory pids")).others == ()


def test_what_containers_made_in_others_goes_with_a_group(tmp_path):
    others = (tmp_path / "cpuset", tmp_path / "named")
    made = trees.node(dataclasses.replace(trees.v1(tmp_path / "v1"), others=others))
    for root in others:
        (root / made.path / "kubepods" / "pod").mkdir(parents=True)
    for folder in made.folders():
        for file in folder.iterdir():
            file.unlink()  # The kernel's own files go with their folder.

    made.remove()

    assert not any(place.exists() for place in made.everywhere())
    assert all((root / made.path).parent.is_dir() for root in others)


def test_a_controller_that_the_unified_hierarchy_lists_is_used_there(tmp_path):
    mounts = V1_MOUNTS.replace("rw,memory", "rw,hugetlb") + unified(tmp_path, "memory hugetlb")

    found = hierarchies.read(mounts)

    assert found.world == "hybrid"
    assert found.is_unified("memory")
    assert not found.is_unified("cpu")
    assert tmp_path in found.roots()


def test_the_unified_hierarchy_alone_has_what_is_built_into_it(tmp_path):
    found = hierarchies.read(unified(tmp_path, "cpuset cpu io memory hugetlb pids rdma"))

    assert (found.world, found.roots()) == ("v2", [tmp_path])
    assert found.unified == {"cpu", "io", "memory", "pids"}
    assert all(found.is_unified(name) for name in hierarchies.USED)


def test_a_controller_that_is_nowhere_is_named():
    bare = Hierarchies({}, None, frozenset())

    assert not bare.has("cpu")
    with pytest.raises(CapabilityError, match="no cgroup controller cpu"):
        Group("pkgctl", bare).folder("cpu")


def test_a_new_group_is_there_in_every_hierarchy_and_goes_from_all(node):
    assert node.exists()
    assert all(folder.is_dir() for folder in node.folders())
    assert {name for name in hierarchies.USED if node.folder(name).is_dir()} == set(
        hierarchies.USED
    )


def test_only_in_version_2_are_controllers_passed_down_to_the_group_but_not_into_it(new, tmp_path):
    root = tmp_path / "unified"
    above = [root, *(root / part for part in ("pkgctl", "pkgctl/test", "pkgctl/test/nodes"))]

    passed = {(place / "cgroup.subtree_control").read_text() for place in above}

    assert passed == {"+cpu +io +memory +pids"}
    assert not (new.folder("cpu") / "cgroup.subtree_control").exists()


def test_what_is_passed_down_already_is_not_written_again(new, tmp_path):
    root = tmp_path / "unified" / "cgroup.subtree_control"
    root.write_text("cpu io memory pids\n")

    new.create()
    assert root.read_text() == "cpu io memory pids\n"

    root.write_text("memory pids\n")
    new.create()
    assert root.read_text() == "+cpu +io"


def test_a_slice_that_lacks_a_controller_has_no_limit_of_it(new):
    for name in ("cpu.max", "memory.max", "pids.max"):
        (new.folder("cpu") / name).unlink()

    assert (new.cpu(), new.memory(), new.pids()) == (None, None, None)


def test_limits_are_read_back_as_they_were_set(node):
    node.set_cpu(0.25)
    node.set_memory(64 * MIB)
    node.set_pids(100)

    assert (node.cpu(), node.memory(), node.pids()) == (0.25, 64 * MIB, 100)


def test_no_limit_is_read_back_as_none(node):
    assert (node.cpu(), node.memory(), node.pids()) == (None, None, None)


def test_version_1_is_told_microseconds_and_bytes(old):
    old.set_cpu(1.5)
    old.set_memory(MIB)

    assert trees.shown(old, "cpu", "cpu.cfs_quota_us") == "150000"
    assert trees.shown(old, "memory", "memory.limit_in_bytes") == "1048576"


def test_version_2_is_told_a_quota_with_its_period(new):
    new.set_cpu(1.5)
    assert trees.shown(new, "cpu", "cpu.max") == "150000 100000"

    new.set_cpu(None)
    assert trees.shown(new, "cpu", "cpu.max") == "max 100000"


def test_a_share_that_the_kernel_would_refuse_becomes_its_smallest(node):
    node.set_cpu(0.001)

    assert node.cpu() == 0.01


def test_usage_of_version_1(old):
    trees.put(old, "cpuacct", "cpuacct.usage", "2500000000\n")
    cpu = "nr_periods 9\nnr_throttled 3\nthrottled_time 400000000\n"
    trees.put(old, "cpu", "cpu.stat", cpu)
    trees.put(old, "memory", "memory.usage_in_bytes", f"{50 * MIB}\n")
    trees.put(old, "memory", "memory.stat", f"inactive_file 7\ntotal_inactive_file {20 * MIB}\n")
    served = "7:0 Read 100\n7:0 Write 200\n7:0 Sync 5\n7:1 Read 10\n7:1 Write 20\nTotal 330\n"
    trees.put(old, "blkio", "blkio.throttle.io_service_bytes_recursive", served)

    assert old.usage() == cgroups.Usage(2.5, 0.4, 30 * MIB, 110, 220)


def test_usage_of_version_2(new):
    cpu = "usage_usec 2500000\nuser_usec 1\nnr_throttled 3\nthrottled_usec 400000\n"
    trees.put(new, "cpu", "cpu.stat", cpu)
    trees.put(new, "memory", "memory.current", f"{50 * MIB}\n")
    trees.put(new, "memory", "memory.stat", f"anon 9\ninactive_file {20 * MIB}\n")
    moved = "7:0 rbytes=100 wbytes=200 rios=1 wios=2 dbytes=0 dios=0\n7:1 rbytes=10 wbytes=20\n"
    trees.put(new, "blkio", "io.stat", moved)

    assert new.usage() == cgroups.Usage(2.5, 0.4, 30 * MIB, 110, 220)


def test_a_group_that_is_gone_has_used_nothing(node):
    gone = cgroups.Group(f"{trees.NODE}/nobody", node.machine)

    assert gone.usage() == cgroups.Usage(0.0, 0.0, 0, 0, 0)


def test_file_pages_beyond_what_is_in_use_count_as_none(new):
    trees.put(new, "memory", "memory.current", "4096\n")
    trees.put(new, "memory", "memory.stat", "inactive_file 8192\n")

    assert new.memory_used() == 0


@pytest.mark.parametrize(
    ("version", "usage", "prefix"),
    [("old", "memory.usage_in_bytes", "total_"), ("new", "memory.current", "")],
)
def test_what_files_have_in_memory_is_used_but_not_held(version, usage, prefix, request):
    group = request.getfixturevalue(version)
    files = f"{prefix}inactive_file {20 * MIB}\n{prefix}active_file {15 * MIB}\n"
    trees.put(group, "memory", usage, f"{50 * MIB}\n")
    trees.put(group, "memory", "memory.stat", f"inactive_file 1\nactive_file 2\n{files}")

    assert (group.memory_used(), group.memory_held()) == (30 * MIB, 15 * MIB)


def test_freezing_writes_each_versions_own_word(old, new):
    for group in (old, new):
        group.freeze(frozen=True)
    assert trees.shown(old, "freezer", "freezer.state") == "FROZEN"
    assert trees.shown(new, "freezer", "cgroup.freeze") == "1"

    for group in (old, new):
        group.freeze(frozen=False)
    assert trees.shown(old, "freezer", "freezer.state") == "THAWED"
    assert trees.shown(new, "freezer", "cgroup.freeze") == "0"


def test_a_process_joins_in_every_hierarchy_and_is_found_there(node):
    node.join(4321)

    assert {(folder / "cgroup.procs").read_text() for folder in node.folders()} == {"4321"}
    assert node.processes() == [4321]


def test_a_marked_process_is_found_but_not_bounded(old):
    old.mark(4321)

    assert old.processes() == [4321]
    assert not (old.folder("cpu") / "cgroup.procs").exists()


def test_in_version_1_a_childs_processes_are_where_its_nodes_disk_throttles_bind_them(old):
    old.child("job-web").create()

    old.child("job-web").join(4321)

    assert trees.shown(old, "blkio", "cgroup.procs") == "4321"
    assert old.child("job-web").processes() == [4321]
    assert not (old.folder("cpu") / "cgroup.procs").exists()


def test_in_version_2_a_childs_processes_are_in_the_child_alone(new):
    new.child("job-web").create()

    new.child("job-web").join(4321)

    assert new.processes() == []
    assert new.child("job-web").processes() == [4321]


def test_throttles_that_share_a_hierarchy_with_another_controller_are_left_with_the_child(tmp_path):
    both = tmp_path / "cpu,blkio"
    node = Group(trees.NODE, Hierarchies({"cpu": both, "blkio": both}, None, frozenset()))

    assert node.child("job").homes() == [both / trees.NODE / "job"]


def test_what_a_job_moves_counts_for_its_node_in_version_1_and_is_unknown_of_the_job(old, new):
    used = [group.child("job-web").usage() for group in (old, new)]

    assert [(each.read_bytes, each.write_bytes) for each in used] == [(None, None), (0, 0)]


def test_the_largest_process_is_killed_and_without_any_it_is_said_so(old):
    for folder in old.folders():
        (folder / "cgroup.procs").write_text("")
    assert not old.kill_largest()
    hold = "import sys; x = bytearray(b'x') * (32 << 20); print(flush=True); sys.stdin.read()"
    small, large = ["/bin/cat"], [sys.executable, "-S", "-E", "-c", hold]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}

    with subprocess.Popen(small, **pipes) as cat, subprocess.Popen(large, **pipes) as hog:
        hog.stdout.readline()
        trees.put(old, "pids", "cgroup.procs", f"{cat.pid}\n{hog.pid}\n")

        assert old.kill_largest()

        assert (cat.poll(), hog.wait()) == (None, -signal.SIGKILL)
        cat.stdin.close()


def test_groups_are_walked_the_deepest_first_whichever_hierarchy_they_are_in(old):
    (old.folder("cpu") / "a" / "b").mkdir(parents=True)
    (old.folder("memory") / "c").mkdir()

    walked = [group.path.removeprefix(trees.NODE) for group in old.descend()]

    assert walked == ["/a/b", "/a", "/c", ""]


def test_groups_that_come_and_go_meanwhile_do_no_harm(old):
    old.create()
    over = threading.Event()

    def come_and_go() -> None:
        job = old.child("job")
        while not over.is_set():
            job.create()
            for folder in job.folders():
                shutil.rmtree(folder, ignore_errors=True)

    with ThreadPoolExecutor() as pool:
        coming = pool.submit(come_and_go)
        try:
            for _ in range(300):
                assert list(old.descend())[-1] == old
        finally:
            over.set()
        coming.result()


def test_an_empty_group_is_removed_with_all_below_it(tmp_path):
    made = Group("pkgctl/test", trees.hybrid(tmp_path))
    for folder in made.folders():
        (folder / "job-web").mkdir(parents=True)

    made.remove()

    assert not made.exists()


def test_nobody_to_kill_is_nobody_left(node):
    for folder in node.folders():
        (folder / "cgroup.procs").write_text("")

    assert node.kill() == []


def test_a_refused_write_says_what_and_where(node):
    with pytest.raises(
        KernelError, match=r"write '50000.* to .*nobody/cpu.*: No such file"
    ) as caught:
        node.child("nobody").set_cpu(0.5)

    assert caught.value.errno == errno.ENOENT


def test_keyed_files_are_read_by_key():
    assert cgroups.keyed("a 1\nb 22\nnot a pair here\n") == {"a": 1, "b": 22}
