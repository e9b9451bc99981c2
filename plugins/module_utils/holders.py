# SPDX-License-Identifier: GPL-3.0-or-later
"""Who uses a file system: processes, and the jobs and nodes that they belong to."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from .errors import DisturbanceError

_SHOWN = 5
# On a node that is a machine of its own, systemd's slice holds its jobs.
_SLICE = re.compile(r"^\d+:[^:]*:/pkgctl\.slice/job-([^/\n]+)", re.M)
_GROUP = re.compile(r"^\d+:[^:]*:.*/?pkgctl/[^/]+/(nodes|outside)/([^/\n]+)(?:/([^/\n]+))?", re.M)


@dataclass(frozen=True, slots=True, order=True)
class Holder:
    """A process that uses a file system, and what it belongs to, if that can be told."""

    pid: int
    command: str
    part_of: str = ""

    def show(self) -> str:
        """Return it in words, such as ``python3 (pid 7, job web on edge-1)``."""
        belongs = f", {self.part_of}" if self.part_of else ""
        return f"{self.command} (pid {self.pid}{belongs})"


def busy(place: str) -> DisturbanceError:
    """Return the error that names who uses what is mounted at a place."""
    found = [holder.show() for holder in holders(Path(place).stat().st_dev)]
    more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    who = ", ".join(found[:_SHOWN]) + more if found else "a mount or a process elsewhere"
    return DisturbanceError(
        f"{place} is in use by {who}; stop it first, or choose how: lazy or force"
    )


def holders(device: int) -> list[Holder]:
    """Return the processes with a file, a folder, a root or mapped memory on a device."""
    found = []
    for entry in os.scandir("/proc"):
        if entry.name.isdigit() and _holds(entry.path, device):
            part_of = belonging(_text(f"{entry.path}/cgroup"))
            found.append(Holder(int(entry.name), _text(f"{entry.path}/comm").strip(), part_of))
    return sorted(found)


def belonging(groups: str) -> str:
    """Return the job or node that a process belongs to, given its /proc/PID/cgroup.

    In version 1 its hierarchies may differ: the one that says most counts.
    """
    known = max(_GROUP.findall(groups), key=lambda match: bool(match[2]), default=None)
    if known is None:
        own = _SLICE.search(groups)
        return f"job {own[1]}" if own else ""
    where, name, inner = known
    if where == "outside":
        return f"job {name}"
    if inner.startswith("job-"):
        return f"job {inner.removeprefix('job-')} on {name}"
    return f"a session on {name}" if inner == "session" else f"node {name}"


def _holds(process: str, device: int) -> bool:
    try:
        open_files = [entry.path for entry in os.scandir(f"{process}/fd")]
    except OSError:
        return False
    places = (f"{process}/cwd", f"{process}/root", *open_files)
    return any(_device(place) == device for place in places) or _maps(process, device)


def _device(place: str) -> int | None:
    try:
        return Path(place).stat().st_dev
    except OSError:
        return None


def _maps(process: str, device: int) -> bool:
    return f" {os.major(device):02x}:{os.minor(device):02x} " in _text(f"{process}/maps")


def _text(file: str) -> str:
    try:
        return Path(file).read_text(errors="replace")
    except OSError:
        return "?"
