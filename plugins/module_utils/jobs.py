# SPDX-License-Identifier: GPL-3.0-or-later
"""Jobs: processes inside a node, each in a control group of its own, with a record of its life.

A job goes through pulling (its artifact is fetched over the node's own network), starting, running,
and one of finished, failed and stopped. Each step is stamped with CLOCK_MONOTONIC. The record is a
file, and the exit status is written by a shell around the job, so an agent that was killed finds
both again.
"""

from __future__ import annotations

import json
import os
import re
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from . import condition, journal, namespaces, quotas, syscalls
from .cgroups import Group, group
from .errors import DisturbanceError, KernelError
from .identity import Identity

# Where a node keeps the artifacts that it has fetched.
ARTIFACTS = "/var/cache/pkgctl"
ENDED = ("finished", "failed", "stopped")
_REPLICA = re.compile(r"(?P<owner>.+)-\d+", re.ASCII)
_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9._-]{0,62}")
# Runs the job and leaves its exit status where a restarted agent finds it.
_WRAPPER = '"$@"; code=$?; echo $code >"$0"; exit $code'


@dataclass(slots=True)
class Job:
    """One job's request and what became of it.

    Attributes:
        id: its name in the testbed.
        node: where it runs.
        argv: its command.
        env: its environment, beside what every job gets.
        cpu: cores it may use; None is as many as its node has.
        memory: bytes it may use; None likewise.
        outside: whether it is left out of its node's limits (load generators, registries).
        artifact: name, bytes and url of what it needs before it can start; None is nothing.
        ready: ``notify`` waits for the job's word (sd_notify), ``exec`` takes its start for it.
        labels: the caller's own.
        status: where in its life it is.
        cached: whether its artifact was there already.
        pid: its process.
        exit: its exit status, minus the signal's number if one ended it.
        error: why it failed, in words.
        lost: whether it ended because its node went down.
        stamps: submitted, decided, artifact, started, ready, finished: CLOCK_MONOTONIC seconds.
        moment: boot and both clocks at the last word of it, from which the stamps are converted
            when the machine was started again since.
    """

    id: str
    node: str
    argv: list[str]
    env: dict[str, str] = field(default_factory=dict)
    cpu: float | None = None
    memory: int | None = None
    outside: bool = False
    artifact: dict[str, Any] | None = None
    ready: str = "notify"
    labels: dict[str, Any] = field(default_factory=dict)
    status: str = "starting"
    cached: bool = False
    pid: int | None = None
    born: int | None = None
    exit: int | None = None
    error: str | None = None
    lost: bool = False
    stopping: bool = False
    stamps: dict[str, float] = field(default_factory=dict)
    moment: dict[str, Any] = field(default_factory=dict)

    def check(self) -> None:
        """Refuse a request that cannot be meant.

        Raises:
            DisturbanceError: one line.
        """
        if not _NAME.fullmatch(self.id):
            raise DisturbanceError(
                f"{self.id!r} is no name of a job: letters, digits, . _ and -, 63 at most"
            )
        if not self.argv or not all(
            isinstance(word, str) and "\0" not in word for word in self.argv
        ):
            raise DisturbanceError(f"job {self.id}: argv must be a list of texts")
        if self.ready not in ("notify", "exec"):
            raise DisturbanceError(
                f"job {self.id}: ready must be notify or exec, not {self.ready!r}"
            )
        for key, limit in (("cpu", self.cpu), ("memory", self.memory)):
            if limit is not None and limit <= 0:
                raise DisturbanceError(f"job {self.id}: {key} must be above zero, not {limit}")

    @property
    def has_ended(self) -> bool:
        """Whether it will not run again."""
        return self.status in ENDED

    def stamp(self, step: str) -> None:
        """Note that a step is reached now, unless it was reached before."""
        self.stamps.setdefault(step, syscalls.monotonic())

    def convert(self) -> bool:
        """Give its stamps this boot's clock; return whether the last word of it is of another."""
        here = journal.now()
        is_old = bool(self.moment) and self.moment["boot"] != here.boot
        if is_old:
            shift = here.shift_from(**self.moment)
            self.stamps = {step: when + shift for step, when in self.stamps.items()}
            self.moment = asdict(here)
        return is_old

    def save(self, folder: Path) -> None:
        """Write the record, all at once."""
        path = folder / f"{self.id}.json"
        fresh = path.with_suffix(".new")
        self.moment = asdict(journal.now())
        fresh.write_text(json.dumps(asdict(self)))
        fresh.replace(path)


def owner(name: str) -> str:
    """Return the service or the queue whose job has this name: web for web-0, else nothing."""
    found = _REPLICA.fullmatch(name)
    return found["owner"] if found else ""


def load_all(folder: Path) -> dict[str, Job]:
    """Return the jobs whose records are in a folder; a record that cannot be read is left out."""
    found = {}
    for path in sorted(folder.glob("*.json")):
        try:
            job = Job(**json.loads(path.read_text()))
        except (ValueError, TypeError, OSError):
            continue
        found[job.id] = job
    return found


def job_group(identity: Identity, job: Job) -> Group:
    """Return a job's control group: below its node's, or outside of it."""
    if job.outside:
        return group(f"pkgctl/{identity.testbed}/outside/{job.id}")
    return group(identity.cgroup).child(f"job-{job.id}")


def bound(node: Identity, job: Job, cpu: float | None, memory: int | None) -> None:
    """Set a job's limits; inside its node it gets no more CPU than the node has now."""
    own = job_group(node, job)
    if job.outside:
        own.set_cpu(cpu)
    else:
        quotas.bound_child(group(node.cgroup), own, cpu, Path(node.directory))
    own.set_memory(memory)


def birth(pid: int) -> int | None:
    """Return a process's start time in clock ticks: with its id, it names the process for ever."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    return int(stat.rsplit(")", 1)[1].split()[19])


@dataclass(frozen=True, slots=True)
class Place:
    """Where a process is to run: pinned namespaces, control group, log and exit status files.

    With a guard, the node's own folder, nothing begins unless the node is up.
    """

    namespaces: Path
    group: Group
    log: Path
    exit_file: str = ""
    guard: Path | None = None


def environment(job: Job) -> dict[str, str]:
    """Return a job's whole environment."""
    own = {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": "/root",
        "LANG": "C.UTF-8",
        "NOTIFY_SOCKET": "/run/pkgctl/agent/notify.sock",
        "PKGCTL_JOB": job.id,
        "PKGCTL_NODE": job.node,
    }
    return {**own, **job.env}


def spawn(place: Place, argv: Sequence[str], env: Mapping[str, str]) -> int:
    """Start a command inside a node; return its process id.

    A failure before the command itself runs ends the process with status 127 and a line in the log.
    """
    command = ["/bin/sh", "-c", _WRAPPER, place.exit_file, *argv]
    return begin(place, lambda: os.execve(command[0], command, dict(env)))


def begin(place: Place, become: Callable[[], object]) -> int:
    """Start a process inside a node that becomes a program; return its id.

    A failure before the program itself runs ends it with status 127 and a line in the log.
    """
    pid = os.fork()
    if pid:
        return pid
    try:
        _become(place)
        become()
    except BaseException as error:
        os.write(2, f"cannot start: {error}\n".encode())
    os._exit(127)


def _become(place: Place) -> None:
    os.setsid()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGPIPE, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)
    quiet = os.open("/dev/null", os.O_RDONLY)
    log = os.open(place.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(quiet, 0)
    os.dup2(log, 1)
    os.dup2(log, 2)
    place.group.join()
    # Whoever takes the node down notes that first and looks for processes then: one is in time.
    if place.guard is not None:
        condition.check_up(place.guard, place.guard.name)
    namespaces.enter(place.namespaces, *namespaces.KINDS)
    os.closerange(3, 256)
    os.chdir("/")


def signal_all(group_: Group, number: int) -> None:
    """Send a signal to every process of a job."""
    for pid in group_.processes():
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue


def remove_group(group_: Group) -> bool:
    """Kill what is left in a job's control group and remove it; `down` gets what stays busy.

    Returns:
        False while its node is paused: the killed cannot go before the node goes on.
    """
    try:
        if group_.is_frozen():
            signal_all(group_, signal.SIGKILL)
            return False
        group_.kill(patience=1.0)
        group_.remove()
    except KernelError:
        pass
    return True
