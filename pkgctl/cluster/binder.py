# SPDX-License-Identifier: GPL-3.0-or-later
"""Decisions carried out by a few threads: pods bound to nodes, and pods evicted."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from pkgctl.cluster.client import Api, Withheld
from pkgctl.cluster.pods import ANNOTATION, Pod
from pkgctl.errors import ClusterError, Refused

THREADS = 4
BOUND_BY = f"{ANNOTATION}bound-by"
ANSWER_SECONDS = 10.0
# How long a binding is sent again that the API cannot take now; then others have their turn.
INSIST_SECONDS = 15.0
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 1.0
# The pod is bound, is no more, or is being deleted: it has to be looked at.
_TO_LOOK_AT = (HTTPStatus.CONFLICT, HTTPStatus.NOT_FOUND)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a decision.

    Attributes:
        pod: the pod.
        node: where it is now; empty if it is nowhere.
        ours: whether it is there because we said so.
        error: why it is not bound, in words.
        gone: whether there is no such pod any more.
        void: whether it was left undone, for we may not act any more.
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
    again, for the API binds a pod once only and says so the second time; then the pod is read to
    see where it is. So it is where no try succeeds for long.
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

    def evict(self, victim: Pod, failed: Callable[[str], None]) -> None:
        """Have a pod evicted; ``failed`` is called with the reason if it cannot be."""
        self._tasks.put(lambda: self._evict(victim, failed))

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
            except Refused as error:
                if error.status in _TO_LOOK_AT:
                    return self._look(pod, str(error))
                if not _is_passing(error):
                    return Outcome(pod, error=str(error))
                said = str(error)
            except ClusterError as error:
                said = str(error)  # it may be bound or not; the next try tells
            if self._closing.is_set() or time.monotonic() > end:
                return self._look(pod, said)
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)
        return Outcome(pod, void=True)

    def _look(self, pod: Pod, error: str) -> Outcome:
        """Return where a pod is that could not be bound."""
        while self._may_act():
            try:
                raw = self._api.get(_path(pod), within=ANSWER_SECONDS)
            except Refused as refusal:
                gone = refusal.status == HTTPStatus.NOT_FOUND
                return Outcome(pod, error=str(refusal), gone=gone)
            except ClusterError:
                time.sleep(_FIRST_PAUSE)
                continue
            if raw["metadata"]["uid"] != pod.uid:
                return Outcome(pod, gone=True)
            node = raw["spec"].get("nodeName", "")
            by = (raw["metadata"].get("annotations") or {}).get(BOUND_BY)
            if not node:
                return Outcome(pod, error=error)
            return Outcome(pod, node, ours=by == self._holder)
        return Outcome(pod, void=True)

    def _evict(self, victim: Pod, failed: Callable[[str], None]) -> None:
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


def _is_passing(error: Refused) -> bool:
    return error.status >= HTTPStatus.INTERNAL_SERVER_ERROR or (
        error.status == HTTPStatus.TOO_MANY_REQUESTS
    )
