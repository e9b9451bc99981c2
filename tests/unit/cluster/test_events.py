# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import re
import threading
import time
from typing import Any

import pytest

from pkgctl.cluster import events, pods
from pkgctl.cluster.events import Recorder
from pkgctl.errors import ClusterError
from tests.unit.cluster.objects import raw_pod


class Sent:
    """Takes Events, as fast as a gate lets it."""

    def __init__(self) -> None:
        self.bodies: list[dict[str, Any]] = []
        self.gate = threading.Event()
        self.gate.set()
        self.came = threading.Event()
        self.broken = False

    def post(self, _path: str, body: dict[str, Any], **_: Any) -> None:
        self.came.set()
        self.gate.wait(10)
        if self.broken:
            raise ClusterError("no answer")
        self.bodies.append(body)


def pod(name: str = "p"):
    return pods.read(raw_pod(name))


@pytest.fixture
def sent():
    return Sent()


def recorder(sent: Sent, busy: bool = False) -> Recorder:
    return Recorder(sent, "pkgctl", "me", lambda: busy)  # type: ignore[arg-type]


def test_an_event_says_what_happened_to_which_pod_and_who_says_so(sent):
    made = recorder(sent)
    made.scheduled(pod(), "n1")
    made.close(10)

    (body,) = sent.bodies
    assert (body["reason"], body["type"], body["action"]) == ("Scheduled", "Normal", "Binding")
    assert body["note"] == "Successfully assigned default/p to n1"
    assert body["regarding"]["uid"] == "uid-p"
    assert (body["reportingController"], body["reportingInstance"]) == ("pkgctl", "me")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", body["eventTime"])


def test_names_and_notes_are_cut_to_what_the_api_takes(sent):
    made = recorder(sent)
    made.failed(pod("a" * 199 + "." + "b" * 50), "x" * 5000)
    made.close(10)

    (body,) = sent.bodies
    assert len(body["metadata"]["name"]) <= 253
    assert re.fullmatch(r"a{199}\.[0-9a-f]+", body["metadata"]["name"])
    assert len(body["note"]) == events.LONGEST_NOTE


def test_of_several_reasons_for_one_pod_the_latest_is_sent(sent):
    sent.gate.clear()
    made = recorder(sent)
    made.scheduled(pod("first"), "n")
    assert sent.came.wait(10)  # it is being sent, and all others wait
    for number in range(50):
        made.failed(pod("p"), f"reason {number}")
    made.failed(pod("q"), "another")

    sent.gate.set()
    made.close(10)

    assert [body["note"] for body in sent.bodies[1:]] == ["reason 49", "another"]


def test_no_more_than_so_many_a_second_are_sent_while_pods_are_bound(sent):
    made, begun = recorder(sent, busy=True), time.monotonic()
    for number in range(30):
        made.scheduled(pod(f"p{number}"), "n")
    while len(sent.bodies) < 30:
        time.sleep(0.005)
    spent = time.monotonic() - begun
    made.close(10)

    assert spent >= 29 / events.BUSY_RATE


def test_an_api_that_does_not_take_them_holds_up_nothing(sent):
    sent.broken = True
    made = recorder(sent)
    made.scheduled(pod(), "n")
    made.scheduled(pod("q"), "n")
    made.close(10)

    assert made.dropped == 2 and sent.bodies == []


def test_the_oldest_go_when_there_are_too_many(sent, monkeypatch):
    monkeypatch.setattr(events, "MOST", 3)
    sent.gate.clear()
    made = recorder(sent)
    made.scheduled(pod("first"), "n")
    assert sent.came.wait(10)
    for number in range(5):
        made.scheduled(pod(f"p{number}"), "n")

    sent.gate.set()
    made.close(10)

    assert [body["regarding"]["name"] for body in sent.bodies] == ["first", "p2", "p3", "p4"]
    assert made.dropped == 2
