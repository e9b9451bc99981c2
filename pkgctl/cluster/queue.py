# SPDX-License-Identifier: GPL-3.0-or-later
"""Pods that wait for a node: those to be looked at, and those set aside until something changes."""

from __future__ import annotations

import heapq
import itertools
from dataclasses import dataclass

from pkgctl.cluster.pods import Pod

FIRST_BACKOFF, LONGEST_BACKOFF = 1.0, 60.0


@dataclass(slots=True)
class _Waiting:
    pod: Pod
    number: int  # that of its arrival
    ticket: int = -1  # of its entry among those to be looked at; an older entry is void
    reason: str = ""
    final: bool = False  # set aside until the pod itself changes
    again: float = 0.0  # not before then
    backoff: float = FIRST_BACKOFF


class Queue:
    """Waiting pods, the highest priority first, then the oldest; no clock of its own."""

    def __init__(self) -> None:
        self._waiting: dict[str, _Waiting] = {}
        self._lent: dict[str, _Waiting] = {}
        self._ready: list[tuple[int, str, int, int, str]] = []
        self._later: list[tuple[float, str]] = []
        self._numbers = itertools.count()

    def __len__(self) -> int:
        """Return how many pods wait, looked at or not."""
        return len(self._waiting)

    def __contains__(self, uid: str) -> bool:
        """Whether that pod waits."""
        return uid in self._waiting

    @property
    def has_ready(self) -> bool:
        """Whether a pod is there to be looked at."""
        self._forget_void()
        return bool(self._ready)

    def add(self, pod: Pod) -> None:
        """Have a pod looked at, new or changed."""
        entry = self._waiting.get(pod.uid)
        if entry is None:
            entry = self._waiting[pod.uid] = _Waiting(pod, next(self._numbers))
        entry.pod, entry.final = pod, False
        self._offer(entry)

    def remove(self, uid: str) -> None:
        """Forget a pod."""
        self._waiting.pop(uid, None)
        self._lent.pop(uid, None)

    def lend(self, uid: str) -> None:
        """Have a pod wait no more, as long as it is not put back or removed."""
        self._lent[uid] = self._waiting.pop(uid)

    def take(self, most: int) -> list[Pod]:
        """Return the next pods to be decided on together; each must be aside, lent or gone then.

        What some pods ask for can be judged for one of them only, so a batch has one of these.
        """
        batch: list[Pod] = []
        while self.has_ready and len(batch) < most:
            pod = self._waiting[self._ready[0][-1]].pod
            if pod.is_alone and any(each.is_alone for each in batch):
                break
            heapq.heappop(self._ready)
            self._waiting[pod.uid].ticket = -1
            batch.append(pod)
        return batch

    def aside(self, uid: str, reason: str, *, final: bool = False) -> bool:
        """Set a pod aside until something changes; return whether the reason is a new one."""
        entry = self._waiting[uid]
        is_new = entry.reason != reason
        entry.reason, entry.final, entry.ticket = reason, final, -1
        return is_new

    def put_back(self, pod: Pod, reason: str, now: float) -> bool:
        """Take a pod in that was not bound after all, for a while later; whether that is news."""
        known = self._waiting.get(pod.uid) or self._lent.pop(pod.uid, None)
        entry = self._waiting[pod.uid] = known or _Waiting(pod, next(self._numbers))
        entry.pod = pod
        entry.again = now + entry.backoff
        entry.backoff = min(2 * entry.backoff, LONGEST_BACKOFF)
        heapq.heappush(self._later, (entry.again, pod.uid))
        return self.aside(pod.uid, reason)

    def wake(self, now: float) -> None:
        """Have all pods looked at again, for something has changed."""
        for entry in self._waiting.values():
            if entry.ticket < 0 and not entry.final and entry.again <= now:
                self._offer(entry)

    def due(self, now: float) -> float | None:
        """Offer what may be tried again, and return the seconds until the next may, if any."""
        while self._later and self._later[0][0] <= now:
            _, uid = heapq.heappop(self._later)
            entry = self._waiting.get(uid)
            if entry is not None and entry.ticket < 0 and entry.again <= now:
                self._offer(entry)
        return self._later[0][0] - now if self._later else None

    def _offer(self, entry: _Waiting) -> None:
        entry.ticket = next(self._numbers)
        pod = entry.pod
        heapq.heappush(
            self._ready, (-pod.priority, pod.created, entry.number, entry.ticket, pod.uid)
        )

    def _forget_void(self) -> None:
        while self._ready:
            ticket, uid = self._ready[0][-2:]
            entry = self._waiting.get(uid)
            if entry is not None and entry.ticket == ticket:
                return
            heapq.heappop(self._ready)
