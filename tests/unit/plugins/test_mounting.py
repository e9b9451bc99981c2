# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest

from ansible_collections.pkgctl.testbed.plugins.module_utils import mounting
from ansible_collections.pkgctl.testbed.plugins.module_utils.identity import Disk

ROOT = "22 1 0:30 / / rw,relatime - overlay overlay rw,lowerdir=/\n"
OURS = "40 22 7:3 / /data rw,nosuid,nodev - ext4 /dev/loop3 rw\n"
GUEST = "41 40 0:55 / /data rw shared:7 master:1 - tmpfs my\\040guest rw,size=4k\n"


def top(text, place="/data"):
    return mounting.tops(text).get(place)


def test_the_mount_on_top_of_a_place_counts():
    assert top(ROOT + OURS).number == "7:3"
    assert top(ROOT + OURS + GUEST).number == "0:55"
    assert top(ROOT) is None


def test_what_is_mounted_is_told_with_its_source():
    assert top(OURS).what == "ext4 (/dev/loop3)"
    assert top(GUEST).what == "tmpfs (my guest)"


def test_places_with_blanks_are_read():
    assert top(OURS.replace("/data", "/my\\040data"), "/my data") == top(OURS)


@pytest.mark.parametrize(
    ("line", "ours", "cut", "condition"),
    [
        ("", False, False, "unmounted"),
        (OURS, True, False, "mounted"),
        (OURS, False, False, "foreign"),
        (GUEST, False, False, "foreign"),
        (OURS.replace("rw,nosuid", "ro,nosuid"), True, False, "readonly"),
        (OURS.replace("loop3 rw", "loop3 ro"), True, False, "readonly"),
        (OURS.replace("loop3 rw", "loop3 rw,errors=remount-ro"), True, False, "mounted"),
        (OURS.replace("loop3 rw", "loop3 rw,shutdown"), True, False, "dead"),
        (OURS, True, True, "dead"),
    ],
)
def test_a_disks_condition_is_that_of_its_own_image(line, ours, cut, condition):
    assert mounting.judge(top(line), ours=ours, cut=cut) == condition


def test_a_place_where_nothing_is_mounted_has_no_disk(tmp_path):
    disk = Disk(str(tmp_path / "data.img"), str(tmp_path), 1)

    assert mounting.look({"data": disk}) == {"data": mounting.Seen()}
    assert mounting.look({}) == {}
    assert mounting.in_use(disk) == ""
    assert mounting.devices({"data": disk}) == []


def test_somebody_elses_mount_at_the_place_is_foreign():
    # /proc is mounted wherever this runs, and no image is behind it.
    seen = mounting.look({"data": Disk("/images/data.img", "/proc", 1)})["data"]

    assert (seen.condition, seen.device, seen.foreign) == ("foreign", "", "proc (proc)")
