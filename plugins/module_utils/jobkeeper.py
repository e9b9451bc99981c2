# SPDX-License-Identifier: GPL-3.0-or-later
"""The agent's jobs: started, resized, stopped and stamped, and found again by the next agent."""

from __future__ import annotations

import signal
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from . import channel, clientfiles, condition, jobs, syscalls, triggers
from .cgroups import group
from .errors import AgentError, DisturbanceError
from .identity import Identity
from .jobs import ARTIFACTS, Job
from .loop import Loop
from .namespaces import inside

_NOTIFY = "notify.sock"
# How long the group of a job that has to go is left alone on a paused node.
_SWEEP = 0.5
_FETCH = Path(__file__).with_name("programs") / "fetch.py"

Body = dict[str, Any]


class JobKeeper:
    """Keeps the jobs of a testbed, and the artifacts that its nodes have."""

    def __init__(
        self,
        directory: Path,
        loop: Loop,
        nodes: Callable[[str], Identity],
        tell: Callable[[Body], None],
        tell_count: Callable[[], None] = lambda: None,
    ) -> None:
        """Take up the jobs whose records are in directory.

        Args:
            directory: the testbed's folder.
            loop: where to wait for processes and for the jobs' own words.
            nodes: returns a node's identity by name.
            tell: is told of each change in a job's life.
            tell_count: is called when a job has counted on.
        """
        self._directory = directory
        self._loop = loop
        self._nodes = nodes
        self._tell = tell
        self._tell_count = tell_count
        self._jobs = jobs.load_all(directory / "jobs")
        self._sweeps: set[str] = set()
        self._fetches: dict[tuple[str, str], list[str]] = {}
        self._counted: dict[str, dict[str, int]] = {}
        self._totals: dict[str, int] = {}
        self._artifacts = self._load_artifacts()
        self._notify = self._open_notify()
        loop.watch(self._notify.fileno(), self._notified)
        self._adopt()

    def running(self) -> list[Job]:
        """Return the jobs that have not ended."""
        return [job for job in self._jobs.values() if not job.has_ended]

    def _job(self, request: Body) -> Job:
        if (job := self._jobs.get(str(request["id"]))) is None:
            raise AgentError(f"there is no job {request['id']!r}")
        return job

    def start(self, request: Body) -> Body:
        """Start a job, after its artifact was fetched if it has one that its node lacks."""
        stamps = {key: request.pop(key) for key in ("submitted", "decided") if request.get(key)}
        request = {key: value for key, value in request.items() if value is not None}
        job = Job(**request)
        job.check()
        node = self._nodes(job.node)
        if not job.outside:
            condition.check_up(node.directory, node.name)
        if (known := self._jobs.get(job.id)) is not None and not known.has_ended:
            raise AgentError(f"job {job.id} is there already, on {known.node}")
        self._counted.pop(job.id, None)
        job.stamps = stamps
        job.stamp("submitted")
        job.stamp("decided")
        self._prepare(node, job)
        self._jobs[job.id] = job
        if job.artifact is None or self._has(job):
            job.cached = job.artifact is not None
            job.stamp("artifact")
            self._launch(node, job)
        else:
            self._fetch(node, job)
        return {"job": self._record(job)}

    def _prepare(self, node: Identity, job: Job) -> None:
        (self._directory / "nodes" / node.name / "exits").mkdir(exist_ok=True)
        (self._directory / "logs" / f"{job.id}.log").unlink(missing_ok=True)
        jobs.job_group(node, job).create()
        jobs.bound(node, job, job.cpu, job.memory)

    def _place(self, node: Identity, job: Job, exit_name: str) -> jobs.Place:
        return jobs.Place(
            self._directory / "ns" / node.name,
            jobs.job_group(node, job),
            self._directory / "logs" / f"{job.id}.log",
            f"/run/pkgctl/exits/{exit_name}",
            None if job.outside else self._directory / "nodes" / node.name,
        )

    def _launch(self, node: Identity, job: Job) -> None:
        job.stamp("started")
        job.pid = jobs.spawn(self._place(node, job, job.id), job.argv, jobs.environment(job))
        job.born = jobs.birth(job.pid)
        if job.ready == "exec":
            job.stamp("ready")
        self._set(job, "running" if job.ready == "exec" else "starting")
        self._loop.await_exit(job.pid, lambda status: self._ended(job, status))

    def _ended(self, job: Job, status: int | None) -> None:
        if self._jobs.get(job.id) is not job:
            return  # It was removed, and another may have its name and its group by now.
        job.stamp("finished")
        place = self._directory / "nodes" / job.node / "exits" / job.id
        job.exit = status if status is not None else _read_exit(place)
        place.unlink(missing_ok=True)
        if job.stopping:
            self._set(job, "stopped")
        elif outage := self._outage(job):
            job.lost, job.error = True, f"node {job.node} {outage}"
            self._set(job, "failed")
        elif job.exit == 0:
            self._set(job, "finished")
        else:
            job.error = self._last_words(job)
            self._set(job, "failed")
        self._remove_group(job)

    def _outage(self, job: Job) -> str | None:
        """Return as what a job's node went down while it was there."""
        if job.outside:
            return None
        return condition.outage(self._directory / "nodes" / job.node, job.stamps["decided"])

    def _remove_group(self, job: Job) -> None:
        # A node that is gone has no groups any more.
        with suppress(DisturbanceError):
            if not jobs.remove_group(jobs.job_group(self._nodes(job.node), job)):
                self._sweep_later(job.node)

    def _sweep_later(self, name: str) -> None:
        if name not in self._sweeps:
            self._sweeps.add(name)
            self._loop.at(syscalls.monotonic() + _SWEEP, lambda: self.node_changed(name))

    def node_changed(self, name: str) -> None:
        """Remove the groups of jobs that ended or were removed while their node was paused."""
        self._sweeps.discard(name)
        try:
            node = self._nodes(name)
        except DisturbanceError:
            return  # It is gone, and all its groups are.
        own = group(node.cgroup)
        alive = {jobs.job_group(node, job).path for job in self.running() if job.node == name}
        ended = [
            each
            for each in own.children()
            if each.path.startswith(f"{own.path}/job-") and each.path not in alive
        ]
        if not all([jobs.remove_group(each) for each in ended]):
            self._sweep_later(name)

    def _last_words(self, job: Job) -> str:
        how = "for a reason unknown" if job.exit is None else f"with status {job.exit}"
        try:
            lines = (
                (self._directory / "logs" / f"{job.id}.log")
                .read_text(errors="replace")
                .splitlines()
            )
        except OSError:
            lines = []
        return f"ended {how}" + (f": {lines[-1]}" if lines else "")

    def _set(self, job: Job, status: str) -> None:
        job.status = status
        if job.id in self._jobs:
            self._save(job)
        self._tell({"event": "job", **self._record(job)})

    def _save(self, job: Job) -> None:
        """Keep a job's record for the next agent; without it this one goes on all the same."""
        try:
            job.save(self._directory / "jobs")
        except OSError as error:
            print(f"job {job.id} is not recorded: {error.strerror}", file=sys.stderr, flush=True)

    @staticmethod
    def _record(job: Job) -> Body:
        hidden = ("argv", "env", "born", "stopping", "moment")
        return {key: getattr(job, key) for key in job.__slots__ if key not in hidden}

    def _open_notify(self) -> socket.socket:
        path = self._directory / "agent" / _NOTIFY
        path.unlink(missing_ok=True)
        notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        notify.bind(str(path))
        path.chmod(0o666)
        notify.setblocking(False)
        return notify

    def _notified(self, _: int) -> None:
        try:
            text = self._notify.recv(4096).decode(errors="replace")
        except BlockingIOError:
            return
        words = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
        job = self._jobs.get(words.get("PKGCTL_JOB", ""))
        if job is not None and "COUNT" in words:
            self._count(job, words["COUNT"])
        if job is not None and words.get("READY") == "1" and job.status == "starting":
            job.stamp("ready")
            self._set(job, "running")

    def _count(self, job: Job, text: str) -> None:
        """Add to the sum over all jobs what one has counted since it last said so."""
        name, _, number = text.partition(":")
        if name not in triggers.COUNTS or not (number.isascii() and number.isdigit()):
            return
        counted = min(int(number[:19]), 1 << 60)
        last = self._counted.setdefault(job.id, {})
        self._totals[name] = self._totals.get(name, 0) + max(counted - last.get(name, 0), 0)
        last[name] = counted
        self._tell_count()

    def counts(self) -> dict[str, int]:
        """Return what all jobs have counted since the agent began, by name."""
        return dict(self._totals)

    def status(self, name: str) -> str | None:
        """Return the status of a job, or of all that are called so with a number behind; else None.

        Several run when none of them is on its way any more, and have ended when all have.
        """
        if name in self._jobs:
            return self._jobs[name].status
        found = [job.status for key, job in self._jobs.items() if jobs.owner(key) == name]
        going = [status for status in found if status not in jobs.ENDED]
        coming = [status for status in going if status != "running"]
        return next(iter((*coming, *going, *found)), None)

    def resize(self, request: Body) -> Body:
        """Change the limits of a job while it runs."""
        job = self._job(request)
        if job.has_ended:
            raise AgentError(f"job {job.id} has {job.status}")
        cpu, memory = request.get("cpu", job.cpu), request.get("memory", job.memory)
        node = self._nodes(job.node)
        own = jobs.job_group(node, job)
        if memory is not None and memory < (held := own.memory_held()):
            raise AgentError(f"job {job.id} uses {held} bytes of memory, more than {memory}")
        jobs.bound(node, job, cpu, memory)
        job.cpu, job.memory = cpu, memory
        self._set(job, job.status)
        return {"job": self._record(job)}

    def stop(self, request: Body) -> Body:
        """Ask a job to end, and kill it when its grace is over."""
        job = self._job(request)
        if not job.has_ended and not job.stopping:
            job.stopping = True
            own = jobs.job_group(self._nodes(job.node), job)
            jobs.signal_all(own, signal.SIGTERM)
            grace = float(request.get("grace", 2.0))
            self._loop.at(syscalls.monotonic() + grace, lambda: self._kill(job))
        return {"job": self._record(job)}

    def _kill(self, job: Job) -> None:
        with suppress(DisturbanceError):  # Its node may be gone by now, and it with it.
            if not job.has_ended:
                jobs.signal_all(jobs.job_group(self._nodes(job.node), job), signal.SIGKILL)

    def remove(self, request: Body) -> Body:
        """Kill a job and forget it."""
        job = self._job(request)
        job.stopping = True
        del self._jobs[job.id]
        self._counted.pop(job.id, None)
        self._remove_group(job)
        for path in (
            (self._directory / "jobs" / f"{job.id}.json"),
            (self._directory / "logs" / f"{job.id}.log"),
        ):
            path.unlink(missing_ok=True)
        self._tell({"event": "job", **self._record(job), "status": "removed"})
        return {}

    def listing(self, _: Body) -> Body:
        """Return the records of all jobs."""
        return {"jobs": [self._record(job) for job in self._jobs.values()]}

    def output(self, request: Body) -> Body:
        """Return a piece of what a job has printed, from the byte ``offset`` on."""
        job = self._job(request)
        path = self._directory / "logs" / f"{job.id}.log"
        return clientfiles.piece(path, int(request.get("offset", 0)))

    def _adopt(self) -> None:
        """Take up the jobs of an agent that is gone."""
        for job in self._jobs.values():
            was_before = job.convert()
            if job.has_ended:
                continue
            if was_before:
                self._lose(job)
            elif job.pid is not None and job.born is not None and jobs.birth(job.pid) == job.born:
                self._loop.await_exit(job.pid, lambda status, job=job: self._ended(job, status))  # type: ignore[misc]
            else:
                self._ended(job, None)

    def _lose(self, job: Job) -> None:
        """Take note that a job was running when its machine went down."""
        (self._directory / "nodes" / job.node / "exits" / job.id).unlink(missing_ok=True)
        job.stamp("finished")
        job.lost, job.error = True, f"node {job.node} was started again"
        self._set(job, "failed")

    def _load_artifacts(self) -> dict[str, list[str]]:
        path = self._directory / "agent" / "artifacts.json"
        return dict(channel.decode(path.read_bytes())) if path.exists() else {}

    def _save_artifacts(self) -> None:
        path = self._directory / "agent" / "artifacts.json"
        path.with_suffix(".new").write_bytes(channel.encode(self._artifacts))
        path.with_suffix(".new").replace(path)

    def _has(self, job: Job) -> bool:
        return job.artifact is not None and job.artifact["name"] in self._artifacts.get(
            job.node, []
        )

    def _fetch(self, node: Identity, job: Job) -> None:
        """Fetch a job's artifact over its node's network; whoever needs the same waits for it."""
        if job.artifact is None:
            return
        key = (job.node, str(job.artifact["name"]))
        waiting = self._fetches.setdefault(key, [])
        waiting.append(job.id)
        self._set(job, "pulling")
        if len(waiting) > 1:
            return
        target = f"{ARTIFACTS}/{key[1]}"
        argv = [sys.executable, "-S", "-E", str(_FETCH), str(job.artifact["url"]), target]
        argv.append(str(job.artifact["bytes"]))
        pid = jobs.spawn(self._place(node, job, f"fetch-{job.id}"), argv, jobs.environment(job))
        self._loop.await_exit(pid, lambda status: self._fetched(key, status))

    def _fetched(self, key: tuple[str, str], status: int | None) -> None:
        names = self._fetches.pop(key)
        waiting = [self._jobs[name] for name in names if name in self._jobs]
        if status == 0:
            self._artifacts.setdefault(key[0], []).append(key[1])
            self._save_artifacts()
        # The fetch ran as the first job's; whoever else waits does not end with it.
        called_off = names[0] not in self._jobs or self._jobs[names[0]].stopping
        for job in waiting:
            if job.stopping or (status != 0 and not called_off):
                self._ended(job, status if status else 1)
            elif status == 0:
                job.stamp("artifact")
                self._launch(self._nodes(job.node), job)
            else:
                self._fetch(self._nodes(job.node), job)

    def artifacts(self, request: Body) -> Body:
        """Return the artifacts of one node, or of all."""
        node = request.get("node")
        return {"artifacts": self._artifacts if node is None else self._artifacts.get(node, [])}

    def drop_artifacts(self, request: Body) -> Body:
        """Delete one artifact of a node, or all of them."""
        node, name = str(request["node"]), request.get("name")
        have = self._artifacts.get(node, [])
        dropped = [each for each in have if name is None or each == name]
        with inside(self._directory, self._nodes(node)):
            for each in dropped:
                Path(ARTIFACTS, each).unlink(missing_ok=True)
        self._artifacts[node] = [each for each in have if each not in dropped]
        self._save_artifacts()
        return {"dropped": dropped}


def _read_exit(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None
