# SPDX-License-Identifier: GPL-3.0-or-later
"""A scheduler for pods: it watches, decides by one of our policies, and binds.

Whatever it knows is of one term, from the moment it has the lease to the moment it may have lost
it; the next term reads everything anew. In a term one thread owns all state and makes all
decisions. Others only read the API or write to it, and put what they find into the inbox.

A pod that was given a node counts as being there at once, long before the API says so. If it
could not be bound after all, it waits again and its room is free again.
"""

from __future__ import annotations

import math
import queue
import random
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from typing import Any

from pkgctl.cluster import nodes, pods
from pkgctl.cluster.binder import THREADS, Binder, Outcome
from pkgctl.cluster.client import Api
from pkgctl.cluster.events import Recorder
from pkgctl.cluster.fuse import Fuse
from pkgctl.cluster.informer import Change, Informer
from pkgctl.cluster.lease import SECONDS, Lease
from pkgctl.cluster.nodes import Node
from pkgctl.cluster.pods import Pod
from pkgctl.cluster.queue import Queue
from pkgctl.cluster.refusals import STARTING_SECONDS
from pkgctl.cluster.selectors import Allowed
from pkgctl.cluster.snapshot import Links, Snapshot
from pkgctl.errors import ClusterError, nearest
from pkgctl.scheduling.decision import Decision, Place, Preempt, Reject, Scheduler, Wait
from pkgctl.scheduling.registry import SCHEDULERS, scheduler

NAMESPACE = "pkgctl"
BATCH = 128  # pods that are decided on together
MOST_UNDER_WAY = 256  # bindings that are decided and not answered yet
FLUSH_SECONDS = 5.0
# Pods that have ended hold nothing.
_ALIVE = {"fieldSelector": "status.phase!=Succeeded,status.phase!=Failed"}
_NOT_KNOWN = "asks for what the scheduler {name} does not do: {what}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How a scheduler works.

    Attributes:
        name: the ``schedulerName`` of the pods that are its business.
        policy: who decides for pods that do not name one.
        namespace: where its lease is.
        seed: of the generator for what policies do by chance; None is another each time.
        threads: how many bindings are sent at once.
        lease_seconds: how long a lease lasts that is not renewed.
        has_fuse: whether this process is killed when it sleeps for longer than its lease lasts.
        links: gives the quality of the links between nodes, for policies that look at it.
    """

    name: str = "pkgctl"
    policy: str = "least-allocated"
    namespace: str = NAMESPACE
    seed: int | None = None
    threads: int = THREADS
    lease_seconds: float = SECONDS
    has_fuse: bool = False
    links: Callable[[], Links] | None = None

    @property
    def lease(self) -> str:
        """The name of the lease."""
        return lease_name(self.name)


def lease_name(scheduler_name: str) -> str:
    """Return the name of a scheduler's lease."""
    return f"{scheduler_name}-scheduler"


class PodScheduler:
    """Schedules in term after term, until it is stopped."""

    def __init__(self, api: Api, options: Options, say: Callable[[str], None]) -> None:
        """Prepare it.

        Raises:
            SpecError: if there is no such policy.
        """
        scheduler(options.policy)
        self._api, self._options, self._say = api, options, say
        self._stop = threading.Event()
        self._term: Term | None = None
        self._has_served = False
        self.bound = 0

    def run(self) -> None:
        """Wait for the lease, schedule as long as it lasts, and so on until ``stop``.

        Raises:
            ClusterError: if the API refuses what a scheduler needs.
        """
        options = self._options
        lease = Lease(
            self._api,
            options.namespace,
            options.lease,
            seconds=options.lease_seconds,
            fuse=Fuse() if options.has_fuse else None,
        )
        recorder = Recorder(self._api, options.name, lease.holder, self._is_busy)
        try:
            while lease.acquire(self._stop, self._say):
                self._serve(lease, recorder)
        finally:
            lease.release()
            recorder.close(FLUSH_SECONDS)

    def stop(self) -> None:
        """End in good order; may be called from a signal handler or another thread."""
        self._stop.set()
        term = self._term
        if term is not None:
            term.end()

    def _serve(self, lease: Lease, recorder: Recorder) -> None:
        # Who could list pods once will be able to again, whatever a server says that just started.
        patience = math.inf if self._has_served else STARTING_SECONDS
        term = self._term = Term(self._api, self._options, lease, recorder, self._say, patience)
        try:
            if not self._stop.is_set():
                lease.keep(term.end)
                term.run()
        finally:
            term.close()
            lease.release()
            self.bound += term.bound
            self._has_served |= term.is_settled
            self._term = None
        if not self._stop.is_set():
            self._say("the lease is lost; everything will be read anew")

    def _is_busy(self) -> bool:
        term = self._term
        return term is not None and term.under_way > 0


class Term:
    """What is known and done while the lease is ours.

    Attributes:
        under_way: bindings that are not answered yet.
        bound: pods that were bound.
    """

    def __init__(
        self,
        api: Api,
        options: Options,
        lease: Lease,
        recorder: Recorder,
        say: Callable[[str], None],
        patience: float = STARTING_SECONDS,
    ) -> None:
        """Prepare it; ``run`` begins."""
        self._patience = patience
        self._options, self._lease, self._recorder, self._say = options, lease, recorder, say
        self._inbox: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._rng = random.Random(options.seed)
        self._policies: dict[str, Scheduler] = {}
        self._snapshot, self._queue = Snapshot(), Queue()
        self._assumed: dict[str, Pod] = {}  # given a node, which the API has not said yet
        self._evicting: set[str] = set()
        self._unsettled, self._changed = 2, False
        self._over = False
        self._error: ClusterError | None = None
        self.under_way = self.bound = 0
        self._binder = Binder(
            api, lease.holder, lease.held, self._later(self._on_outcome), options.threads
        )
        self._informers: list[Informer[Any]] = [
            self._informer(api, "/api/v1/nodes", nodes.read, self._on_node, {}),
            self._informer(api, "/api/v1/pods", pods.read, self._on_pod, _ALIVE),
        ]

    def run(self) -> None:
        """Schedule until the lease is lost, ``end`` is called, or the API refuses.

        Raises:
            ClusterError: what the API said.
        """
        for informer in self._informers:
            informer.start()
        while not self._over:
            self._take_messages()
            if not self._over and self._has_work():
                self._decide()
        if self._error is not None:
            raise self._error

    @property
    def is_settled(self) -> bool:
        """Whether all nodes and pods were read."""
        return not self._unsettled

    def end(self) -> None:
        """Have ``run`` return soon; may be called from any thread."""
        self._inbox.put(None)

    def close(self) -> None:
        """Let nothing of this term go on."""
        for informer in self._informers:
            informer.stop()
        self._binder.close()
        self._take_outcomes()

    def _informer(
        self,
        api: Api,
        path: str,
        read: Callable[[dict[str, Any]], Any],
        act: Callable[[Change[Any]], None],
        query: Mapping[str, str],
    ) -> Informer[Any]:
        return Informer(
            api,
            path,
            read,
            self._later(act),
            query=query,
            settled=lambda: self._inbox.put(self._settle),
            failed=self._later(self._fail),
            patience=self._patience,
        )

    def _later(self, act: Callable[[Any], None]) -> Callable[[Any], None]:
        """Return what another thread calls to have something done by the one that decides."""

        def put(what: Any) -> None:
            self._inbox.put(lambda: act(what))

        return put

    # Messages

    def _take_messages(self) -> None:
        """Wait for something to do, and take in all that has come."""
        pause = self._queue.due(time.monotonic())
        if not self._has_work():
            try:
                self._take(self._inbox.get(timeout=pause))
            except queue.Empty:
                self._queue.due(time.monotonic())
        self._take_outcomes()
        if self._changed:
            self._changed = False
            self._queue.wake(time.monotonic())

    def _take_outcomes(self) -> None:
        try:
            while True:
                self._take(self._inbox.get_nowait())
        except queue.Empty:
            return

    def _take(self, message: Callable[[], None] | None) -> None:
        if message is None:
            self._over = True
        else:
            message()

    def _has_work(self) -> bool:
        """Whether there is something to decide, and somebody who may."""
        may = not self._unsettled and self.under_way < BATCH and self._lease.held()
        return may and self._queue.has_ready

    def _settle(self) -> None:
        self._unsettled -= 1
        if not self._unsettled:
            self._say(
                f"scheduling the pods of {self._options.name} by {self._options.policy} "
                f"as {self._lease.holder}; {len(self._queue)} wait"
            )

    def _fail(self, error: ClusterError) -> None:
        self._error, self._over = error, True

    def _on_node(self, change: Change[Node]) -> None:
        if change.new is not None:
            self._snapshot.set_node(change.new)
        else:
            self._snapshot.drop_node(change.key[1])
        self._changed = True

    def _on_pod(self, change: Change[Pod]) -> None:
        old, new = change.old, change.new
        if new is None:
            if old is not None:
                self._forget(old)
        elif new.node:
            self._is_there(new, old)
        elif new.scheduler == self._options.name and not new.waits:
            self._is_waiting(new)
        else:
            self._queue.remove(new.uid)

    def _forget(self, pod: Pod) -> None:
        self._queue.remove(pod.uid)
        self._assumed.pop(pod.uid, None)
        self._evicting.discard(pod.uid)
        if pod.uid in self._snapshot:
            self._snapshot.drop(pod.uid)
            self._changed = True

    def _is_there(self, pod: Pod, before: Pod | None) -> None:
        self._queue.remove(pod.uid)
        self._assumed.pop(pod.uid, None)
        self._snapshot.put(pod, pod.node)
        if before is not None and before.asked != pod.asked:
            self._changed = True  # resized: there may be more room

    def _is_waiting(self, pod: Pod) -> None:
        if pod.uid in self._assumed:
            self._assumed[pod.uid] = pod  # old news: it is being bound, or is
        else:
            self._queue.add(pod)

    def _on_outcome(self, outcome: Outcome) -> None:
        self.under_way -= 1
        if outcome.ours:
            self.bound += 1
            self._recorder.scheduled(outcome.pod, outcome.node)
        if outcome.void:
            self._over = True  # what was left undone is found again in the next term
        pod = self._assumed.get(outcome.pod.uid)
        if pod is not None:  # else the watch was faster
            self._settle_pod(pod, outcome)

    def _settle_pod(self, pod: Pod, outcome: Outcome) -> None:
        if outcome.node:
            self._snapshot.put(pod, outcome.node)
        elif outcome.gone:
            self._forget(pod)
        elif not outcome.void:
            self._free(pod, f"could not be bound: {outcome.error}")

    def _free(self, pod: Pod, reason: str) -> None:
        """Take back what a pod was given."""
        del self._assumed[pod.uid]
        self._snapshot.drop(pod.uid)
        self._changed = True
        if self._queue.put_back(pod, reason, time.monotonic()):
            self._recorder.failed(pod, reason)

    # Decisions

    def _decide(self) -> None:
        batch = self._queue.take(min(BATCH, MOST_UNDER_WAY - self.under_way))
        for policy, some in groupby(batch, self._policy_of):
            self._decide_by(policy, list(some))

    def _policy_of(self, pod: Pod) -> str:
        return pod.hints.get("policy") or self._options.policy

    def _decide_by(self, name: str, batch: Iterable[Pod]) -> None:
        """Decide on pods of one policy, in one go."""
        obstacles = {pod.uid: self._obstacle(pod, name) for pod in batch}
        fine = [pod for pod in batch if not obstacles[pod.uid]]
        for pod in batch:
            if obstacles[pod.uid]:
                self._put_aside(pod, obstacles[pod.uid], final=True)
        if not fine:
            return
        if name not in self._policies:
            self._policies[name] = scheduler(name)
        allowed = [self._snapshot.allowed(pod) for pod in fine]
        jobs = [pods.job(pod, where.nodes) for pod, where in zip(fine, allowed, strict=True)]
        links = self._options.links() if self._options.links is not None else None
        view = self._snapshot.view(time.monotonic(), links)
        decisions = self._policies[name].place(jobs, view, self._rng)
        for pod, where, decision in zip(fine, allowed, decisions, strict=True):
            self._carry_out(pod, where, decision)

    def _obstacle(self, pod: Pod, policy: str) -> str:
        """Return why a pod can have no node whatever happens to nodes, or nothing."""
        if pod.beyond:
            return _NOT_KNOWN.format(name=self._options.name, what=pod.beyond)
        # A pod may choose among what we know; only who starts the scheduler has code imported.
        if policy not in SCHEDULERS and policy != self._options.policy:
            return f"no scheduler is called {policy!r}; {nearest(policy, SCHEDULERS)}"
        return ""

    def _carry_out(self, pod: Pod, where: Allowed, decision: Decision) -> None:
        match decision:
            case Place(node=node):
                self._place(pod, where, node)
            case Preempt(node=node, victims=victims):
                self._make_room(pod, node, victims)
            case Reject(reason=reason):
                self._put_aside(pod, reason, final=True)
            case Wait(reason=reason):
                more = f" ({where})" if where.why else ""
                self._put_aside(pod, f"{reason}{more}")

    def _place(self, pod: Pod, where: Allowed, node: str) -> None:
        if where.nodes is not None and node not in where.nodes:
            self._put_aside(pod, f"its policy chose {node}, where it may not run")
            return
        self._queue.lend(pod.uid)
        self._assumed[pod.uid] = pod
        self._snapshot.put(pod, node)
        self.under_way += 1
        self._binder.bind(pod, node)

    def _make_room(self, pod: Pod, node: str, victims: Iterable[str]) -> None:
        """Evict pods for another, which is looked at again once they are gone."""
        there = {each.id: each for each in self._snapshot.on(node).values()}
        names = sorted(set(victims) & there.keys())
        if not names:
            self._put_aside(pod, f"its policy named nobody on {node} to evict")
            return
        self._put_aside(pod, f"waits for {', '.join(names)} to leave {node}")
        for victim in (there[name] for name in names):
            if victim.uid not in self._evicting:
                self._evicting.add(victim.uid)
                granted = partial(self._recorder.preempted, victim, pod, node)
                failed = self._later(partial(self._not_evicted, victim, pod))
                self._binder.evict(victim, granted, failed)

    def _not_evicted(self, victim: Pod, pod: Pod, error: str) -> None:
        """Try again later: whether a pod may be evicted can change without a sign."""
        self._evicting.discard(victim.uid)
        reason = f"{victim.id} could not be evicted: {error}"
        if pod.uid in self._queue and self._queue.put_back(pod, reason, time.monotonic()):
            self._recorder.failed(pod, reason)

    def _put_aside(self, pod: Pod, reason: str, *, final: bool = False) -> None:
        if self._queue.aside(pod.uid, reason, final=final):
            self._recorder.failed(pod, reason)
