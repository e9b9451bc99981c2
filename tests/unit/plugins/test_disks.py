# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import os

import pytest

from ansible_collections.pkgctl.testbed.plugins.module_utils import disks, layers
from ansible_collections.pkgctl.testbed.plugins.module_utils.errors import DisturbanceError
from ansible_collections.pkgctl.testbed.plugins.module_utils.identity import Disk

from .agents import node

DATA = Disk("/images/data.img", "/data", 1 << 26)
NAMES = {"data": DATA}


def test_the_harshest_state_of_all_layers_holds():
    stored = {"base": {}, "a": {"data": "readonly"}, "b": {"data": "mounted"}}

    assert disks.composed(stored, NAMES) == {"data": "readonly"}
    assert disks.composed({**stored, "c": {"data": "unmounted"}}, NAMES) == {"data": "unmounted"}


def test_disks_are_mounted_where_no_layer_says_otherwise():
    assert disks.composed({}, NAMES) == disks.composed({"base": {}}, NAMES) == {"data": "mounted"}


@pytest.mark.parametrize(
    ("mounts", "state"),
    [
        ("overlay / overlay rw 0 0\n", "unmounted"),
        ("/dev/loop0 /data ext4 rw,nosuid 0 0\n", "mounted"),
        ("/dev/loop0 /data ext4 ro,nosuid 0 0\n", "readonly"),
        ("/dev/loop0 /data2 ext4 rw 0 0\n", "unmounted"),
        ("/dev/loop0 /data ext4 rw,errors=remount-ro 0 0\n", "mounted"),
        ("/dev/loop0 /data ext4 rw 0 0\n/dev/loop1 /data ext4 ro 0 0\n", "readonly"),
    ],
)
def test_a_disks_state_is_that_of_the_mount_on_top(mounts, state):
    assert disks.read(DATA, mounts) == state


def test_states_are_shown_a_disk_a_line():
    assert disks.show({"logs": "mounted", "data": "readonly"}) == "data: readonly\nlogs: mounted\n"


def asked(here, **options):
    return disks.change(here, layer="test", dry_run=True, **options)


def test_a_node_without_a_disk_says_so(tmp_path):
    with pytest.raises(DisturbanceError, match="edge-1 has no data disk"):
        asked(node(tmp_path, disks={}), state="unmounted")


def test_of_several_disks_one_must_be_named(tmp_path):
    here = node(tmp_path, disks={"data": DATA, "logs": Disk("/images/logs.img", "/logs", 1)})

    with pytest.raises(DisturbanceError, match="has the disks data, logs; name one of them"):
        asked(here, state="unmounted")
    with pytest.raises(DisturbanceError, match="there is no disk 'swap'"):
        asked(here, disk="swap", state="unmounted")


def test_an_unknown_state_is_refused_with_those_that_are_known(tmp_path):
    with pytest.raises(DisturbanceError, match="known are mounted, readonly, unmounted"):
        asked(node(tmp_path), state="gone")


def test_a_prediction_tells_the_change_and_stores_nothing(tmp_path):
    here = node(tmp_path, disks={"data": Disk("/images/data.img", str(tmp_path / "disk"), 1)})

    # Nothing is mounted there.
    predicted = asked(here, state="readonly")

    assert (predicted.changed, predicted.actions) == (True, ["data: readonly"])
    assert (predicted.before, predicted.after) == ("data: unmounted\n", "data: readonly\n")
    assert layers.load(tmp_path / disks.STORE) == {}


def test_the_holders_of_a_device_are_named(tmp_path):
    with (tmp_path / "file").open("w") as file:
        found = disks.holders(os.fstat(file.fileno()).st_dev)

    assert os.getpid() in [pid for pid, _ in found]
    assert all(name for _, name in found)
