# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import gzip
import io
import os
import tarfile
from pathlib import Path

from ansible_collections.pkgctl.testbed.plugins.plugin_utils import packing


def sources(folder: Path) -> Path:
    (folder / "programs" / "__pycache__").mkdir(parents=True)
    (folder / "b.py").write_text("b = 1\n")
    (folder / "a.py").write_text("a = 1\n")
    (folder / "programs" / "run.py").write_text("run = 1\n")
    (folder / "programs" / "__pycache__" / "run.pyc").write_bytes(b"x")
    return folder


def test_an_archive_is_the_same_wherever_and_whenever_it_is_packed(tmp_path):
    first, second = (sources(tmp_path / name) for name in ("one", "two"))
    os.utime(second / "a.py", (1, 1))
    (second / "b.py").chmod(0o700)

    assert packing.pack(first) == packing.pack(second)


def test_another_source_makes_another_digest(tmp_path):
    first, second = (sources(tmp_path / name) for name in ("one", "two"))
    (second / "a.py").write_text("a = 2\n")

    assert packing.pack(first).digest != packing.pack(second).digest


def test_an_archive_holds_the_sources_alone(tmp_path):
    packed = packing.pack(sources(tmp_path / "one"))

    with tarfile.open(fileobj=io.BytesIO(gzip.decompress(packed.content))) as tar:
        names = tar.getnames()
    assert names == [f"{packing.PACKAGE}/{name}" for name in ("a.py", "b.py", "programs/run.py")]


def test_the_nodes_code_is_what_is_packed():
    with tarfile.open(fileobj=io.BytesIO(gzip.decompress(packing.pack().content))) as tar:
        names = {Path(name).name for name in tar.getnames()}

    assert {"agent.py", "delayline.py", "fetch.py"} <= names
