# SPDX-License-Identifier: GPL-3.0-or-later
"""Requests that are carried out behind whoever asks for them, each job's in their order.

An API that is slow, restarts or is gone for a while holds up nobody: what could not be said is said
again until it is answered or its time is over.
"""

from __future__ import annotations

import queue
import threading
import time
import zlib
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any

from pkgctl.cluster import podbodies
from pkgctl.cluster.client import Api
from pkgctl.cluster.refusals import Patience, is_ailing, may_pass
from pkgctl.errors import ClusterError, Refused

THREADS = 4
PATIENCE_SECONDS = 180.0  # a busy machine takes more than a minute to have its API again
ANSWER_SECONDS = 10.0
EVICTION_SECONDS = 5.0
_PAUSE = 0.5
_NO_ACCOUNT = "looking up service account"  # the namespace is so new that it has none yet

Act = Callable[[], None]
Failed = Callable[[ClusterError], None]


class Hand:
    """Does things to the pods of one namespace."""

    def __init__(self, api: Api, namespace: str, patience: float = PATIENCE_SECONDS) -> None:
        """Start the threads.

        Args:
            api: the cluster.
            namespace: where the pods are.
            patience: for how many seconds something is tried again.
        """
        self._api, self._patience = api, patience
        self._pods = f"/api/v1/namespaces/{namespace}/pods"
        self._namespace = namespace
        self._closing = threading.Event()
        self._tasks: list[queue.SimpleQueue[Act | None]] = [
            queue.SimpleQueue() for _ in range(THREADS)
        ]
        self._threads = [
            threading.Thread(target=self._work, args=(tasks,), name="pods", daemon=True)
            for tasks in self._tasks
        ]
        for thread in self._threads:
            thread.start()

    def bring(
        self,
        body: Mapping[str, Any],
        node: str,
        bound: Callable[[Mapping[str, Any]], None],
        failed: Failed,
    ) -> None:
        """Make a pod, and bind it to a node if there is one; returns at once."""
        name = body["metadata"]["name"]

        def act() -> None:
            made = self._insist(lambda: self._create(body))
            if node:
                self._insist(lambda: self._bind(name, made["metadata"]["uid"], node))
                bound(made)

        self._later(name, act, failed)

    def delete(self, name: str, grace: float, failed: Failed) -> None:
        """Delete a pod, if there is one; returns at once."""
        self._later(name, lambda: self._insist(lambda: self._delete(name, grace)), failed)

    def evict(self, name: str, failed: Failed) -> None:
        """Have a pod leave: asked to, or made to if that is not possible; returns at once."""

        def act() -> None:
            body = podbodies.eviction(name, self._namespace)
            try:
                self._api.post(f"{self._pods}/{name}/eviction", body, within=EVICTION_SECONDS)
            except ClusterError:
                self._insist(lambda: self._delete(name, 0))

        self._later(name, act, failed)

    def close(self) -> None:
        """Give up what is not done, and end the threads."""
        self._closing.set()
        for tasks in self._tasks:
            tasks.put(None)
        for thread in self._threads:
            thread.join(timeout=2 * ANSWER_SECONDS)

    def _later(self, name: str, act: Act, failed: Failed) -> None:
        def task() -> None:
            try:
                act()
            except ClusterError as error:
                if not self._closing.is_set():
                    failed(error)

        self._tasks[zlib.crc32(name.encode()) % THREADS].put(task)

    def _work(self, tasks: queue.SimpleQueue[Act | None]) -> None:
        while (task := tasks.get()) is not None:
            task()

    def _insist(self, act: Callable[[], Any]) -> Any:
        """Do something until it is answered."""
        end, barred = time.monotonic() + self._patience, Patience()
        while True:
            try:
                return act()
            except ClusterError as error:
                is_over = time.monotonic() > end or self._closing.is_set()
                if is_over or not _passes(error, barred):
                    raise
            self._closing.wait(_PAUSE)

    def _create(self, body: Mapping[str, Any]) -> Any:
        try:
            return self._api.post(self._pods, body, within=ANSWER_SECONDS)
        except Refused as error:
            if is_ailing(error):
                raise
            return self._made_before(body["metadata"], error)

    def _made_before(self, meta: Mapping[str, Any], refusal: Refused) -> Any:
        """Return the pod that is there, if it is this one: a lost answer may have been a yes.

        Raises:
            Refused: if it is another or there is none, or if it may not be looked at.
            ClusterError: if another is on its way out or has just gone, so that it can be tried
                again.
        """
        try:
            there = self._api.get(f"{self._pods}/{meta['name']}", within=ANSWER_SECONDS)
        except Refused as error:
            if error.status != HTTPStatus.NOT_FOUND:
                raise
            if refusal.status != HTTPStatus.CONFLICT:
                raise refusal from error
            raise ClusterError(str(error)) from error
        known = there["metadata"].get("annotations") or {}
        if known.get(podbodies.TOKEN) == meta["annotations"][podbodies.TOKEN]:
            return there
        if there["metadata"].get("deletionTimestamp"):
            raise ClusterError(str(refusal)) from refusal
        raise refusal

    def _bind(self, name: str, uid: str, node: str) -> None:
        try:
            body = podbodies.binding(name, uid, node)
            self._api.post(f"{self._pods}/{name}/binding", body, within=ANSWER_SECONDS)
        except Refused as error:
            if is_ailing(error):
                raise
            there = self._api.get(f"{self._pods}/{name}", within=ANSWER_SECONDS)
            if there["metadata"]["uid"] != uid or there["spec"].get("nodeName") != node:
                raise

    def _delete(self, name: str, grace: float) -> None:
        try:
            self._api.delete(f"{self._pods}/{name}", podbodies.deletion(grace))
        except Refused as error:
            if error.status != HTTPStatus.NOT_FOUND:
                raise


def _passes(error: ClusterError, barred: Patience) -> bool:
    """Whether the same may be granted a moment later."""
    return _NO_ACCOUNT in str(error) or (may_pass(error) and not barred.runs_out(error))
