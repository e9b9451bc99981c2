# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import fcntl
import os
import platform
import stat
import subprocess
import sys
import threading
import time

import pytest
from click.testing import CliRunner

from pkgctl import cli
from pkgctl.errors import MissingCapability, PkgctlError, SpecError
from pkgctl.image import build as building
from pkgctl.image import initrd, recipe, store

# Stands for the three tools: each leaves what the real one would, in little.
TOOL = """\
#!{python}
import json, os, pathlib, sys
name, words = pathlib.Path(sys.argv[0]).name, sys.argv[1:]
with open({log!r}, "a") as log:
    log.write(json.dumps([name, *words]) + "\\n")
if os.environ.get("FAIL") == name:
    print("I: trying"); print("E: no space left on device"); sys.exit(25)
if name == "mmdebstrap":
    tree = pathlib.Path(next(word for word in words if word.endswith("/tree")))
    modules = tree / "usr/lib/modules/6.1-test"
    modules.mkdir(parents=True)
    (modules / "modules.dep").write_text("".join(m + ".ko:\\n" for m in {modules!r}))
    for module in {modules!r}:
        (modules / (module + ".ko")).write_text(module)
    files = {{"boot/vmlinuz-6.1-test": "KERNEL", "bin/busybox": "B"}}
    status = "Package: x\\nStatus: install ok installed\\nVersion: 1\\n"
    for path, text in {{**files, "var/lib/dpkg/status": status}}.items():
        (tree / path).parent.mkdir(parents=True, exist_ok=True)
        (tree / path).write_text(text)
elif name == "mke2fs":
    pathlib.Path(words[-2]).write_text("RAW")
else:
    pathlib.Path(words[-1]).write_text("QCOW2")
"""


@pytest.fixture(autouse=True)
def shelf(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    return tmp_path / "cache/pkgctl/images"


@pytest.fixture
def tools(tmp_path, monkeypatch):
    log = tmp_path / "log"
    log.touch()
    place = tmp_path / "tools"
    place.mkdir()
    for name in building.TOOLS:
        text = TOOL.format(python=sys.executable, log=str(log), modules=initrd.MODULES)
        (place / name).write_text(text)
        (place / name).chmod(0o755)
    monkeypatch.setattr(building, "_PATH", f"{place}:{os.environ['PATH']}")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    return lambda: [line.split('"')[1] for line in log.read_text().splitlines()]


def work_left(shelf):
    return [each.name for each in shelf.iterdir() if each.name.startswith((".build", ".gone"))]


def test_an_image_is_built_once(shelf, tools, monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "0")
    said = []

    made = building.build(say=said.append)

    assert tools() == ["mmdebstrap", "mke2fs", "qemu-img"] and len(said) == 3
    assert made.fingerprint == recipe.read().fingerprint()
    assert made.manifest["kernel"] == "6.1-test" and made.manifest["packages"] == {"x": "1"}
    assert made.manifest["date"] == "1970-01-01T00:00:00+00:00"
    assert made.image().kernel.read_text() == "KERNEL"
    assert stat.S_IMODE(made.folder.stat().st_mode) == 0o755
    assert work_left(shelf) == []
    store.verify(made)

    assert building.build() == made
    assert len(tools()) == 3
    assert building.build(force=True).fingerprint == made.fingerprint
    assert len(tools()) == 6 and work_left(shelf) == []


def test_more_packages_are_another_image(tools):
    assert building.build(["redis-server"]).fingerprint != building.build().fingerprint
    assert len(store.built()) == 2


@pytest.mark.parametrize("tool", building.TOOLS)
def test_a_step_that_fails_says_why_and_leaves_nothing(shelf, tools, monkeypatch, tool):
    monkeypatch.setenv("FAIL", tool)

    with pytest.raises(PkgctlError, match=f"^{tool} failed: E: no space left on device$"):
        building.build()

    assert store.built() == [] and work_left(shelf) == []


def test_a_failed_second_build_keeps_the_first(tools, monkeypatch):
    made = building.build()
    monkeypatch.setenv("FAIL", "qemu-img")

    with pytest.raises(PkgctlError):
        building.build(force=True)

    assert store.built() == [made]


def test_what_a_killed_build_left_is_cleared_by_the_next(shelf, tools):
    left = shelf / f".build-{recipe.read().fingerprint()}-killed"
    (left / "tree").mkdir(parents=True)

    building.build()

    assert work_left(shelf) == []


def test_of_two_builds_at_once_one_waits_and_takes_the_others_image(shelf, tools):
    shelf.mkdir(parents=True)
    fingerprint = recipe.read().fingerprint()
    lock = os.open(shelf / f".{fingerprint}.lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(lock, fcntl.LOCK_EX)
    said, found = [], []
    other = threading.Thread(target=lambda: found.append(building.build(say=said.append)))
    other.start()
    try:
        deadline = time.monotonic() + 10
        while not said and time.monotonic() < deadline:
            time.sleep(0.01)
        assert said == ["waiting for another build of the same image"] and tools() == []
    finally:
        os.close(lock)
        other.join(30)
    assert [each.fingerprint for each in found] == [fingerprint]


def test_the_lock_outlives_a_builder_that_was_killed_while_its_tool_runs(tmp_path):
    lock = os.open(tmp_path / "lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(lock, fcntl.LOCK_EX)
    with subprocess.Popen(["sleep", "60"], pass_fds=(lock,)) as tool:
        os.close(lock)
        again = os.open(tmp_path / "lock", os.O_RDWR)
        with pytest.raises(BlockingIOError):
            fcntl.flock(again, fcntl.LOCK_EX | fcntl.LOCK_NB)
        tool.kill()
        tool.wait()
        fcntl.flock(again, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.close(again)


def test_nothing_is_cleared_where_something_is_mounted(monkeypatch):
    with pytest.raises(PkgctlError, match="/proc/sys/fs/binfmt_misc is mounted"):
        mounts = "1 1 0:1 / /proc/sys/fs/binfmt_misc rw - x x rw\n"
        monkeypatch.setattr(building.Path, "read_text", lambda _: mounts)
        building._clear(building.Path("/proc/sys"))


def test_without_root_or_tools_it_ends_with_3_and_says_how_to_get_them(tmp_path, monkeypatch):
    monkeypatch.setattr(building, "_PATH", str(tmp_path))
    result = CliRunner().invoke(cli.cli, ["image", "build"])

    assert result.exit_code == 3
    assert "apt-get install mmdebstrap e2fsprogs qemu-utils" in result.stderr
    assert result.stderr.count("\n") == 1


def test_without_root_it_is_said(tools, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)

    with pytest.raises(MissingCapability, match="takes root"):
        building.build()


def test_another_processor_is_named(monkeypatch):
    monkeypatch.setattr(platform, "machine", lambda: "riscv64")

    with pytest.raises(MissingCapability, match="this one is riscv64"):
        building.build()


def test_the_fingerprint_alone_is_printed(tools):
    result = CliRunner().invoke(cli.cli, ["image", "build", "--package", "tcpdump"])

    assert result.exit_code == 0
    assert result.stdout.split() == [recipe.read(["tcpdump"]).fingerprint()]
    assert "installing" in result.stderr


def test_a_bad_package_is_refused_before_anything_is_looked_for():
    with pytest.raises(SpecError):
        building.build(["--include=x"])
