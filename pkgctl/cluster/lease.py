# SPDX-License-Identifier: GPL-3.0-or-later
"""One of several acts: whoever holds a Lease, and never longer than it surely does.

The lease is renewed after a third of its time. Its holder acts until two thirds of it have passed
since it *sent* the last renewal that was granted, and another takes the lease only when it has
seen no renewal for the whole of it. Both go by a clock of their own that also runs while the
machine sleeps, so no two clocks are ever compared. A process that was stopped for a while
finds its time over before it does anything else; with a fuse it is killed when nine tenths of the
time have passed, and does nothing else at all.
"""

from __future__ import annotations

import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any

from pkgctl.cluster.client import Api
from pkgctl.cluster.fuse import Fuse
from pkgctl.cluster.refusals import BARRED, Patience
from pkgctl.errors import ClusterError, Refused

SECONDS = 15.0
LOOK_AGAIN = 2.0
_ON_ITS_WAY = 0.5
_LEASES = "/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"


def identity() -> str:
    """Return a name that no other process has or ever had."""
    return f"{socket.gethostname()}_{os.getpid()}_{uuid.uuid4().hex[:8]}"


def clock() -> float:
    """Return seconds that also pass while the process is stopped or the machine sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


@dataclass(frozen=True, slots=True)
class Sighting:
    """A lease as it was when something on it was seen to change last, and when that was."""

    holder: str
    renewed: str
    seconds: float
    seen: float

    @classmethod
    def of(cls, lease: Mapping[str, Any], now: float) -> Sighting:
        """Return what a lease says."""
        spec = lease.get("spec") or {}
        return cls(
            holder=spec.get("holderIdentity") or "",
            renewed=f"{spec.get('renewTime')} {spec.get('leaseTransitions')}",
            seconds=float(spec.get("leaseDurationSeconds") or SECONDS),
            seen=now,
        )

    def since(self, before: Sighting | None) -> Sighting:
        """Return this sighting, or the older one if nothing has changed since."""
        if before is None or (before.holder, before.renewed) != (self.holder, self.renewed):
            return self
        return before

    def is_free(self, now: float) -> bool:
        """Whether nobody holds it, or its holder has not renewed it for all its time."""
        return not self.holder or now - self.seen > self.seconds


class Lease:
    """One named lease, for one process.

    Attributes:
        holder: the name under which this process holds it.
    """

    def __init__(
        self,
        api: Api,
        namespace: str,
        name: str,
        *,
        holder: str | None = None,
        seconds: float = SECONDS,
        fuse: Fuse | None = None,
        now: Callable[[], float] = clock,
    ) -> None:
        """Prepare it; ``acquire`` waits for it."""
        self._fuse = fuse
        self.holder = holder or identity()
        self._api, self._seconds, self._now = api, seconds, now
        self._namespace, self._name = namespace, name
        self._list = _LEASES.format(namespace=namespace)
        self._mine: dict[str, Any] = {}
        self._until = -1.0
        self._answered, self._patience = False, Patience(now=now)
        self._let_go = threading.Event()
        self._thread: threading.Thread | None = None

    def held(self) -> bool:
        """Whether nobody else can have it at this moment."""
        return self._now() < self._until

    def acquire(self, stop: threading.Event, say: Callable[[str], None]) -> bool:
        """Wait until it is ours; False if ``stop`` was set before.

        Raises:
            Refused: if we may not, or there is no such namespace.
        """
        seen: Sighting | None = None
        told = news = ""
        pause = min(LOOK_AGAIN, self._seconds / 3)
        while not stop.is_set():
            try:
                seen = self._look(seen)
                self._answered = True
                news = seen.holder if seen is not None else ""
                news = news and f"waiting: {news} has the lease {self._namespace}/{self._name}"
            except ClusterError as error:
                news = self._explain(error)
            if self.held():
                return True
            if news not in ("", told):
                say(news)
            told = news
            stop.wait(pause)
        return False

    def keep(self, lost: Callable[[], None]) -> None:
        """Renew it from now on, in a thread; ``lost`` is called once if it is over."""
        self._let_go.clear()
        self._thread = threading.Thread(target=self._renew, args=(lost,), daemon=True, name="lease")
        self._thread.start()

    def release(self) -> None:
        """Stop renewing it, and give it back if it is still ours, so that another need not wait."""
        self._let_go.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        held, self._until = self.held(), -1.0
        if self._fuse is not None:
            self._fuse.put_out()
        if held:
            self._mine["spec"] |= {"holderIdentity": "", "leaseDurationSeconds": 1}
            with suppress(ClusterError):  # it runs out by itself
                self._api.put(self._path, self._mine, within=self._seconds / 3)

    @property
    def _path(self) -> str:
        return f"{self._list}/{self._name}"

    def _look(self, before: Sighting | None) -> Sighting | None:
        """Look who has the lease, and take it if it is free."""
        try:
            lease = self._api.get(self._path, within=self._seconds / 3)
        except Refused as error:
            if error.status != HTTPStatus.NOT_FOUND:
                raise
            self._write(None)
            return None
        seen = Sighting.of(lease, self._now()).since(before)
        # A term of our own that is over has ended with nothing of it still under way.
        if seen.holder == self.holder or seen.is_free(self._now()):
            self._write(lease)
        return seen

    def _write(self, lease: dict[str, Any] | None) -> None:
        """Put our name on the lease, unless somebody else changes it first."""
        asked, stamp = self._now(), _stamp()
        spec = dict((lease or {}).get("spec") or {})
        spec |= {
            "holderIdentity": self.holder,
            "leaseDurationSeconds": max(1, round(self._seconds)),
            "acquireTime": stamp,
            "renewTime": stamp,
            "leaseTransitions": (spec.get("leaseTransitions") or 0) + (lease is not None),
        }
        head = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease"}
        if lease is None:
            body = {**head, "metadata": {"name": self._name}, "spec": spec}
            self._mine = self._api.post(self._list, body, within=self._seconds / 3)
        else:
            body = {**head, **lease, "spec": spec}
            self._mine = self._api.put(self._path, body, within=self._seconds / 3)
        self._extend(asked)

    def _extend(self, asked: float) -> None:
        """Count on the lease for as long as a renewal asked for at that time allows."""
        self._until = asked + self._seconds * 2 / 3
        if self._fuse is not None:
            self._fuse.burn_until(asked + self._seconds * 9 / 10)

    def _explain(self, error: ClusterError) -> str:
        """Return what to say of an error; raise it if waiting cannot help."""
        is_final = self._patience.runs_out(error)
        status = error.status if isinstance(error, Refused) else 0
        if status == HTTPStatus.CONFLICT:
            return ""
        if self._answered or status not in (*BARRED, HTTPStatus.NOT_FOUND):
            return str(error)
        if status == HTTPStatus.NOT_FOUND:
            raise Refused(
                f"there is no namespace {self._namespace}; make what the scheduler needs by: "
                "pkgctl cluster manifests | kubectl apply -f -",
                status=status,
            ) from error
        if is_final:
            raise error
        return ""

    def _renew(self, lost: Callable[[], None]) -> None:
        self._renew_until_lost()
        if not self._let_go.is_set():
            self._until = -1.0
            lost()
            time.sleep(_ON_ITS_WAY)  # for whoever has just been told that it may act
            if self._fuse is not None:
                self._fuse.put_out()

    def _renew_until_lost(self) -> None:
        pause = self._seconds / 3
        while not self._let_go.wait(pause):
            if not self.held():
                return
            asked = self._now()
            self._mine["spec"]["renewTime"] = _stamp()
            left = max(0.1, self._until - asked)
            try:
                self._mine = self._api.put(self._path, self._mine, within=min(left, pause))
            except Refused as error:
                if error.status in (HTTPStatus.CONFLICT, HTTPStatus.NOT_FOUND):
                    return
                pause = self._seconds / 15
            except ClusterError:
                pause = self._seconds / 15
            else:
                if not self.held():
                    return  # the answer came too late
                self._extend(asked)
                pause = self._seconds / 3


def _stamp() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
