# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import queue
from collections import deque
from typing import Any

import pytest

from pkgctl.cluster import binder, pods
from pkgctl.cluster.binder import BOUND_BY, Binder, Outcome
from pkgctl.cluster.client import Withheld
from pkgctl.errors import ClusterError, Refused
from tests.unit.cluster.objects import raw_pod

POD = pods.read(raw_pod("p"))
LOST = ClusterError("no answer")
TAKEN = Refused("is already assigned", status=409)


class Script:
    """An API that answers as it was told, and notes what it was asked."""

    def __init__(self, *steps: Any) -> None:
        self.steps, self.asked = deque(steps), list[tuple[str, Any]]()

    def post_if(self, may: Any, path: str, body: Any, **_: Any) -> Any:
        if not may():
            raise Withheld
        self.asked.append((path, body))
        return self._next()

    def get(self, path: str, **_: Any) -> Any:
        self.asked.append((path, None))
        return self._next()

    def _next(self) -> Any:
        step = self.steps.popleft()
        if isinstance(step, Exception):
            raise step
        return step


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(binder, "_FIRST_PAUSE", 0.001)


def bound(script: Script, *, most: int = 99, ends: bool = False) -> Outcome:
    """Return what becomes of a pod that is bound by a script.

    Args:
        script: the API.
        most: how many requests may be sent.
        ends: whether the scheduler ends meanwhile.
    """
    outcomes: queue.SimpleQueue[Outcome] = queue.SimpleQueue()
    made = Binder(script, "me", lambda: len(script.asked) < most, outcomes.put, threads=1)
    made.bind(POD, "n1")
    if ends:
        made.close()
    found = outcomes.get(timeout=10)
    made.close()
    return found


def on(node: str, by: str = "me", uid: str = "uid-p") -> dict[str, Any]:
    where = {"nodeName": node} if node else {}
    return raw_pod("p", annotations={BOUND_BY: by}, meta={"uid": uid}, **where)


def test_a_binding_names_the_very_pod_its_node_and_who_says_so():
    script = Script({})

    assert bound(script) == Outcome(POD, "n1", ours=True)

    ((path, body),) = script.asked
    assert path == "/api/v1/namespaces/default/pods/p/binding"
    assert body["metadata"]["uid"] == "uid-p"
    assert body["metadata"]["annotations"] == {BOUND_BY: "me"}
    assert body["target"]["name"] == "n1"


@pytest.mark.parametrize(
    ("steps", "outcome"),
    [
        ([LOST, {}], Outcome(POD, "n1", ours=True)),
        ([LOST, TAKEN, on("n1")], Outcome(POD, "n1", ours=True)),
        (
            [Refused("busy", status=429), Refused("oh", status=500), {}],
            Outcome(POD, "n1", ours=True),
        ),
        ([TAKEN, on("n2", by="you")], Outcome(POD, "n2", ours=False)),
        ([TAKEN, LOST, on("n2", by="you")], Outcome(POD, "n2", ours=False)),
        ([TAKEN, on("")], Outcome(POD, error="is already assigned")),
        ([TAKEN, on("n9", uid="other")], Outcome(POD, gone=True)),
        (
            [Refused("gone", status=404), Refused("gone", status=404)],
            Outcome(POD, error="gone", gone=True),
        ),
        ([Refused("forbidden", status=403)], Outcome(POD, error="forbidden")),
    ],
    ids=[
        "an answer is missing and it was not done",
        "an answer is missing and it was done",
        "the server ails",
        "another was faster",
        "another was faster, and reading it takes two tries",
        "it is being deleted",
        "it is another of that name",
        "it is gone",
        "it is not allowed",
    ],
)
def test_what_became_of_a_pod_is_found_out(steps, outcome):
    script = Script(*steps)

    assert bound(script) == outcome
    assert not script.steps


def test_an_api_that_cannot_for_long_keeps_nobody_waiting(monkeypatch):
    monkeypatch.setattr(binder, "INSIST_SECONDS", 0.05)
    ailing = Refused("a webhook fails", status=500)
    # Reading it works: it is not bound.
    script = Script(*[ailing] * 999)
    monkeypatch.setattr(script, "get", lambda *_, **__: on(""))
    outcomes: queue.SimpleQueue[Outcome] = queue.SimpleQueue()
    made = Binder(script, "me", lambda: True, outcomes.put, threads=1)

    made.bind(POD, "n1")

    assert outcomes.get(timeout=10) == Outcome(POD, error="a webhook fails")
    assert len(script.asked) > 1
    made.close()


def test_who_ends_tries_once_what_it_was_asked_for(monkeypatch):
    monkeypatch.setattr(binder, "INSIST_SECONDS", 600.0)
    script = Script(*[LOST] * 999)
    monkeypatch.setattr(script, "get", lambda *_, **__: on("n1"))

    assert bound(script, ends=True) == Outcome(POD, "n1", ours=True)


@pytest.mark.parametrize("most", [0, 1])
def test_nothing_is_sent_any_more_when_we_may_not_act(most):
    script = Script(LOST, {})

    assert bound(script, most=most) == Outcome(POD, void=True)
    assert len(script.asked) == most


def test_an_eviction_is_of_the_very_pod_and_its_failure_is_told():
    script, failures = Script({}, Refused("a budget keeps it", status=429)), list[str]()
    made = Binder(script, "me", lambda: True, lambda _: None, threads=1)

    made.evict(POD, failures.append)
    made.evict(POD, failures.append)
    made.close()

    path, body = script.asked[0]
    assert path.endswith("/pods/p/eviction")
    assert body["deleteOptions"] == {"preconditions": {"uid": "uid-p"}}
    assert failures == ["a budget keeps it"]
