# SPDX-License-Identifier: GPL-3.0-or-later
"""The image that is written of this machine's Python."""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import tarfile
from pathlib import Path

import pytest

from pkgctl.cluster import runtime


@pytest.fixture(scope="module")
def image(tmp_path_factory) -> runtime.Image:
    return runtime.image(tmp_path_factory.mktemp("cache"))


def layer_of(image: runtime.Image) -> bytes:
    with tarfile.open(image.archive) as archive:
        (manifest,) = json.load(archive.extractfile("manifest.json"))
        assert manifest["RepoTags"] == [image.name]
        config = json.load(archive.extractfile(manifest["Config"]))
        layer = archive.extractfile(manifest["Layers"][0]).read()
    assert config["rootfs"]["diff_ids"] == [f"sha256:{hashlib.sha256(layer).hexdigest()}"]
    return layer


def test_the_same_inputs_give_the_same_bytes_and_the_name_that_pods_ask_for(image, tmp_path):
    again = runtime.image(tmp_path)

    assert again.name == image.name == runtime.runtime().image
    assert again.archive.read_bytes() == image.archive.read_bytes()


def test_an_archive_that_is_there_is_not_written_again(image):
    before = image.archive.stat().st_mtime_ns

    assert runtime.image(image.archive.parent) == image
    assert image.archive.stat().st_mtime_ns == before
    assert [path.name for path in image.archive.parent.iterdir()] == [image.archive.name]


def test_it_belongs_to_nobody_and_to_no_time(image):
    with tarfile.open(fileobj=io.BytesIO(layer_of(image))) as layer:
        entries = layer.getmembers()

    assert {(each.uid, each.gid, each.mtime, each.uname) for each in entries} == {(0, 0, 0, "")}
    assert all(each.isfile() or each.isdir() for each in entries)
    names = {each.name for each in entries}
    assert {"pkgctl/service.py", "pkgctl/batch.py", "pkgctl/fetch.py"} <= names
    assert "usr/local/bin/python3" in names


@pytest.mark.root
def test_the_programs_run_in_it_and_find_nothing_of_this_machine(image, tmp_path):
    with tarfile.open(fileobj=io.BytesIO(layer_of(image))) as layer:
        layer.extractall(tmp_path, filter="tar")
    python = ["/usr/local/bin/python3", "-S", "-E"]
    show = "import sys; print(all(p.startswith('/usr/local/') for p in sys.path[1:]))"

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            words,
            capture_output=True,
            text=True,
            check=False,
            env={"LD_LIBRARY_PATH": "/usr/local/lib"},
            preexec_fn=lambda: (os.chroot(tmp_path), os.chdir("/")),
        )

    batch = run(*python, "/pkgctl/batch.py", "--cpu", "0.01", "--memory", "4096")
    assert (batch.returncode, batch.stderr) == (0, "")
    assert run(*python, "-c", show).stdout == "True\n"
    refused = run(*python, "/pkgctl/fetch.py", "http://127.0.0.1:1/x", "/tmp/x", "1")
    assert refused.returncode == 1 and "Connection refused" in refused.stderr
    assert not (Path(tmp_path) / "tmp" / "x").exists()


def test_what_a_user_names_is_pulled_where_it_is_not_there():
    own = runtime.runtime("registry.example/pkgctl:1")

    assert (own.image, own.pull) == ("registry.example/pkgctl:1", "IfNotPresent")
    assert runtime.runtime().pull == "Never"
