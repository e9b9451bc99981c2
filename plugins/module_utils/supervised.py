# SPDX-License-Identifier: GPL-3.0-or-later
"""A unit that the agent keeps running: its record, and the process that becomes its program.

The record is a file in the node's folder, so an agent that was killed finds the process again, by
its id and the moment of its birth; and with the node's folder goes all that was known of its units.
"""

from __future__ import annotations

import fcntl
import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from . import jobs, journal, supervision, syscalls
from .errors import DisturbanceError
from .supervision import Unit

FOLDER = "units"
STARTING, RUNNING, STOPPING = "starting", "running", "stopping"
# Not wanted; ended, and to be started again soon; wanted, on a node that is not up.
STOPPED, RESTARTING, OFF = "stopped", "restarting", "off"
# Where a node sees the folder of its units.
_SEEN = "/run/pkgctl/units"
LONGEST_LOG = 8 << 20
# Beyond what a process that is about to become a program closes.
_HIGH = 256
_MOST_OPEN = Path("/proc/sys/fs/nr_open")


@dataclass(slots=True)
class Kept:
    """One unit on one node, and what became of it.

    Attributes:
        node: where it is.
        unit: its declaration.
        wanted: whether it is to run.
        status: ``starting``, ``running``, ``restarting``, ``stopping``, ``stopped`` or ``off``.
        stale: whether what runs was started from another declaration.
        again: whether it is to be started as soon as it has ended.
        removing: whether it is to be forgotten as soon as it has ended.
        pid: its main process.
        born: when that was born, in the kernel's own count.
        boot: in which boot of the machine.
        notices: the inode of the socket on which it says that it is ready.
        restarts: how often it was started again by itself.
        exit: its last exit status, or minus the signal that ended it.
        error: why it ended, in words.
        since: when its status came about, CLOCK_MONOTONIC seconds.
    """

    node: str
    unit: Unit
    wanted: bool = False
    status: str = STOPPED
    stale: bool = False
    again: bool = False
    removing: bool = False
    pid: int | None = None
    born: int | None = None
    boot: str = ""
    notices: int = 0
    restarts: int = 0
    exit: int | None = None
    error: str | None = None
    since: float = 0.0

    @property
    def key(self) -> tuple[str, str]:
        """Its node and its name."""
        return self.node, self.unit.name

    def lives(self) -> bool:
        """Return whether the process of the record is there."""
        is_same = self.boot == journal.now().boot and self.born is not None
        return is_same and self.pid is not None and jobs.birth(self.pid) == self.born

    def set(self, status: str) -> None:
        """Note a status."""
        self.status, self.since = status, syscalls.monotonic()

    def begun(self, pid: int) -> None:
        """Note the process that was just started."""
        self.pid, self.born, self.boot = pid, jobs.birth(pid), journal.now().boot
        self.stale, self.again = False, False
        self.set(STARTING if self.unit.notify else RUNNING)

    def told(self) -> dict[str, Any]:
        """Return what anyone may know of it."""
        names = (
            *("node", "wanted", "status", "stale", "removing", "pid"),
            *("restarts", "exit", "error", "since"),
        )
        known = {name: getattr(self, name) for name in names}
        unit = {"name": self.unit.name, "fingerprint": self.unit.fingerprint}
        return {**unit, **known, "ready": self.status == RUNNING}

    def save(self, folder: Path) -> None:
        """Write the record into a node's folder, all at once; it may hold secrets."""
        path = record(folder, self.unit.name)
        path.parent.mkdir(exist_ok=True)
        known = {each.name: getattr(self, each.name) for each in fields(self)}
        opened = os.open(
            path.with_suffix(".new"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600
        )
        with os.fdopen(opened, "w") as file:
            file.write(json.dumps({**known, "unit": self.unit.body()}))
        path.with_suffix(".new").replace(path)


def record(folder: Path, name: str) -> Path:
    """Return where a unit's record is, below a node's folder."""
    return folder / FOLDER / f"{name}.json"


def load_all(nodes: Mapping[str, Path]) -> dict[tuple[str, str], Kept]:
    """Return the units whose records are in the folders of nodes; what cannot be read is told."""
    found = {}
    for node, folder in nodes.items():
        for path in sorted((folder / FOLDER).glob("*.json")):
            try:
                known = json.loads(path.read_text())
                kept = Kept(**{**known, "node": node, "unit": supervision.parse(known["unit"])})
            except (ValueError, TypeError, KeyError, OSError, DisturbanceError) as error:
                print(f"{path} is no unit's record: {error}", file=sys.stderr, flush=True)
                continue
            found[kept.key] = kept
    return found


# The process.


def environment(node: str, unit: Unit) -> dict[str, str]:
    """Return a unit's variables; those of its files come from where the caller is."""
    own = {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": "/root",
        "LANG": "C.UTF-8",
        "PKGCTL_NODE": node,
    }
    given: dict[str, str] = {}
    for path in unit.environment_files:
        with suppress(FileNotFoundError):
            given |= supervision.read_environment(Path(path).read_text(errors="replace"))
    notify = {"NOTIFY_SOCKET": f"{_SEEN}/{unit.name}.sock"} if unit.notify else {}
    return {**own, **unit.environment, **given, **notify}


def start(
    place: jobs.Place, node: str, unit: Unit, notices: int | None, note: Callable[[int], None]
) -> None:
    """Start a unit's process, which waits until its id is noted; it ends if nobody lives to do so.

    Args:
        place: where it is to run.
        node: the node's name.
        unit: the unit.
        notices: a descriptor that its program is to have open; it is closed here.
        note: is told its id.
    """
    waiting, going = os.pipe2(os.O_CLOEXEC)
    gate = fcntl.fcntl(waiting, fcntl.F_DUPFD_CLOEXEC, _HIGH)
    os.close(waiting)

    def begin() -> None:
        with suppress(OSError):
            os.close(going)
        if os.read(gate, 1):
            become(node, unit, notices)

    try:
        note(jobs.begin(place, begin))
        os.write(going, b"\n")
    finally:
        for each in (going, gate, *([] if notices is None else [notices])):
            os.close(each)


def become(node: str, unit: Unit, notices: int | None = None) -> None:
    """Be a unit's program, after what comes before it; the caller is in the node already.

    Args:
        node: its name.
        unit: the unit.
        notices: a descriptor that the program is to have open.

    Raises:
        OSError: if the program cannot be run, or a file of variables not be read.
    """
    env = environment(node, unit)
    _lift_limits(unit)
    for words in unit.pre:
        _try(words, env)
    if notices is not None:
        os.set_inheritable(notices, True)
    os.execvpe(unit.command[0], unit.command, env)


def _lift_limits(unit: Unit) -> None:
    most = int(_MOST_OPEN.read_text())
    _limit(resource.RLIMIT_NOFILE, most if unit.nofile is None else min(unit.nofile, most))
    _limit(resource.RLIMIT_NPROC, resource.RLIM_INFINITY)
    _limit(resource.RLIMIT_CORE, resource.RLIM_INFINITY)


def _limit(which: int, value: int) -> None:
    """Set a limit, or as much of it as the caller may have."""
    try:
        resource.setrlimit(which, (value, value))
    except (ValueError, OSError):
        hard = resource.getrlimit(which)[1]
        resource.setrlimit(which, (hard, hard))


def _try(words: tuple[str, ...], env: Mapping[str, str]) -> None:
    try:
        # The log is its output, as it is the caller's.
        subprocess.run(words, env=env, stdin=subprocess.DEVNULL, check=False)
    except OSError as error:
        os.write(2, f"{words[0]}: {error.strerror}\n".encode())


# Its log.


def bound_log(path: Path, most: int = LONGEST_LOG) -> None:
    """Begin a log anew that has grown too long, and keep its end beside it.

    Whoever writes has it open and appends, so the file stays the same one.
    """
    with suppress(FileNotFoundError):
        if path.stat().st_size <= most:
            return
        with path.open("rb+") as file:
            file.seek(-most, os.SEEK_END)
            path.with_suffix(".old").write_bytes(file.read(most))
            file.truncate(0)


def last_lines(path: Path, count: int, most: int = 1 << 16) -> list[str]:
    """Return the last lines of a log, each cut where it is very long."""
    try:
        with path.open("rb") as file:
            end = file.seek(0, os.SEEK_END)
            file.seek(max(end - most, 0))
            lines = file.read(most).decode(errors="replace").splitlines()
    except FileNotFoundError:
        return []
    return [line[:500] for line in lines[-count:]] if count > 0 else []


def words(status: int | None, lines: list[str]) -> str:
    """Return how a unit ended, with the last of what it has written."""
    if status is None:
        how = "for a reason unknown"
    elif status < 0:
        how = f"by signal {-status}"
    else:
        how = f"with status {status}"
    return f"ended {how}" + (f": {lines[-1]}" if lines else "")
