# SPDX-License-Identifier: GPL-3.0-or-later
"""Taking a local testbed down, however it ended: what it left is found from its name alone."""

from __future__ import annotations

import json
import os
import shutil
import time
from contextlib import suppress
from pathlib import Path

from pkgctl.errors import TestbedError
from pkgctl.local.holding import Outcome, explained, locked, require_root
from pkgctl.local.paths import GROUPS, STORE, Paths
from pkgctl.nodeside import cgroups, daemon, syscalls

_CONTROL = "control"


def down(paths: Paths) -> Outcome:
    """Remove a testbed and all that it left on the machine, however it ended.

    Raises:
        TestbedError: if something would not go, naming it.
    """
    require_root()
    started = time.monotonic()
    with locked(), explained():
        if not is_there(paths):
            return Outcome(False, seconds=time.monotonic() - started)
        lines = remove(paths)
    return Outcome(True, lines, seconds=time.monotonic() - started)


def enlist(paths: Paths) -> None:
    """Let `down` find the calling process and all that it starts, should it not end well."""
    group = cgroups.group(f"{paths.cgroup}/{_CONTROL}")
    group.create()
    group.mark()


def is_there(paths: Paths) -> bool:
    """Return whether a testbed, whole or in parts, has left anything on this machine."""
    return paths.run.exists() or paths.images.exists() or cgroups.group(paths.cgroup).exists()


def remove(paths: Paths) -> list[str]:
    """Kill what runs in a testbed, then remove it; return what went, a line each."""
    lines = []
    with suppress(OSError, ValueError):
        lines = [f"- node {name}" for name in json.loads(paths.state.read_text())["nodes"]]
    behind = images(paths)
    group = cgroups.group(paths.cgroup)
    with suppress(OSError):
        # The agent and the delay line start one another when one of them ends.
        (paths.run / daemon.DOWN).touch()
    kill(group, _ourselves())
    for place in (paths.pins, paths.run):
        while _is_mount(place):
            syscalls.unmount(str(place), syscalls.MNT_DETACH)
    for folder in (paths.run, paths.images):
        shutil.rmtree(folder, ignore_errors=True)
        if folder.exists():
            raise TestbedError(f"{folder} could not be removed; is it in use?")
    _leave(cgroups.group(f"{paths.cgroup}/{_CONTROL}"))
    group.remove()
    with suppress(OSError):
        STORE.rmdir()
    for folder in cgroups.group(GROUPS).everywhere():
        with suppress(OSError):
            folder.rmdir()
    _await_loops(behind)
    return lines


def _ourselves() -> frozenset[int]:
    """Return this process and those that wait for it."""
    found, pid = set(), os.getpid()
    while pid > 1:
        found.add(pid)
        pid = int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])
    return frozenset(found)


def _leave(group: cgroups.Group) -> None:
    """Move whoever is spared out of a group that is about to go."""
    for pid in group.processes():
        for root in group.machine.roots():
            (root / "cgroup.procs").write_text(str(pid))


def _is_mount(place: Path) -> bool:
    return any(
        line.split(" ")[1] == str(place)
        for line in Path("/proc/self/mounts").read_text().splitlines()
    )


Images = frozenset[tuple[int, int]]


def images(paths: Paths) -> Images:
    """Return (device number, inode) of each disk image of a testbed."""
    found = [path.stat() for path in paths.images.rglob("*.img")]
    return frozenset((each.st_dev, each.st_ino) for each in found)


def loop_devices(behind: Images) -> list[str]:
    """Return the loop devices behind which some images are, deleted ones included."""
    used = [f"/dev/{path.parts[3]}" for path in Path("/sys/block").glob("loop*/loop")]
    return [device for device in used if syscalls.loop_backing(device) in behind]


def _await_loops(behind: Images, patience: float = 5.0) -> None:
    """Wait until the kernel has let go of the disks' loop devices, which it does on its own."""
    deadline = time.monotonic() + patience
    while behind and (held := loop_devices(behind)):
        if time.monotonic() > deadline:
            raise TestbedError(
                f"{', '.join(held)} still hold disks of the testbed; are they in use?"
            )
        time.sleep(0.005)


def kill(group: cgroups.Group, spare: frozenset[int] = frozenset()) -> None:
    """Kill what runs in a group.

    Raises:
        TestbedError: if something does not end.
    """
    if left := group.kill(spare=spare):
        raise TestbedError(f"processes {', '.join(map(str, left))} would not end")
