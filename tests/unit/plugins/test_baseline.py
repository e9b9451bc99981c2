# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ansible_collections.pkgctl.testbed.plugins.module_utils import baseline
from ansible_collections.pkgctl.testbed.plugins.module_utils.errors import KernelError
from ansible_collections.pkgctl.testbed.plugins.module_utils.predictions import Machine

KNOWN = Machine(rate=10**9, delay=2e-5)


def test_a_baseline_is_remembered_for_this_boot_of_this_kernel(tmp_path):
    baseline.save(KNOWN, tmp_path / "made")

    assert baseline.load(tmp_path / "made") == KNOWN


@pytest.mark.parametrize("key", ["boot", "kernel"])
def test_a_baseline_of_another_boot_or_kernel_is_not_used(tmp_path, key):
    baseline.save(KNOWN, tmp_path)
    path = tmp_path / baseline.FILE
    path.write_text(json.dumps({**json.loads(path.read_text()), key: "another"}))

    assert baseline.load(tmp_path) is None


@pytest.mark.parametrize("text", ["", "[]", "{", '{"boot": 1}', "null"])
def test_a_file_that_is_no_baseline_is_as_none(tmp_path, text):
    (tmp_path / baseline.FILE).write_text(text)

    assert baseline.load(tmp_path) is None


def test_a_folder_that_cannot_be_written_is_no_failure(tmp_path):
    (tmp_path / "file").write_text("")

    baseline.save(KNOWN, tmp_path / "file" / "below")


def test_the_folder_is_that_of_the_user(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    assert baseline.folder() == tmp_path / "pkgctl"


@pytest.mark.root
def test_this_machine_is_measured_and_nothing_is_left():
    before = links()

    found = baseline.measure()

    assert found.rate is not None and found.rate > 10**7
    assert found.delay is not None and 0 < found.delay < 0.1
    assert links() == before


@pytest.mark.root
def test_who_is_killed_while_measuring_leaves_nothing():
    code = (
        "from ansible_collections.pkgctl.testbed.plugins.module_utils import baseline\n"
        "baseline.TCP_SECONDS = 30\nprint('on', flush=True)\nbaseline.measure()\n"
    )
    before = links()
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        until = time.monotonic() + 10
        while not (children := offspring(process.pid)) and time.monotonic() < until:
            time.sleep(0.01)
        time.sleep(0.2)
        children |= offspring(process.pid)
        os.kill(process.pid, signal.SIGKILL)
    until = time.monotonic() + 10
    while any(map(is_alive, children)) and time.monotonic() < until:
        time.sleep(0.02)

    assert children
    assert not any(map(is_alive, children))
    assert links() == before


def links() -> set[str]:
    return {path.name for path in Path("/sys/class/net").glob("port*")}


def offspring(pid: int) -> set[int]:
    """Return the processes that a process has begun, and those that they have."""
    found: set[int] = set()
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in map(int, path.read_text().split()):
            found |= {child, *offspring(child)}
    return found


def is_alive(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.root
def test_an_end_that_fails_is_said_and_nothing_is_left(monkeypatch):
    def fail() -> float:
        raise TimeoutError("no answer")

    monkeypatch.setattr(baseline, "_delay", fail)
    before = links()

    with pytest.raises(KernelError, match="TimeoutError: no answer"):
        baseline.measure()
    assert links() == before
