# SPDX-License-Identifier: GPL-3.0-or-later
"""Jobs on a testbed: the agent's requests behind the protocol that schedulers know.

A service's replica gets a port of its own on its node. Artifacts come from a store on the
testbed's registry node, and a batch job's input and output from and to a store on the job's
origin; stores are started when they are first needed and run outside of their node's limits.
"""

from __future__ import annotations

import hashlib
import time
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

from pkgctl.errors import NodeLostError, TestbedError
from pkgctl.local import testbed
from pkgctl.local import view as views
from pkgctl.local.agent import AgentClient
from pkgctl.local.paths import Paths
from pkgctl.local.reach import ClientFiles
from pkgctl.local.streams import Samples, Stream
from pkgctl.nodeside import errors as node_errors
from pkgctl.scheduling.backend import Event, JobState, LayerEvent, NodeEvent
from pkgctl.scheduling.job import Artifact, Job
from pkgctl.scheduling.resources import Resources
from pkgctl.scheduling.view import ClusterView

STORE_PORT = 5000
FIRST_PORT = 8000
LONGEST_NAME = 63
START_SECONDS = 10.0
# A replica's interpreter, code and buffers; the rest of its memory is touched before it is ready.
OVERHEAD_BYTES = 16 * 2**20

Message = dict[str, Any]


class LocalBackend:
    """Runs jobs on the nodes of a testbed; times are CLOCK_MONOTONIC seconds."""

    def __init__(self, paths: Paths, *, renew: bool = False) -> None:
        """Talk to a testbed that is up.

        Args:
            paths: the testbed.
            renew: let no lease of a layer run out meanwhile.

        Raises:
            TestbedError: if it is not, or its agent does not answer.
        """
        self.paths = paths
        self.state = testbed.read_state(paths)
        self.reach = paths.reach()
        self.jobs: dict[str, JobState] = {}
        self._agent = AgentClient(paths)
        self._events = Stream(paths, "events", renew=renew)
        self._layers = self.reach.stores(self.state, self._agent)
        self._links = views.LinksNow(self.state["nodes"], self._layers)
        self._stores: set[str] = set()
        self._backlog: deque[Event] = deque()
        self._leaving: Counter[str] = Counter()
        for record in self._agent.call("job-list")["jobs"]:
            self._note(record)

    def close(self) -> None:
        """Hang up; jobs go on."""
        self._events.close()
        self._agent.close()

    def facts(self, record: Mapping[str, Any]) -> dict[str, Any]:
        """Return what is to be said of the nodes in a run's record, beside what it says."""
        return self.reach.facts(self.state, record)

    # What schedulers and experiments know.

    def view(self) -> ClusterView:
        """Return the cluster as it is now."""
        artifacts = self._agent.call("artifact-list")["artifacts"]
        now = self.reach.now(self.state, self._layers, self._agent)
        return views.view(self.state, self.jobs.values(), artifacts, self._links, now)

    def start(
        self,
        job: Job,
        node: str,
        *,
        submitted: float,
        decided: float,
        labels: Mapping[str, Any] | None = None,
    ) -> None:
        """Start a service's replica, or a batch job; returns before it is ready.

        Raises:
            NodeLostError: if the node is not running.
            TestbedError: if the agent refuses.
        """
        port = None if job.work is not None else self._free_port(node)
        noted = {"class": str(job.job_class), "port": port, **(labels or {})}
        name, options = self._words(job, port)
        try:
            self.launch(
                job.id,
                node,
                [*self.program(name), *options],
                cpu=job.resources.cpu or None,
                memory=job.resources.memory or None,
                artifact=self._source(job.artifact),
                labels=noted,
                submitted=submitted,
                decided=decided,
            )
        except TestbedError:
            self._check_up(node)
            raise

    def _check_up(self, node: str) -> None:
        try:
            self.reach.check_up(node, self._agent)
        except node_errors.NodeError as error:
            raise NodeLostError(str(error)) from error

    def resize(self, job: str, resources: Resources) -> None:
        """Let a running job go on with other resources; an amount of zero stays as it is.

        Raises:
            TestbedError: if the job uses more memory than it would be left.
        """
        wanted: Message = {"cpu": resources.cpu or None, "memory": resources.memory or None}
        given = {key: value for key, value in wanted.items() if value is not None}
        self._note(self._agent.call("job-resize", id=job, **given)["job"])

    def stop(self, job: str, *, grace: float = 2.0) -> None:
        """Tell a job to end, and kill it after some seconds; returns before it has ended."""
        self._agent.call("job-stop", id=job, grace=grace)

    def displace(self, job: str) -> None:
        """End a job for the sake of another; returns before it has ended."""
        self.stop(job, grace=0.0)

    def event(self, until: float | None) -> Event | None:
        """Return the next event, or None if none came by a time."""
        if self._backlog:
            return self._backlog.popleft()
        return self._next_event(until)

    def _next_event(self, until: float | None) -> Event | None:
        while (message := self._events.next(until)) is not None:
            if (event := self._event_of(message)) is not None:
                return event
        return None

    def _event_of(self, message: Mapping[str, Any]) -> Event | None:
        """Take in a message; return the event that it is for others, if it is one."""
        if message["event"] == "job" and not self._is_stale(message):
            return self._note(message)
        if message["event"] == "layer":
            return _layer_event(message)
        if message["event"] == "node":
            return NodeEvent(message["node"], message["health"], message["mono"])
        return None

    # What a testbed can do beside.

    def launch(self, name: str, node: str, argv: Sequence[str], **fields: Any) -> JobState:
        """Start any command on a node; see the agent's job-start for the fields."""
        labels = {**fields.pop("labels", {}), "outside": fields.get("outside", False)}
        answer = self._agent.call(
            "job-start", id=name, node=node, argv=list(argv), labels=labels, **fields
        )
        return self._note(answer["job"])

    def remove(self, names: Iterable[str]) -> None:
        """Kill jobs, if they still run, and forget them."""
        for name in list(names):
            self._agent.call("job-remove", id=name)
            self._leaving[name] += 1
            self.jobs.pop(name, None)
            self._stores.discard(name)

    def wait(
        self, is_done: Callable[[], bool], until: float, heard: Callable[[Event], None]
    ) -> bool:
        """Return whether something became true by a time; each event is handed on."""
        while not is_done():
            event = self.event(until)
            if event is None:
                return is_done()
            heard(event)
        return True

    def prepare(self, jobs: Sequence[Job]) -> None:
        """Start the stores that jobs will need, so that no job's start has to wait for them."""
        wanted = {self.state["registry"] for job in jobs if job.artifact and job.artifact.bytes}
        wanted |= {job.origin for job in jobs if job.work and (job.in_bytes or job.out_bytes)}
        for node in wanted:
            self._store(node)

    def endpoint(self, job: str) -> Message:
        """Return where a replica answers: its node, host and port."""
        found = self.jobs[job]
        host = self.address(found.node)
        return {"replica": job, "node": found.node, "host": host, "port": found.labels["port"]}

    def address(self, node: str) -> str:
        """Return a node's address."""
        return str(self.state["nodes"][node]["address"])

    def client_files(self, node: str) -> ClientFiles:
        """Return the files of a node's load generator."""
        return self.reach.client_files(node, self._agent)

    def program(self, name: str) -> list[str]:
        """Return the command that runs one of our programs inside a node."""
        return self.reach.program(name)

    def output(self, job: str) -> str:
        """Return what a job has printed."""
        return self.reach.output(job, self._agent)

    def drop_artifacts(self, keep: Collection[str] = ()) -> None:
        """Let every node forget every artifact but those to keep."""
        for node, names in self._agent.call("artifact-list")["artifacts"].items():
            for name in set(names) - set(keep):
                self._agent.call("artifact-drop", node=node, name=name)

    def evict(self, node: str, artifact: str) -> None:
        """Let a node forget an artifact."""
        self._agent.call("artifact-drop", node=node, name=artifact)

    def prefetch(self, node: str, artifact: Artifact) -> str:
        """Begin to bring an artifact to a node; return the name of the job that does it."""
        name = job_name(f"prefetch-{artifact.name}", node)
        source = self._source(artifact)
        self.launch(name, node, ["/bin/true"], outside=True, artifact=source, ready="exec")
        return name

    def begin_timeline(self, timeline: str, t0: float) -> None:
        """Let an armed timeline begin at a time; it stays armed for the next run."""
        self._agent.call("timeline-start", timeline=timeline, t0=t0, keep=True)

    def drop_timeline(self, timeline: str) -> None:
        """Forget a timeline; what it has not done yet will not happen."""
        self._agent.call("timeline-drop", timeline=timeline)

    def samples(self, interval: float) -> Samples:
        """Begin to sample the use of nodes and jobs."""
        return Samples(self.paths, interval)

    # How it is done.

    def _is_stale(self, message: Mapping[str, Any]) -> bool:
        """Return whether an event is about a job that we removed; another may have its name."""
        name = message["id"]
        if not self._leaving[name]:
            return False
        if message["status"] == "removed":
            self._leaving[name] -= 1
        return True

    def _note(self, record: Mapping[str, Any]) -> JobState:
        job = _job_state(record)
        if job.status == "removed":
            self.jobs.pop(job.id, None)
        else:
            self.jobs[job.id] = job
        return job

    def _free_port(self, node: str) -> int:
        taken = {job.labels.get("port") for job in self.jobs.values() if job.node == node}
        return next(port for port in range(FIRST_PORT, 2**16) if port not in taken)

    def _words(self, job: Job, port: int | None) -> tuple[str, list[str]]:
        """Return which of our programs a job is, and the program's options."""
        if port is not None:
            return "service", ["--port", str(port), "--memory", str(_touched(job))]
        words = ["--cpu", str(job.work), "--memory", str(_touched(job))]
        if job.in_bytes:
            words += ["--in", f"{self._store(job.origin)}/artifacts/{job.id}?bytes={job.in_bytes}"]
        if job.out_bytes:
            url = f"{self._store(job.origin)}/objects/{job.id}"
            words += ["--out", url, "--out-bytes", str(job.out_bytes)]
        return "batch", words

    def _source(self, artifact: Artifact | None) -> Message | None:
        """Return from where an artifact comes, as the agent wants to know it."""
        if artifact is None or not artifact.bytes:
            return None
        url = f"{self._store(None)}/artifacts/{artifact.name}?bytes={artifact.bytes}"
        return {"name": artifact.name, "bytes": artifact.bytes, "url": url}

    def _store(self, node: str | None) -> str:
        """Return the address of the store on a node (the registry's by default); it runs then."""
        place = node or str(self.state["registry"])
        name = job_name("store", place)
        if name not in self._stores:
            self._start_store(name, place)
            self._stores.add(name)
        return f"http://{self.address(place)}:{STORE_PORT}"

    def _start_store(self, name: str, node: str) -> None:
        known = self.jobs.get(name)
        if known is None or known.has_ended:
            argv = [*self.program("registry"), "--port", str(STORE_PORT)]
            self.launch(name, node, argv, outside=True, labels={"kind": "store"})
        deadline = time.monotonic() + START_SECONDS * self.reach.patience
        while not _is_settled(self.jobs.get(name)):
            if (event := self._next_event(deadline)) is None:
                break
            self._backlog.append(event)
        if not self.jobs[name].is_ready:
            reason = self.jobs[name].error or "it does not say that it is ready"
            raise TestbedError(f"the store on {node} does not start: {reason}")


def job_name(kind: str, node: str) -> str:
    """Return the name of a job of ours on a node; the agent takes no more than 63 letters."""
    name = f"{kind}-{node}"
    if len(name) <= LONGEST_NAME:
        return name
    return f"{kind}-{hashlib.sha256(node.encode()).hexdigest()[:16]}"


def _touched(job: Job) -> int:
    return max(0, job.resources.memory - OVERHEAD_BYTES)


def _is_settled(job: JobState | None) -> bool:
    return job is None or job.is_ready or job.has_ended


def _job_state(record: Mapping[str, Any]) -> JobState:
    return JobState(
        id=record["id"],
        node=record["node"],
        status=record["status"],
        cached=record["cached"],
        cpu=record["cpu"],
        memory=record["memory"],
        stamps=record["stamps"],
        labels=record["labels"],
        error=record.get("error"),
        lost=record.get("lost", False),
    )


def _layer_event(message: Mapping[str, Any]) -> LayerEvent:
    return LayerEvent(
        name=message["layer"],
        node=message["node"],
        action=message["action"],
        planned=message["planned"],
        actual=message["actual"],
        error=message.get("error"),
    )
