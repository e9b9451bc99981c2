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
BARRED = Refused("forbidden", status=403)
INVALID = Refused("is invalid", status=422)


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
        ([Refused("who are you", status=401), BARRED, {}], Outcome(POD, "n1", ours=True)),
        ([LOST, BARRED, TAKEN, on("n1")], Outcome(POD, "n1", ours=True)),
        ([LOST, INVALID, on("n1")], Outcome(POD, "n1", ours=True)),
        ([TAKEN, BARRED, on("n1")], Outcome(POD, "n1", ours=True)),
        ([TAKEN, Refused("starting", status=503), on("n1")], Outcome(POD, "n1", ours=True)),
        ([INVALID, on("")], Outcome(POD, error="is invalid")),
        ([TAKEN, INVALID], Outcome(POD, error="is invalid")),
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
        "a server that starts knows nobody yet",
        "it was done and the server starts anew",
        "it was done and then it is refused for good",
        "a server that starts does not even let us look",
        "a server that starts cannot even let us look",
        "it is refused for good",
        "even a look is refused for good",
    ],
)
def test_what_became_of_a_pod_is_found_out(steps, outcome):
    script = Script(*steps)

    assert bound(script) == outcome
    assert not script.steps


@pytest.mark.parametrize("refusal", [Refused("a webhook fails", status=500), BARRED])
def test_an_api_that_refuses_for_long_keeps_nobody_waiting(monkeypatch, refusal):
    monkeypatch.setattr(binder, "INSIST_SECONDS", 0.05)
    # Reading it works: it is not bound.
    script = Script(*[refusal] * 999)
    monkeypatch.setattr(script, "get", lambda *_, **__: on(""))
    outcomes: queue.SimpleQueue[Outcome] = queue.SimpleQueue()
    made = Binder(script, "me", lambda: True, outcomes.put, threads=1)

    made.bind(POD, "n1")

    assert outcomes.get(timeout=10) == Outcome(POD, error=str(refusal))
    assert len(script.asked) > 1
    made.close()


def test_who_may_neither_bind_nor_look_is_told_in_the_end(monkeypatch):
    monkeypatch.setattr(binder, "INSIST_SECONDS", 0.05)

    assert bound(Script(*[BARRED] * 999), most=999) == Outcome(POD, error="forbidden")


def test_who_ends_tries_once_what_it_was_asked_for(monkeypatch):
    monkeypatch.setattr(binder, "INSIST_SECONDS", 600.0)
    script = Script(*[LOST] * 999)
    monkeypatch.setattr(script, "get", lambda *_, **__: on("n1"))

    assert bound(script, ends=True) == Outcome(POD, "n1", ours=True)


@pytest.mark.parametrize("answer", [LOST, BARRED])
def test_who_ends_and_cannot_find_out_leaves_it_to_the_next_term(monkeypatch, answer):
    monkeypatch.setattr(binder, "INSIST_SECONDS", 600.0)
    script = Script(*[answer] * 99)

    assert bound(script, ends=True) == Outcome(POD, void=True)
    assert len(script.asked) < 9


@pytest.mark.parametrize("most", [0, 1])
def test_nothing_is_sent_any_more_when_we_may_not_act(most):
    script = Script(LOST, {})

    assert bound(script, most=most) == Outcome(POD, void=True)
    assert len(script.asked) == most


def test_an_eviction_is_of_the_very_pod_and_what_became_of_it_is_told():
    script, told = Script({}, Refused("a budget keeps it", status=429)), list[str]()
    made = Binder(script, "me", lambda: True, lambda _: None, threads=1)

    for _ in range(2):
        made.evict(POD, lambda: told.append("granted"), told.append)
    made.close()

    path, body = script.asked[0]
    assert path.endswith("/pods/p/eviction")
    assert body["deleteOptions"] == {"preconditions": {"uid": "uid-p"}}
    assert told == ["granted", "a budget keeps it"]
