# SPDX-License-Identifier: GPL-3.0-or-later
"""Requests for pods that are carried out until they are answered, and once."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from pkgctl.cluster import hand
from pkgctl.cluster.podbodies import TOKEN
from pkgctl.cluster.refusals import Patience
from pkgctl.errors import ClusterError, Refused

PODS = "/api/v1/namespaces/pkgctl-lab/pods"


class Fake:
    """An API that keeps pods, and answers as it is told to."""

    def __init__(self) -> None:
        self.pods: dict[str, dict[str, Any]] = {}
        self.asked: list[str] = []
        self.answers: dict[str, list[Exception]] = {}
        self.lost: dict[str, int] = {}

    def post(self, path: str, body: Any, *, within: float) -> Any:
        return self._take("POST", path, lambda: self._post(path, body))

    def get(self, path: str, *, within: float) -> Any:
        return self._take("GET", path, lambda: self._find(path))

    def delete(self, path: str, body: Any) -> Any:
        return self._take("DELETE", path, lambda: self.pods.pop(self._find(path)["name"]))

    def _take(self, verb: str, path: str, act: Any) -> Any:
        what = f"{verb} {path.removeprefix(PODS)}"
        self.asked.append(what)
        if self.answers.get(what):
            raise self.answers[what].pop(0)
        answer = act()
        if self.lost.get(what, 0):
            self.lost[what] -= 1
            raise ClusterError("the API server does not answer")
        return answer

    def _find(self, path: str) -> dict[str, Any]:
        name = path.removeprefix(f"{PODS}/").partition("/")[0]
        if name not in self.pods:
            raise Refused(f'pods "{name}" not found', status=404)
        return self.pods[name]

    def _post(self, path: str, body: Any) -> Any:
        if path.endswith("/binding"):
            pod = self._find(path)
            if "nodeName" in pod["spec"]:
                raise Refused("already assigned", status=409)
            pod["spec"]["nodeName"] = body["target"]["name"]
        elif path.endswith("/eviction"):
            self.pods.pop(self._find(path)["name"])
        else:
            name = body["metadata"]["name"]
            if name in self.pods:
                raise Refused(f'pods "{name}" already exists', status=409)
            meta = {**body["metadata"], "uid": f"uid-{len(self.asked)}"}
            self.pods[name] = {"name": name, "metadata": meta, "spec": {}}
            return self.pods[name]
        return {}


@pytest.fixture
def api() -> Fake:
    return Fake()


@pytest.fixture
def does(api: Fake, monkeypatch: pytest.MonkeyPatch) -> Iterator[hand.Hand]:
    monkeypatch.setattr(hand, "_PAUSE", 0.01)
    made = hand.Hand(api, "pkgctl-lab", patience=5.0)  # type: ignore[arg-type]
    yield made
    made.close()


def pod(token: str = "mine") -> dict[str, Any]:
    return {"metadata": {"name": "web-0", "annotations": {TOKEN: token}}, "spec": {}}


def bring(does: hand.Hand, body: dict[str, Any], node: str = "edge-1") -> str:
    over, said = threading.Event(), []

    def failed(error: ClusterError) -> None:
        said.append(str(error))
        over.set()

    does.bring(body, node, lambda _: over.set(), failed)
    assert over.wait(10)
    return "".join(said)


def test_a_pod_is_made_and_bound(api, does):
    assert bring(does, pod()) == ""

    assert api.pods["web-0"]["spec"] == {"nodeName": "edge-1"}
    assert api.asked == ["POST ", "POST /web-0/binding"]


@pytest.mark.parametrize("what", ["POST ", "POST /web-0/binding"])
def test_a_yes_that_was_lost_is_found_and_nothing_is_made_twice(api, does, what):
    api.lost[what] = 2

    assert bring(does, pod()) == ""

    assert list(api.pods) == ["web-0"]
    assert api.pods["web-0"]["spec"] == {"nodeName": "edge-1"}


def test_an_api_that_is_gone_for_a_while_is_waited_for(api, does):
    api.answers["POST "] = [ClusterError("does not answer")] * 3

    assert bring(does, pod()) == ""
    assert api.asked.count("POST ") == 4


def test_once_it_is_closed_nothing_is_asked_again(api, monkeypatch):
    monkeypatch.setattr(hand, "_PAUSE", 60.0)
    api.answers["POST "] = [Refused("too busy", status=503)] * 9
    does = hand.Hand(api, "pkgctl-lab")  # type: ignore[arg-type]
    does.bring(pod(), "edge-1", lambda _: None, lambda _: None)
    while not api.asked:
        time.sleep(0.001)

    does.close()

    assert api.asked.count("POST ") <= 2


def test_a_namespace_whose_account_is_not_made_yet_is_waited_for(api, does):
    no_account = 'error looking up service account: serviceaccount "default" not found'
    api.answers["POST "] = [Refused(no_account, status=403)]

    assert bring(does, pod()) == ""


def test_a_pod_of_somebody_else_is_no_success(api, does):
    assert bring(does, pod("other")) == ""

    assert bring(does, pod("mine")) == 'pods "web-0" already exists'


def test_a_pod_of_the_same_name_that_is_on_its_way_out_is_waited_for(api, does, monkeypatch):
    assert bring(does, pod("other")) == ""
    api.pods["web-0"]["metadata"]["deletionTimestamp"] = "now"
    find, looks = api._find, []

    def found(path: str) -> dict[str, Any]:
        looks.append(path)
        if len(looks) == 3:
            api.pods.clear()
        return find(path)

    monkeypatch.setattr(api, "_find", found)

    assert bring(does, pod("mine")) == ""
    assert api.pods["web-0"]["metadata"]["annotations"][TOKEN] == "mine"


def test_a_pod_that_is_on_another_node_is_no_success(api, does):
    api.answers["POST /web-0/binding"] = [Refused("already assigned", status=409)]
    assert bring(does, pod()) == "already assigned"


def test_what_is_refused_is_not_asked_again(api, does):
    api.answers["POST "] = [Refused("the pod is invalid", status=422)]

    assert bring(does, pod()) == "the pod is invalid"
    assert api.asked.count("POST ") == 1


@pytest.mark.parametrize("what", ["POST ", "POST /web-0/binding"])
@pytest.mark.parametrize("status", [401, 403])
def test_a_server_that_has_just_started_and_knows_nobody_yet_is_waited_for(api, does, what, status):
    api.answers[what] = [Refused("you may not", status=status)] * 3

    assert bring(does, pod()) == ""
    assert api.asked.count(what) == 4


@pytest.mark.parametrize("account", ["mallory", "system:serviceaccount:lab:mallory"])
def test_who_may_not_is_told_in_the_end(api, does, monkeypatch, account):
    monkeypatch.setattr(hand, "Patience", lambda: Patience(0.05))
    refusal = f'pods is forbidden: User "{account}" cannot create resource "pods"'
    api.answers["POST "] = [Refused(refusal, status=403)] * 999

    assert bring(does, pod()) == refusal
    assert api.asked.count("POST ") > 1


@pytest.mark.parametrize(
    ("what", "refusal"),
    [
        ("POST ", Refused("exceeded quota", status=403)),
        ("POST /web-0/binding", Refused("you may not", status=403)),
    ],
    ids=["its own pod fills the quota", "the server starts anew"],
)
def test_a_yes_that_was_lost_is_found_although_a_no_comes_after_it(
    api, does, monkeypatch, what, refusal
):
    act, said = api._post, []

    def post(path: str, body: Any) -> Any:
        if path != PODS + what.removeprefix("POST ").rstrip():
            return act(path, body)
        if said:
            raise refusal
        said.append(act(path, body))
        raise ClusterError("the API server does not answer")

    monkeypatch.setattr(api, "_post", post)

    assert bring(does, pod()) == ""
    assert api.pods["web-0"]["spec"] == {"nodeName": "edge-1"}
    assert api.asked.count(what) == 2


def test_a_server_that_starts_and_does_not_let_us_look_is_asked_again(api, does):
    api.lost["POST /web-0/binding"] = 1
    api.answers["GET /web-0"] = [Refused("you may not", status=403)] * 2

    assert bring(does, pod()) == ""


def test_what_is_gone_already_is_deleted(api, does):
    failures: list[ClusterError] = []

    does.delete("web-0", 0, failures.append)
    does.close()

    assert (api.asked, failures) == (["DELETE /web-0"], [])


def test_what_may_not_be_evicted_is_deleted(api, does):
    assert bring(does, pod()) == ""
    api.answers["POST /web-0/eviction"] = [Refused("disruption budget", status=429)]

    does.evict("web-0", lambda _: None)
    does.close()

    assert api.pods == {} and api.asked[-1] == "DELETE /web-0"
