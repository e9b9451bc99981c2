# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.pkgctl.testbed.plugins.module_utils import volatile
from ansible_collections.pkgctl.testbed.plugins.module_utils.errors import CapabilityError


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


def test_the_machines_own_memory_is_never_lost(tmp_path, monkeypatch):
    monkeypatch.setattr(volatile, "FOLDERS", (str(tmp_path),))
    fill(tmp_path)

    with pytest.raises(CapabilityError, match="a machine of its own"):
        volatile.lose()
    assert (tmp_path / "deep" / "er" / "file").exists()


def test_what_is_left_over_is_lost_and_nothing_else(tmp_path, monkeypatch):
    monkeypatch.setattr(volatile, "check_apart", lambda: None)
    monkeypatch.setattr(volatile, "FOLDERS", (str(tmp_path),))
    fill(tmp_path)
    assert volatile.held() == [str(tmp_path)]

    volatile.lose()

    assert list(tmp_path.iterdir()) == []
    assert volatile.held() == []
    assert Path("/etc").is_dir()


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
