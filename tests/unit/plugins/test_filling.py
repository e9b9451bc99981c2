# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.pkgctl.testbed.plugins.module_utils import filling
from ansible_collections.pkgctl.testbed.plugins.module_utils.errors import KernelError
from ansible_collections.pkgctl.testbed.plugins.module_utils.filling import Room

MIB = 1 << 20
ROOM = Room(total=100 * MIB, free=80 * MIB, held=0)


@pytest.mark.parametrize(
    ("asked", "there", "bytes_back"),
    [
        ({}, ROOM, 0),
        ({"fill": 0.9}, ROOM, 70 * MIB),
        ({"fill": 1.0}, ROOM, 80 * MIB),
        ({"fill": 0.1}, ROOM, 0),
        ({"fill": 0.9}, Room(100 * MIB, 30 * MIB, 50 * MIB), 70 * MIB),
        ({"size": 64 * MIB}, ROOM, 36 * MIB),
        ({"size": 200 * MIB}, ROOM, 0),
        ({"size": 64 * MIB, "fill": 0.9}, ROOM, 70 * MIB),
        ({"size": 10 * MIB, "fill": 0.3}, ROOM, 90 * MIB),
    ],
)
def test_an_amount_makes_a_disk_as_full_and_as_small_as_asked(asked, there, bytes_back):
    assert filling.amount(asked, there) == bytes_back


@given(st.floats(0, 1), st.integers(0, 1 << 40), st.integers(0, 1 << 40))
def test_no_level_asks_for_more_than_is_free(fill, used, free):
    there = Room(used + free, free, 0)

    held = filling.amount({"fill": fill}, there)

    assert held % there.block == 0
    assert 0 <= held <= free


def test_what_there_is_no_room_for_is_not_held_back():
    assert filling.fitting(90 * MIB, ROOM) == 80 * MIB
    assert filling.fitting(90 * MIB, Room(100 * MIB, 10 * MIB, 70 * MIB)) == 80 * MIB
    assert filling.fitting(5 * MIB, ROOM) == 5 * MIB


def test_bytes_are_held_back_by_a_hidden_file_that_grows_shrinks_and_goes(tmp_path):
    place = str(tmp_path)
    for size in (4 * MIB, 8 * MIB, MIB):
        filling.hold(place, size)
        assert filling.is_near(filling.room(place).held, size, 4096)
    assert [file.name.startswith(".") for file in tmp_path.iterdir()] == [True]

    filling.hold(place, 0)
    filling.hold(place, 0)

    assert list(tmp_path.iterdir()) == []
    assert filling.room(place).held == 0


def test_a_link_in_the_place_of_the_file_is_not_followed(tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("mine")
    (tmp_path / "disk").mkdir()
    (tmp_path / "disk" / filling.FILE).symlink_to(victim)

    with pytest.raises(KernelError, match="hold back 1048576 bytes"):
        filling.hold(str(tmp_path / "disk"), MIB)

    assert victim.read_text() == "mine"


def test_a_place_that_is_gone_is_named(tmp_path):
    with pytest.raises(KernelError, match=r"read the room of .*nowhere: No such file"):
        filling.room(str(tmp_path / "nowhere"))
