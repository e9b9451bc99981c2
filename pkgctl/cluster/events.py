# SPDX-License-Identifier: GPL-3.0-or-later
"""Decisions as Events that ``kubectl describe pod`` shows, sent behind the decisions.

While pods are being bound no more than ``BUSY_RATE`` a second are sent, which is what the client of
kube-scheduler's events is bounded to by default; once nothing is being bound the rest follows
faster. Of several reasons why one pod waits, the latest is sent.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from pkgctl.cluster.client import Api
from pkgctl.cluster.pods import Pod
from pkgctl.errors import ClusterError

BUSY_RATE = 50.0
IDLE_RATE = 200.0
MOST = 20_000  # kept for sending; the oldest go when there are more
LONGEST_NOTE = 1000  # the API takes 1024 bytes
ANSWER_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Note:
    """An Event about a pod.

    Attributes:
        pod: the pod.
        reason: one word, such as Scheduled.
        text: for people.
        normal: whether all is well.
        when: the time of what happened.
    """

    pod: Pod
    reason: str
    text: str
    normal: bool
    when: str


class Recorder:
    """Sends Events from a thread of its own."""

    def __init__(self, api: Api, controller: str, holder: str, is_busy: Callable[[], bool]) -> None:
        """Start the thread.

        Args:
            api: the cluster.
            controller: the scheduler's name.
            holder: which of its instances.
            is_busy: whether pods are being bound at this moment.
        """
        self._api, self._controller, self._holder = api, controller, holder
        self._is_busy = is_busy
        self._notes: dict[tuple[str, str], Note] = {}
        self._changed = threading.Condition()
        self._closing = threading.Event()
        self.dropped = 0
        self._thread = threading.Thread(target=self._run, name="events", daemon=True)
        self._thread.start()

    def scheduled(self, pod: Pod, node: str) -> None:
        """Record that a pod was bound."""
        self._add(pod, "Scheduled", f"Successfully assigned {pod.id} to {node}", normal=True)

    def failed(self, pod: Pod, reason: str) -> None:
        """Record why a pod waits."""
        self._add(pod, "FailedScheduling", reason, normal=False)

    def preempted(self, victim: Pod, by: Pod, node: str) -> None:
        """Record for whom a pod was evicted."""
        self._add(victim, "Preempted", f"Preempted by {by.id} on node {node}", normal=True)

    def close(self, seconds: float) -> None:
        """Send what is left, for so long at most, and end."""
        self._closing.set()
        with self._changed:
            self._changed.notify()
        self._thread.join(seconds)

    def _add(self, pod: Pod, reason: str, text: str, *, normal: bool) -> None:
        note = Note(pod, reason, text[:LONGEST_NOTE], normal, _stamp())
        with self._changed:
            self._notes[(pod.uid, reason)] = note
            if len(self._notes) > MOST:
                del self._notes[next(iter(self._notes))]
                self.dropped += 1
            self._changed.notify()

    def _run(self) -> None:
        while (note := self._next()) is not None:
            try:
                self._send(note)
            except ClusterError:
                self.dropped += 1  # an Event is a courtesy: the pod itself says where it is
            rate = BUSY_RATE if self._is_busy() else IDLE_RATE
            self._closing.wait(1 / rate)

    def _next(self) -> Note | None:
        with self._changed:
            self._changed.wait_for(lambda: bool(self._notes) or self._closing.is_set())
            if not self._notes:
                return None
            return self._notes.pop(next(iter(self._notes)))

    def _send(self, note: Note) -> None:
        path = f"/apis/events.k8s.io/v1/namespaces/{note.pod.namespace}/events"
        self._api.post(path, self._event(note), within=ANSWER_SECONDS)

    def _event(self, note: Note) -> dict[str, Any]:
        pod = note.pod
        return {
            "apiVersion": "events.k8s.io/v1",
            "kind": "Event",
            "metadata": {
                "name": f"{pod.name[:200].rstrip('-.')}.{uuid.uuid4().hex[:16]}",
                "namespace": pod.namespace,
            },
            "eventTime": note.when,
            "reportingController": self._controller,
            "reportingInstance": self._holder[:128],
            "action": "Binding" if note.reason == "Scheduled" else "Scheduling",
            "reason": note.reason,
            "regarding": {
                "apiVersion": "v1",
                "kind": "Pod",
                "namespace": pod.namespace,
                "name": pod.name,
                "uid": pod.uid,
            },
            "note": note.text,
            "type": "Normal" if note.normal else "Warning",
        }


def _stamp() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
