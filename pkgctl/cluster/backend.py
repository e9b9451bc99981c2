# SPDX-License-Identifier: GPL-3.0-or-later
"""Services and jobs of an experiment as pods; all else stays with the testbed's agents.

Load generators, stores, samples, timelines and layers are the agents', so an experiment means the
same with pods and without. What the watch of the cluster tells comes in one stream with what the
agents tell, and is stamped on this machine's clock when it comes. Nothing here polls.
"""

from __future__ import annotations

import contextlib
import threading
import time
import uuid
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pkgctl.cluster import owning, podbodies, pods, podstates, sight
from pkgctl.cluster.client import Api
from pkgctl.cluster.events import Recorder
from pkgctl.cluster.hand import Hand
from pkgctl.cluster.informer import Change, Informer
from pkgctl.cluster.podbodies import Runtime
from pkgctl.cluster.podusage import PodSamples
from pkgctl.errors import ClusterError, NodeLostError, TestbedError
from pkgctl.local import view as views
from pkgctl.local.backend import LocalBackend, job_name
from pkgctl.local.paths import Paths
from pkgctl.scheduling.backend import Event, JobState, NoticeEvent, StatusEvent
from pkgctl.scheduling.delegated import ELSEWHERE
from pkgctl.scheduling.job import Job
from pkgctl.scheduling.resources import Resources
from pkgctl.scheduling.view import ClusterView

SYNC_SECONDS = 30.0
KILL_SECONDS = 1
GONE_SECONDS = 20.0
FORGET_SECONDS = 20.0
FLUSH_SECONDS = 5.0
Message = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Target:
    """The cluster that runs an experiment's pods, and what their containers are made of."""

    api: Api
    runtime: Runtime


@dataclass(slots=True)
class Own:
    """A pod of ours: which, and what we did with it."""

    token: str
    delegated: bool
    stopping: bool = False
    uid: str = ""


class PodBackend(LocalBackend):
    """Runs jobs as pods on the nodes of a testbed that are a cluster as well."""

    def __init__(self, paths: Paths, target: Target, *, renew: bool = False) -> None:
        """Talk to a testbed that is up, and to its cluster.

        Raises:
            TestbedError: if it is not up, or its agent does not answer.
            ClusterError: if the API does not, or refuses what is needed.
        """
        super().__init__(paths, renew=renew)
        self._api, self._runtime = target.api, target.runtime
        self._own: dict[str, Own] = {}
        self._failure: ClusterError | None = None
        self._moved = threading.Condition()
        self._closing = contextlib.ExitStack()
        self._closing.callback(super().close)
        try:
            self._owner = owning.settle(self._api, paths.name)
            self._hand = Hand(self._api, self._owner.namespace)
            self._closing.callback(self._hand.close)
            self._notes = Recorder(self._api, podbodies.OURS, self._owner.name, lambda: True)
            self._closing.callback(self._notes.close, FLUSH_SECONDS)
            self._pods = self._watch("/api/v1/pods", sight.read_pod, "pod")
            self._nodes = self._watch("/api/v1/nodes", sight.read_node, "kubernetes-node")
            self._await_sync()
        except BaseException:
            self._closing.close()
            raise

    def close(self) -> None:
        """Hang up; what is left of the experiment's pods goes with what owns them."""
        with contextlib.suppress(ClusterError):
            owning.forget(self._api, self._owner)
        self._closing.close()

    def facts(self, record: Mapping[str, Any]) -> dict[str, Any]:
        """Return what is to be said of the nodes in a run's record, beside what it says."""
        version = self._api.get("/version").get("gitVersion", "")
        cluster = {"jobs": "pods", "kubernetes": version, "image": self._runtime.image}
        return {**super().facts(record), "cluster": cluster}

    # What schedulers and experiments know.

    def view(self) -> ClusterView:
        """Return the cluster as Kubernetes sees it, with the links that are in force."""
        held = self._agent.call("artifact-list")["artifacts"]
        seen = list(self._pods.objects.values())
        there = {
            name: {*held.get(name, ()), *sight.fetched(seen, name)} for name in self.state["nodes"]
        }
        now = {
            name: sight.both(here, self._nodes.objects.get(("", name)))
            for name, here in self.reach.now(self.state, self._layers, self._agent).items()
        }
        jobs = [*self.jobs.values(), *sight.strangers(seen, self._tokens())]
        return views.view(self.state, jobs, there, self._links, now)

    def start(
        self,
        job: Job,
        node: str,
        *,
        submitted: float,
        decided: float,
        labels: Mapping[str, Any] | None = None,
    ) -> None:
        """Have a pod made for a job and bound to a node; returns before either is done.

        Without a node Kubernetes' own scheduler finds one.

        Raises:
            NodeLostError: if the node is not ready, as far as Kubernetes knows.
        """
        delegated = node == ELSEWHERE
        if not delegated:
            self._check_up(node)
        port = None if job.work is not None else podbodies.PORT
        own = Own(uuid.uuid4().hex, delegated)
        noted = {"class": str(job.job_class), "port": port, "pod": True, **(labels or {})}
        source = self._source(job.artifact)
        body = podbodies.pod(
            job,
            self._owner,
            own.token,
            self._runtime,
            self._words(job, port),
            service=str(noted.get("service", "")),
            scheduler=podbodies.KUBERNETES if delegated else podbodies.OURS,
            source=source["url"] if source else None,
        )
        self._own[job.id] = own
        stamps = {"submitted": submitted}
        self.jobs[job.id] = JobState(
            job.id,
            node,
            "starting",
            cpu=job.resources.cpu or None,
            memory=job.resources.memory or None,
            stamps=stamps if delegated else {**stamps, "decided": decided},
            labels=noted,
        )
        self._hand.bring(body, node, lambda made: self._record(made, node), self._refused(job.id))

    def _check_up(self, node: str) -> None:
        found = self._nodes.objects.get(("", node))
        if found is None or not found.node.ready:
            reason = found.reason if found else "there is no such node"
            raise NodeLostError(f"node {node} of the cluster is not ready: {reason}")

    def resize(self, job: str, resources: Resources) -> None:
        """Let a running pod go on with other resources; an amount of zero stays as it is.

        Raises:
            ClusterError: if the cluster does not allow it.
        """
        if job not in self._own:
            super().resize(job, resources)
            return
        self._api.patch(f"{self._path(job)}/resize", podbodies.resize(resources), kind="strategic")

    def stop(self, job: str, *, grace: float = 2.0) -> None:
        """Tell a job to end, and kill it after some seconds; returns before it has ended."""
        if job not in self._own:
            super().stop(job, grace=grace)
            return
        self._own[job].stopping = True
        self._hand.delete(podbodies.pod_name(job), max(grace, KILL_SECONDS), self._take_failure)

    def displace(self, job: str) -> None:
        """Have a job evicted for the sake of another; returns before it has ended."""
        if job not in self._own:
            super().displace(job)
            return
        self._own[job].stopping = True
        self._hand.evict(podbodies.pod_name(job), self._take_failure)

    # What a testbed can do beside.

    def remove(self, names: Iterable[str]) -> None:
        """Kill jobs, if they still run, and forget them.

        Raises:
            ClusterError: if pods are still there after a while.
        """
        chosen = list(names)
        ours = [name for name in chosen if name in self._own]
        super().remove(name for name in chosen if name not in self._own)
        for name in ours:
            self._own.pop(name)
            self.jobs.pop(name, None)
        self._wipe(ours)

    def prepare(self, jobs: Sequence[Job]) -> None:
        """Start the stores that jobs will need, when nothing of an earlier run is left.

        Raises:
            ClusterError: if pods of an earlier run do not go.
        """
        self._wipe(())
        super().prepare(jobs)

    def endpoint(self, job: str) -> Message:
        """Return where a replica answers: its node, host and port."""
        found = self.jobs[job]
        if job not in self._own:
            return super().endpoint(job)
        host, port = found.labels.get("host", ""), found.labels["port"]
        return {"replica": job, "node": found.node, "host": host, "port": port}

    def samples(self, interval: float) -> PodSamples:
        """Begin to sample the use of nodes, and of jobs, pods or not."""
        return PodSamples(self.paths, interval, self._uids)

    def _uids(self) -> dict[str, str]:
        return {own.uid: job for job, own in self._own.items() if own.uid}

    def output(self, job: str) -> str:
        """Return what a job has printed."""
        if job not in self._own:
            return super().output(job)
        return self._api.text(f"{self._path(job)}/log", container=podbodies.MAIN)

    def drop_artifacts(self, keep: Collection[str] = ()) -> None:
        """Let every node forget every artifact but those to keep."""
        super().drop_artifacts(keep)
        nodes_up = [node for node in self.state["nodes"] if self._clean(node, keep)]
        names = [job_name("forget", node) for node in nodes_up]
        until = time.monotonic() + FORGET_SECONDS * self.reach.patience
        while not all(self.jobs[name].has_ended for name in names):
            if (event := self._next_event(until)) is None:
                break
            self._backlog.append(event)
        self.remove(names)

    def _clean(self, node: str, keep: Collection[str]) -> bool:
        """Begin to delete what pods have fetched on a node; return whether that is possible."""
        name, argv = job_name("forget", node), podbodies.clean(keep)
        try:
            self.launch(name, node, argv, outside=True, ready="exec")
        except TestbedError:
            return False  # a node that is down
        return True

    # Events.

    def _event_of(self, message: Mapping[str, Any]) -> Event | None:
        if message["event"] == "pod":
            return self._hear_pod(message["change"], message["mono"])
        if message["event"] == "kubernetes-node":
            return self._hear_node(message["change"], message["mono"])
        if message["event"] == "refused":
            return self._hear_refusal(message)
        if message["event"] == "blind":
            raise message["error"]
        return super()._event_of(message)

    def _hear_pod(self, change: Change[sight.Seen], now: float) -> Event | None:
        seen = change.new or change.old
        facts = seen.facts if seen else None
        own = self._own.get(facts.job) if facts else None
        if facts is None or own is None or own.token != facts.token:
            return None
        own.uid = facts.uid
        before = self.jobs[facts.job]
        state = podstates.advance(
            before,
            facts if change.new else None,
            now,
            stopping=own.stopping,
            delegated=own.delegated,
        )
        self.jobs[facts.job] = state
        return None if state == before else state

    def _hear_refusal(self, message: Mapping[str, Any]) -> Event | None:
        job, own = message["id"], self._own.get(message["id"])
        if own is None or self.jobs[job].has_ended:
            return None
        self.jobs[job] = podstates.refuse(self.jobs[job], message["error"], message["mono"])
        return self.jobs[job]

    def _hear_node(self, change: Change[sight.SeenNode], now: float) -> Event | None:
        name, was, is_now = change.key[1], sight.is_ready(change.old), sight.is_ready(change.new)
        if name not in self.state["nodes"] or change.old is None:
            return None
        found: list[Event] = []
        if was != is_now:
            reason = change.new.reason if change.new else "the node was deleted"
            if not is_now:
                self._lose_pods(name, reason, now)
            found.append(NoticeEvent(name, is_now, reason, now))
        for what, detail in sight.changes(change.old, change.new):
            found.append(StatusEvent(name, what, detail, now, what == sight.RAISED))
        self._backlog.extend(found[1:])
        return found[0] if found else None

    def _lose_pods(self, node: str, reason: str, now: float) -> None:
        """Give up the pods on a node that we chose, and have them killed once it is back."""
        for job, own in self._own.items():
            state = self.jobs[job]
            if state.node == node and not own.delegated and not state.has_ended:
                error = f"node {node} is not ready: {reason}"
                self.jobs[job] = podstates.lose(state, error, now)
                own.stopping = True
                self._backlog.append(self.jobs[job])
                self._hand.delete(podbodies.pod_name(job), 0, self._take_failure)

    # How it is done.

    def _watch(self, path: str, read: Callable[[dict[str, Any]], Any], kind: str) -> Informer[Any]:
        def tell(change: Change[Any]) -> None:
            self._events.put({"event": kind, "change": change, "mono": time.monotonic()})
            with self._moved:
                self._moved.notify_all()

        def end(error: ClusterError) -> None:
            self._failure = error
            self._events.put({"event": "blind", "error": error})

        informer: Informer[Any] = Informer(self._api, path, read, tell, failed=end)
        informer.start()
        self._closing.callback(informer.stop)
        return informer

    def _await_sync(self) -> None:
        end = time.monotonic() + SYNC_SECONDS
        for informer in (self._pods, self._nodes):
            while not informer.synced.wait(0.2):
                if self._failure is not None:
                    raise self._failure
                if time.monotonic() > end:
                    raise ClusterError(f"the API server {self._api.server} does not answer")

    def _wipe(self, names: Iterable[str]) -> None:
        """Kill pods, and wait until none is left that is not ours any more."""
        for name in names:
            self._hand.delete(podbodies.pod_name(name), KILL_SECONDS, self._take_failure)
        if self._await_gone():
            return
        for name in self._left():
            self._hand.delete(name, 0, self._take_failure)
        if not self._await_gone():
            reason = f" ({self._failure})" if self._failure else ""
            raise ClusterError(f"pods do not go: {', '.join(sorted(self._left()))}{reason}")

    def _await_gone(self) -> bool:
        with self._moved:
            return self._moved.wait_for(lambda: not self._left(), GONE_SECONDS)

    def _left(self) -> list[str]:
        """Return the pods of ours that belong to no job any more."""
        tokens = self._tokens()
        return [
            seen.pod.name
            for seen in list(self._pods.objects.values())
            if seen.pod.namespace == self._owner.namespace
            and seen.facts is not None
            and seen.facts.token not in tokens
        ]

    def _tokens(self) -> set[str]:
        return {own.token for own in self._own.values()}

    def _record(self, made: Mapping[str, Any], node: str) -> None:
        self._notes.scheduled(pods.read(made), node)

    def _refused(self, job: str) -> Callable[[ClusterError], None]:
        def tell(error: ClusterError) -> None:
            message = {"event": "refused", "id": job, "error": str(error)}
            self._events.put({**message, "mono": time.monotonic()})

        return tell

    def _take_failure(self, error: ClusterError) -> None:
        self._failure = error

    def _path(self, job: str) -> str:
        return f"/api/v1/namespaces/{self._owner.namespace}/pods/{podbodies.pod_name(job)}"
