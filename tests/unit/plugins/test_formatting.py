# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import shutil

import pytest

from ansible_collections.pkgctl.testbed.plugins.module_utils import formatting
from ansible_collections.pkgctl.testbed.plugins.module_utils.errors import DisturbanceError

MIB = 1 << 20
needs_mke2fs = pytest.mark.skipif(
    not shutil.which("mke2fs", path="/usr/sbin:/sbin:/usr/bin"), reason="needs mke2fs"
)


@pytest.fixture
def disk(tmp_path):
    """A blank disk, stood in for by a file."""
    path = tmp_path / "disk"
    with path.open("wb") as file:
        file.truncate(32 * MIB)
    return path


@pytest.fixture
def note(tmp_path):
    return tmp_path / "notes" / "disk.making"


def write(disk, at, data):
    with disk.open("r+b") as file:
        file.seek(at)
        file.write(data)


@pytest.mark.parametrize(
    ("at", "data", "words"),
    [
        (0, b"XFSB", "XFS"),
        (512, b"EFI PART", "GPT"),
        (510, b"\x55\xaa", "partition table"),
        (0, b"LUKS\xba\xbe", "LUKS"),
        (4086, b"SWAPSPACE2", "swap"),
        (65600, b"_BHRfS_M", "btrfs"),
        (3 * MIB + 7, b"x", "not known"),
        (32 * MIB - 1, b"x", "not known"),
        (17 * MIB + 77, b"x", "not known"),
    ],
)
def test_what_is_not_blank_is_named_and_left_as_it_is(disk, note, at, data, words):
    write(disk, at, data)
    before = disk.read_bytes()

    with pytest.raises(DisturbanceError, match=rf"{disk} holds .*{words}.*is left as it is"):
        formatting.ensure(str(disk), note)

    assert disk.read_bytes() == before
    assert not note.exists()


@needs_mke2fs
def test_a_blank_disk_is_given_a_file_system_once(disk, note):
    assert formatting.content(str(disk)) == formatting.BLANK

    formatting.ensure(str(disk), note)

    assert formatting.content(str(disk)) == formatting.EXT
    assert not note.exists()
    before = disk.read_bytes()
    formatting.ensure(str(disk), note)
    assert disk.read_bytes() == before


@needs_mke2fs
def test_a_file_system_that_was_half_made_is_made_anew(disk, note):
    identity = "6f1c8b9e-8f5d-4c1e-9a53-2f0f3c3f5b11"
    note.parent.mkdir()
    note.write_text(f"{identity}\n")
    write(disk, 8 * MIB, b"half a table")

    formatting.ensure(str(disk), note)

    assert formatting.content(str(disk)) == formatting.EXT
    assert formatting._identity(str(disk)) == identity
    assert not note.exists()


@needs_mke2fs
def test_a_file_system_of_another_making_is_kept_whatever_the_note_says(disk, note):
    formatting.make(str(disk), "-F")
    before = disk.read_bytes()
    note.parent.mkdir()
    note.write_text("6f1c8b9e-8f5d-4c1e-9a53-2f0f3c3f5b11\n")

    formatting.ensure(str(disk), note)

    assert disk.read_bytes() == before
    assert not note.exists()


def test_what_somebody_else_put_on_a_half_made_disk_is_kept(disk, note):
    note.parent.mkdir()
    note.write_text("6f1c8b9e-8f5d-4c1e-9a53-2f0f3c3f5b11\n")
    write(disk, 0, b"XFSB")

    with pytest.raises(DisturbanceError, match="an XFS file system"):
        formatting.ensure(str(disk), note)


def test_a_disk_that_cannot_be_read_is_named(tmp_path, note):
    with pytest.raises(DisturbanceError, match="nothing cannot be read: No such file"):
        formatting.ensure(str(tmp_path / "nothing"), note)
