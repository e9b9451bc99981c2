# SPDX-License-Identifier: GPL-3.0-or-later
"""A play that ends with whoever asked for it, however that ends.

    python playguard.py PID FOLDER COMMAND...

Runs a command for the process PID, its parent. If that is killed before the command has ended, all
that the command has started is killed too, and the play's folder removed: nobody is left who would
use what it finds, or remove what it was told.
"""

from __future__ import annotations

import os
import select
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

_PROC = Path("/proc")


def main() -> None:
    """Run the command that the arguments name, and end as it ends."""
    asker, folder, command = int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:]
    try:
        watched = os.pidfd_open(asker)
    except ProcessLookupError:
        watched = -1
    if os.getppid() != asker:  # It went before it was watched.
        shutil.rmtree(folder, ignore_errors=True)
        sys.exit(1)
    sys.exit(run(watched, folder, command))


def run(asker: int, folder: Path, command: list[str]) -> int:
    """Run a command for as long as a process is there, and return its exit status.

    Args:
        asker: a descriptor of the process.
        folder: what is removed if the process ends first.
        command: the command's words.
    """
    child = subprocess.Popen(command)
    waiting = select.poll()
    ended = os.pidfd_open(child.pid)
    for descriptor in (asker, ended):
        waiting.register(descriptor, select.POLLIN)
    seen = {descriptor for descriptor, _ in waiting.poll()}
    if ended not in seen:
        kill_family(child.pid)
        shutil.rmtree(folder, ignore_errors=True)
    status = child.wait()
    return status if status >= 0 else 128 - status


def kill_family(root: int) -> None:
    """Kill a process and all below it; those that have left it to live on are not touched.

    Each is stopped before its children are looked for, so that none comes to be meanwhile.
    """
    stopped: set[int] = set()
    while fresh := family(_parents(), root) - stopped:
        for pid in fresh:
            _tell(pid, signal.SIGSTOP)
        stopped |= fresh
    for pid in stopped:
        _tell(pid, signal.SIGKILL)


def family(parents: Mapping[int, int], root: int) -> set[int]:
    """Return a process and all below it.

    Args:
        parents: each process's parent.
        root: the process.
    """
    found: set[int] = set()
    level = {root} & parents.keys()
    while level:
        found |= level
        level = {pid for pid, parent in parents.items() if parent in level} - found
    return found


def _parents() -> dict[int, int]:
    """Return the parent of each process of this machine."""
    found = {}
    for folder in _PROC.glob("[0-9]*"):
        with suppress(OSError):
            rest = (folder / "stat").read_text().rpartition(")")[2]
            found[int(folder.name)] = int(rest.split()[1])
    return found


def _tell(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)


if __name__ == "__main__":
    main()
