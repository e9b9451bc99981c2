# SPDX-License-Identifier: GPL-3.0-or-later
"""Testbeds of the tests' own, each under a name of its own, gone again whatever happens."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from pkgctl import topology
from pkgctl.local import enter, paths, removal, testbed
from tests import controlgroups

Runner = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def place() -> Iterator[paths.Paths]:
    """The places of a testbed that is not up yet."""
    here = paths.paths(f"t{uuid.uuid4().hex[:10]}")
    try:
        yield here
    finally:
        removal.down(here)


@pytest.fixture
def duo(place: paths.Paths) -> paths.Paths:
    """Two nodes, cloud-1 and edge-1, and an unshaped link."""
    testbed.up(topology.load("duo"), place)
    return place


@pytest.fixture
def three_sites(place: paths.Paths) -> paths.Paths:
    """Seven nodes at three sites, with data disks."""
    testbed.up(topology.load("three-sites"), place)
    return place


def pkgctl(*words: str, name: str = "", **options: object) -> subprocess.CompletedProcess[str]:
    """Run the command line as a user would."""
    return subprocess.run(
        [sys.executable, "-m", "pkgctl", *words],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PKGCTL_TESTBED": name} if name else None,
        **{"timeout": 240, **options},  # type: ignore[call-overload]
    )


def on_node(place: paths.Paths, node: str, *command: str) -> str:
    """Return what a command prints inside a node; it must succeed.

    A child becomes the command as `pkgctl exec` does, without the start of another Python.
    """
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        preexec_fn=lambda: enter.run(place, node, command),
    )
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout


def what_is_there() -> dict[str, list[str]]:
    """Return what the machine holds that a testbed could leave: a picture to compare."""
    groups = controlgroups.below("pkgctl")
    loops = []
    for path in Path("/sys/block").glob("loop*/loop/backing_file"):
        with suppress(OSError):  # one that has gone meanwhile
            loops.append(path.read_text().strip())
    links = sorted(path.name for path in Path("/sys/class/net").iterdir())
    mounts = [line.split(" ")[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
    return {"groups": groups, "loops": loops, "links": links, "mounts": mounts}


def traces_of(name: str) -> list[str]:
    """Return what a testbed with a name has left on the machine, in words."""
    found = [
        f"{kind}: {each}"
        for kind, items in what_is_there().items()
        for each in items
        if name in each
    ]
    found += [str(path) for root in (paths.RUN, paths.STORE) for path in root.glob(f"{name}*")]
    return found + [f"process: {line}" for line in processes_with(name)]


def processes_with(word: str) -> list[str]:
    """Return the command lines that hold a word, this test's own left out."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if word in line and int(path.parent.name) != os.getpid():
            found.append(line)
    return found
