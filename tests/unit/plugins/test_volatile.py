# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.pkgctl.testbed.plugins.module_utils import volatile
from ansible_collections.pkgctl.testbed.plugins.module_utils.cgroups import Group
from ansible_collections.pkgctl.testbed.plugins.module_utils.errors import (
    CapabilityError,
    KernelError,
)

from . import trees
from .agents import node


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A node whose only memory is a folder of the test's, on a machine of ordinary files."""
    folder = tmp_path / "node"
    folder.mkdir()
    machine = trees.v1(tmp_path / "groups")
    monkeypatch.setattr(volatile, "group", lambda path: Group(path, machine))
    monkeypatch.setattr(volatile, "_links", lambda _: {})
    monkeypatch.setattr(volatile, "_tables", list)
    monkeypatch.setattr(volatile, "FOLDERS", (str(tmp_path / "memory"),))
    (tmp_path / "memory").mkdir()
    return node(folder, cgroup=trees.NODE)


def fill(folder: Path) -> None:
    (folder / "deep" / "er").mkdir(parents=True)
    (folder / "deep" / "er" / "file").write_text("x")
    (folder / "away").symlink_to("/etc")


def test_all_of_a_folder_is_left_over_the_deepest_first(tmp_path):
    fill(tmp_path)

    found = [str(place.relative_to(tmp_path)) for place in volatile.leftovers(tmp_path)]

    assert sorted(found) == ["away", "deep", "deep/er", "deep/er/file"]
    assert found.index("deep/er/file") < found.index("deep/er") < found.index("deep")


def test_what_is_mounted_and_the_way_to_it_are_spared(tmp_path, monkeypatch):
    fill(tmp_path)
    (tmp_path / "way" / "mount").mkdir(parents=True)
    (tmp_path / "way" / "mount" / "kept").write_text("x")
    (tmp_path / "way" / "file").write_text("x")
    mounts = tmp_path.parent / f"{tmp_path.name}-mounts"
    mounts.write_text(f"tmpfs {tmp_path}/way/mount tmpfs rw 0 0\n")
    monkeypatch.setattr(volatile, "_MOUNTS", mounts)

    found = {str(place.relative_to(tmp_path)) for place in volatile.leftovers(tmp_path)}

    assert found == {"away", "deep", "deep/er", "deep/er/file", "way/file"}


def test_a_folder_that_is_not_there_holds_nothing(tmp_path):
    assert list(volatile.leftovers(tmp_path / "none")) == []


def test_the_machines_own_memory_is_never_lost(here, tmp_path):
    fill(tmp_path / "memory")

    with pytest.raises(CapabilityError, match="a machine of its own"):
        volatile.lose(here)
    assert (tmp_path / "memory" / "deep" / "er" / "file").exists()


def test_what_is_left_over_is_lost_and_nothing_else(here, tmp_path, monkeypatch):
    monkeypatch.setattr(volatile, "check_apart", lambda: None)
    fill(tmp_path / "memory")
    assert volatile.held(here) == [str(tmp_path / "memory")]

    volatile.lose(here)

    assert list((tmp_path / "memory").iterdir()) == []
    assert volatile.held(here) == []
    assert Path("/etc").is_dir()


# What services leave behind.


def info(*places: str) -> str:
    lines = (f"{n} 1 0:{n} / {place} rw - tmpfs none rw" for n, place in enumerate(places, 20))
    return "".join(f"{line}\n" for line in lines)


@pytest.mark.parametrize(
    ("places", "found"),
    [
        (["/", "/run"], []),
        (["/", "/run", "/run/a", "/run/a/b"], ["/run/a/b", "/run/a"]),
        (["/", "/run", "/etc", "/run"], ["/run", "/etc"]),
        (["/", "/run", "/data", "/data", "/data/x"], ["/data/x"]),
        (["/", "/run", "/run/a\\040b"], ["/run/a b"]),
        ([], []),
    ],
)
def test_mounts_that_came_later_are_not_the_nodes_own(places, found):
    noted = {"/": 1, "/run": 1, "/data": 1}

    assert volatile.foreign_mounts(info(*places), noted, {"/data"}) == found


def test_what_is_mounted_on_a_node_is_noted_when_it_is_made(here, monkeypatch, tmp_path):
    monkeypatch.setattr(volatile.identity, "DIRECTORY", here.directory)
    (tmp_path / "info").write_text(info("/", "/run", "/run"))
    monkeypatch.setattr(volatile, "_INFO", tmp_path / "info")
    assert volatile.held(here) == []

    volatile.note_mounts()
    (tmp_path / "info").write_text(info("/", "/run", "/run", "/run", "/mnt"))

    assert volatile.held(here) == ["mount /mnt", "mount /run"]


def test_all_that_services_made_is_held_and_lost(here, monkeypatch):
    there = {"mounts": ["/mnt"], "links": {"cni0": 7}, "tables": [(2, "KUBE-NAT")]}
    done = []
    monkeypatch.setattr(volatile, "check_apart", lambda: None)
    monkeypatch.setattr(volatile, "_mounts", lambda _: there["mounts"])
    monkeypatch.setattr(volatile, "_links", lambda _: there["links"])
    monkeypatch.setattr(volatile, "_tables", lambda: there["tables"])
    monkeypatch.setattr(volatile.syscalls, "unmount", lambda place, _: done.append(place))
    monkeypatch.setattr(volatile, "_delete_link", done.append)
    monkeypatch.setattr(volatile, "_delete_tables", lambda: done.append("tables"))
    for path in ("session", "job-web", "kubepods/pod"):
        volatile.group(f"{trees.NODE}/{path}").create()
    volatile.group("pkgctl/test/system/edge-1/unit-k3s").create()

    assert volatile.held(here) == [
        "mount /mnt",
        "link cni0",
        "table KUBE-NAT",
        f"control group {trees.NODE}/kubepods",
        "control group pkgctl/test/system/edge-1",
    ]
    volatile.lose(here)

    assert done == ["/mnt", 7, "tables"]
    names = [each.path for each in volatile.group(trees.NODE).children()]
    assert names == [f"{trees.NODE}/job-web", f"{trees.NODE}/session"]
    assert not volatile.group("pkgctl/test/system/edge-1").exists()


@pytest.mark.parametrize(("number", "passes"), [(2, True), (22, True), (16, False)])
def test_what_has_gone_by_itself_is_not_missed(here, monkeypatch, number, passes):
    def refuse(place, _):
        raise KernelError(f"unmount {place}", number)

    monkeypatch.setattr(volatile, "check_apart", lambda: None)
    monkeypatch.setattr(volatile, "_mounts", lambda _: ["/mnt"])
    monkeypatch.setattr(volatile.syscalls, "unmount", refuse)

    if passes:
        volatile.lose(here)
    else:
        with pytest.raises(KernelError, match="unmount /mnt: Device or resource busy"):
            volatile.lose(here)


NODE = (
    "overlay / overlay rw,lowerdir=/,upperdir=/run/pkgctl/lab/scratch/upper,workdir=/x 0 0\n"
    "tmpfs /tmp tmpfs rw 0 0\n"
)


@pytest.mark.parametrize(
    ("mounts", "found"),
    [
        (NODE, True),
        ("/dev/vda / ext4 rw 0 0\n", False),
        ("overlay / overlay rw,lowerdir=/a,upperdir=/var/lib/docker/x,workdir=/y 0 0\n", False),
        (NODE + "/dev/vda / ext4 rw 0 0\n", False),
        ("", False),
    ],
)
def test_a_local_node_is_known_by_its_root(mounts, found):
    assert volatile._is_local_node(mounts) is found
