# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import copy
import signal
import subprocess
import sys
import threading
from typing import Any

import pytest

from pkgctl.cluster.lease import Lease, Sighting
from pkgctl.errors import ClusterError, Refused


class Store:
    """One lease as the API keeps it: a version that must be named to change it."""

    def __init__(self) -> None:
        self.lease: dict[str, Any] | None = None
        self.version = 0
        self.broken: Exception | None = None
        self.forgets_to_answer = False

    def get(self, _path: str, **_: Any) -> dict[str, Any]:
        self._break()
        if self.lease is None:
            raise Refused("not found", status=404)
        return copy.deepcopy(self.lease)

    def post(self, _path: str, body: dict[str, Any], **_: Any) -> dict[str, Any]:
        self._break()
        if self.lease is not None:
            raise Refused("exists", status=409)
        return self._keep(body)

    def put(self, _path: str, body: dict[str, Any], **_: Any) -> dict[str, Any]:
        self._break()
        if self.lease is None or body["metadata"]["version"] != self.version:
            raise Refused("conflict", status=409)
        return self._keep(body)

    def _break(self) -> None:
        if self.broken is not None:
            raise self.broken

    def _keep(self, body: dict[str, Any]) -> dict[str, Any]:
        self.version += 1
        self.lease = copy.deepcopy(
            {**body, "metadata": {**body["metadata"], "version": self.version}}
        )
        if self.forgets_to_answer:
            raise ClusterError("no answer")
        return copy.deepcopy(self.lease)

    @property
    def holder(self) -> str:
        assert self.lease is not None
        return str(self.lease["spec"]["holderIdentity"])


class Clock:
    """A time that a test sets; waiting lets it pass."""

    def __init__(self) -> None:
        self.time = 100.0

    def __call__(self) -> float:
        return self.time


class Stop(threading.Event):
    """Whoever waits for it waits on the clock, and only for so long."""

    def __init__(self, clock: Clock, most: float) -> None:
        super().__init__()
        self._clock, self._end = clock, clock.time + most

    def wait(self, timeout: float | None = None) -> bool:
        self._clock.time += timeout or 0
        if self._clock.time > self._end:
            self.set()
        return self.is_set()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store() -> Store:
    return Store()


def lease(store: Store, clock: Clock, holder: str) -> Lease:
    return Lease(store, "pkgctl", "it", holder=holder, seconds=15, now=clock)  # type: ignore[arg-type]


def acquire(one: Lease, clock: Clock, most: float = 0.0) -> tuple[bool, list[str]]:
    said: list[str] = []
    return one.acquire(Stop(clock, most), said.append), said


def test_the_first_has_it_and_the_second_waits_and_says_for_whom(store, clock):
    first, second = lease(store, clock, "first"), lease(store, clock, "second")

    assert acquire(first, clock) == (True, [])
    assert first.held()
    assert acquire(second, clock, 9) == (False, ["waiting: first has the lease pkgctl/it"])
    assert not second.held() and store.holder == "first"


def test_it_is_held_for_two_thirds_of_its_time_and_no_longer(store, clock):
    one = lease(store, clock, "one")
    acquire(one, clock)

    clock.time += 9.9
    assert one.held()
    clock.time += 0.2
    assert not one.held()


def test_another_takes_it_when_it_has_seen_no_renewal_for_all_its_time(store, clock):
    first, second = lease(store, clock, "first"), lease(store, clock, "second")
    acquire(first, clock)
    begun = clock.time

    assert acquire(second, clock, 60)[0]

    assert clock.time - begun > 15
    assert second.held() and not first.held()
    assert store.lease["spec"]["leaseTransitions"] == 1


def test_the_time_counts_from_what_was_seen_not_from_what_the_other_clock_says(store, clock):
    first, second = lease(store, clock, "first"), lease(store, clock, "second")
    acquire(first, clock)
    store.lease["spec"]["renewTime"] = "1999-01-01T00:00:00Z"

    assert not acquire(second, clock, 14)[0]


def test_a_renewal_that_is_seen_starts_the_time_anew(store, clock):
    now = Sighting("a", "1 0", 15, 100.0)

    assert Sighting("a", "1 0", 15, 110.0).since(now) is now
    assert Sighting("a", "2 0", 15, 110.0).since(now).seen == 110.0
    assert Sighting("b", "1 0", 15, 110.0).since(now).seen == 110.0
    assert not now.is_free(114.0) and now.is_free(115.1)
    assert Sighting("", "1 0", 15, 100.0).is_free(100.0)


def test_the_same_holder_takes_its_own_at_once(store, clock):
    one = lease(store, clock, "one")
    acquire(one, clock)
    clock.time += 11

    assert acquire(one, clock) == (True, [])
    assert one.held()


def test_given_back_it_is_the_next_ones_at_once(store, clock):
    first, second = lease(store, clock, "first"), lease(store, clock, "second")
    acquire(first, clock)

    first.release()

    assert not first.held() and store.holder == ""
    assert acquire(second, clock)[0]


def test_one_whose_time_is_over_does_not_give_back_what_is_another_ones(store, clock):
    first, second = lease(store, clock, "first"), lease(store, clock, "second")
    acquire(first, clock)
    acquire(second, clock, 60)

    first.release()

    assert store.holder == "second"


def test_an_answer_that_is_missing_counts_for_nothing(store, clock):
    one = lease(store, clock, "one")
    store.forgets_to_answer = True
    found, said = acquire(one, clock)
    assert (found, said, one.held()) == (False, ["no answer"], False)

    store.forgets_to_answer = False
    assert acquire(one, clock) == (True, [])  # it finds its own name


def test_the_api_being_gone_is_said_once(store, clock):
    store.broken = ClusterError("nobody there")

    assert acquire(lease(store, clock, "one"), clock, 30) == (False, ["nobody there"])


@pytest.mark.parametrize("status", [401, 403])
def test_who_may_not_is_told(store, clock, status):
    store.broken = Refused("no", status=status)

    with pytest.raises(Refused, match="no"):
        acquire(lease(store, clock, "one"), clock, 60)


def test_a_server_that_goes_again_while_it_starts_is_waited_for(store, clock):
    one = lease(store, clock, "one")
    for _ in range(3):
        store.broken = Refused("not yet", status=403)
        assert acquire(one, clock, 10) == (False, [])
        store.broken = ClusterError("nobody there")
        assert acquire(one, clock, 10) == (False, ["nobody there"])


def test_a_server_that_ails_from_the_start_is_waited_for(store, clock):
    store.broken = Refused("starting", status=503)

    assert acquire(lease(store, clock, "one"), clock, 60) == (False, ["starting"])


@pytest.mark.parametrize("has_it", [True, False])
def test_who_had_an_answer_once_waits_until_it_may_again(store, clock, has_it):
    one = lease(store, clock, "one")
    acquire(one if has_it else lease(store, clock, "other"), clock)
    acquire(one, clock)
    store.broken = Refused("not yet", status=403)
    clock.time += 20

    assert acquire(one, clock, 60) == (False, ["not yet"])
    store.broken = None
    assert acquire(one, clock, 60)[0]


def kept(one: Lease) -> threading.Event:
    lost = threading.Event()
    one.keep(lost.set)
    return lost


def test_it_is_renewed_while_it_is_kept(store):
    one = Lease(store, "pkgctl", "it", holder="one", seconds=0.6)  # type: ignore[arg-type]
    one.acquire(threading.Event(), print)
    lost = kept(one)

    assert not lost.wait(1.5)
    assert one.held()
    one.release()


@pytest.mark.parametrize("why", ["another", "gone"])
def test_whoever_loses_it_is_told_and_does_not_hold_it_any_more(store, why):
    one = Lease(store, "pkgctl", "it", holder="one", seconds=0.6)  # type: ignore[arg-type]
    one.acquire(threading.Event(), print)
    lost = kept(one)

    if why == "another":
        store.version += 1  # somebody else wrote it
    else:
        store.broken = ClusterError("nobody there")

    assert lost.wait(10)
    assert not one.held()
    one.release()


SLEEPER = """
import sys, time
from pkgctl.cluster.fuse import Fuse
fuse = Fuse()
fuse.burn_until(time.clock_gettime(time.CLOCK_BOOTTIME) + 0.5)
if sys.argv[1] == "put out":
    fuse.put_out()
if sys.argv[1] == "later":
    fuse.burn_until(time.clock_gettime(time.CLOCK_BOOTTIME) + 600)
print("ready", flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize(
    ("what", "code"), [("burn", -signal.SIGKILL), ("put out", 0), ("later", 0)]
)
def test_a_fuse_ends_a_process_even_while_it_is_stopped(what, code):
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    process = subprocess.Popen([sys.executable, "-c", SLEEPER, what], text=True, **pipes)
    try:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGSTOP)
        try:
            process.wait(1.0 if code == 0 else 30)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGCONT)
        process.communicate("", timeout=30)
        assert process.returncode == code
    finally:
        process.kill()
        process.wait()
