# SPDX-License-Identifier: GPL-3.0-or-later
"""Decisions carried out by a few threads: pods bound to nodes, and pods evicted."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from pkgctl.cluster.client import Api, Withheld
from pkgctl.cluster.pods import ANNOTATION, Pod
from pkgctl.cluster.refusals import STARTING_SECONDS, may_pass
from pkgctl.errors import ClusterError, Refused

THREADS = 4
BOUND_BY = f"{ANNOTATION}bound-by"
ANSWER_SECONDS = 10.0
# How long a binding is sent again that the API does not take now, and then how long the pod is
# looked at if even that is refused; then others have their turn.
INSIST_SECONDS = STARTING_SECONDS
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 1.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a decision.

    Attributes:
        pod: the pod.
        node: where it is now; empty if it is nowhere.
        ours: whether it is there because we said so.
        error: why it is not bound, in words.
        gone: whether there is no such pod any more.
        void: whether it was left to the next term, for we may not act any more or are to end.
    """

    pod: Pod
    node: str = ""
    ours: bool = False
    error: str = ""
    gone: bool = False
    void: bool = False


class Binder:
    """Sends bindings, and says what became of each.

    It asks ``may_act`` at the last moment before every request. One whose answer is missing is sent
    again, for the API binds a pod once only and says so the second time. Whatever it says in the
    end, a pod is not taken for unbound before it was read to see where it is.
    """

    def __init__(
        self,
        api: Api,
        holder: str,
        may_act: Callable[[], bool],
        tell: Callable[[Outcome], None],
        threads: int = THREADS,
    ) -> None:
        """Start the threads.

        Args:
            api: the cluster.
            holder: who binds, which the pod's annotation ``pkgctl.dev/bound-by`` will say.
            may_act: whether requests may be sent at this moment.
            tell: called with each outcome, from one of the threads.
            threads: how many.
        """
        self._api, self._holder = api, holder
        self._may_act, self._tell = may_act, tell
        self._closing = threading.Event()
        self._tasks: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._threads = [
            threading.Thread(target=self._work, name=f"binder {number}", daemon=True)
            for number in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    def bind(self, pod: Pod, node: str) -> None:
        """Have a pod bound to a node; returns at once."""
        self._tasks.put(lambda: self._tell(self._bind(pod, node)))

    def evict(
        self, victim: Pod, granted: Callable[[], None], failed: Callable[[str], None]
    ) -> None:
        """Have a pod evicted; one of the two is called, ``failed`` with the reason."""
        self._tasks.put(lambda: self._evict(victim, granted, failed))

    def close(self) -> None:
        """Try once what was asked for, as far as we may still act, and end the threads."""
        self._closing.set()
        for _ in self._threads:
            self._tasks.put(None)
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        while (task := self._tasks.get()) is not None:
            task()

    def _bind(self, pod: Pod, node: str) -> Outcome:
        path, pause = f"{_path(pod)}/binding", _FIRST_PAUSE
        body = _binding(pod, node, self._holder)
        end = time.monotonic() + INSIST_SECONDS
        while self._may_act():
            try:
                self._api.post_if(self._may_act, path, body, within=ANSWER_SECONDS)
                return Outcome(pod, node, ours=True)
            except Withheld:
                break
            except ClusterError as error:
                said = error  # it may be bound or not; the next try tells, or a look
            if self._closing.is_set() or not may_pass(said) or time.monotonic() > end:
                return self._look(pod, str(said))
            pause = self._rest(pause)
        return Outcome(pod, void=True)

    def _look(self, pod: Pod, error: str) -> Outcome:
        """Return where a pod is that could not be bound."""
        pause, end = _FIRST_PAUSE, time.monotonic() + INSIST_SECONDS
        while self._may_act():
            try:
                return self._found(pod, self._api.get(_path(pod), within=ANSWER_SECONDS), error)
            except Refused as refusal:
                if not may_pass(refusal) or time.monotonic() > end:
                    gone = refusal.status == HTTPStatus.NOT_FOUND
                    return Outcome(pod, error=str(refusal), gone=gone)
            except ClusterError:
                pass  # if nobody answers for long we may not act any more
            if self._closing.is_set():
                break
            pause = self._rest(pause)
        return Outcome(pod, void=True)

    def _found(self, pod: Pod, raw: Mapping[str, Any], error: str) -> Outcome:
        if raw["metadata"]["uid"] != pod.uid:
            return Outcome(pod, gone=True)
        node = raw["spec"].get("nodeName", "")
        by = (raw["metadata"].get("annotations") or {}).get(BOUND_BY)
        return Outcome(pod, node, ours=by == self._holder) if node else Outcome(pod, error=error)

    def _rest(self, pause: float) -> float:
        """Wait, unless it is to end, and return the next pause."""
        self._closing.wait(pause)
        return min(2 * pause, _LONGEST_PAUSE)

    def _evict(
        self, victim: Pod, granted: Callable[[], None], failed: Callable[[str], None]
    ) -> None:
        body = {
            "apiVersion": "policy/v1",
            "kind": "Eviction",
            "metadata": {"name": victim.name, "namespace": victim.namespace},
            "deleteOptions": {"preconditions": {"uid": victim.uid}},
        }
        try:
            path = f"{_path(victim)}/eviction"
            self._api.post_if(self._may_act, path, body, within=ANSWER_SECONDS)
        except Withheld:
            return
        except ClusterError as error:
            failed(str(error))
        else:
            granted()


def _path(pod: Pod) -> str:
    return f"/api/v1/namespaces/{pod.namespace}/pods/{pod.name}"


def _binding(pod: Pod, node: str, holder: str) -> dict[str, Any]:
    """Return a binding of this very pod: another of its name is refused."""
    return {
        "apiVersion": "v1",
        "kind": "Binding",
        "metadata": {
            "name": pod.name,
            "namespace": pod.namespace,
            "uid": pod.uid,
            "annotations": {BOUND_BY: holder},
        },
        "target": {"apiVersion": "v1", "kind": "Node", "name": node},
    }
