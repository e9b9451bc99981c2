# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import os
import shutil
import subprocess

import pytest

from pkgctl.image import cpio

ENTRIES = [
    cpio.folder("bin"),
    cpio.program("bin/hello", b"#!/bin/sh\n"),
    cpio.link("bin/hi", "hello"),
    cpio.file("data", b"odd"),
]


def test_the_archive_is_the_same_each_time_and_ends_with_the_trailer():
    made = cpio.archive(ENTRIES)

    assert made == cpio.archive(ENTRIES)
    assert made.startswith(b"070701") and b"TRAILER!!!" in made[-16:]
    assert len(made) % 4 == 0


def test_a_header_is_fourteen_words_of_eight_digits():
    head = cpio.archive([cpio.character_device("dev/console", 5, 1)])[:110]
    fields = [int(head[start : start + 8], 16) for start in range(6, 110, 8)]

    assert len(fields) == 13
    assert fields[1] == 0o020600
    assert fields[9:11] == [5, 1]
    assert fields[11] == len("dev/console") + 1


@pytest.mark.skipif(not shutil.which("cpio"), reason="needs cpio")
def test_another_program_unpacks_it(tmp_path):
    subprocess.run(
        ["cpio", "-idm", "--quiet"], input=cpio.archive(ENTRIES), cwd=tmp_path, check=True
    )

    assert (tmp_path / "data").read_bytes() == b"odd"
    assert os.access(tmp_path / "bin/hello", os.X_OK)
    assert (tmp_path / "bin/hi").readlink().name == "hello"
