# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import fcntl
import socket
from pathlib import Path

import pytest

from ansible_collections.pkgctl.testbed.plugins.module_utils import layers, nodereporter
from ansible_collections.pkgctl.testbed.plugins.module_utils.errors import ApiError, NodeError
from ansible_collections.pkgctl.testbed.plugins.module_utils.identity import Disk, Identity
from ansible_collections.pkgctl.testbed.plugins.module_utils.nodereporter import (
    CHECK_SECONDS,
    LONGEST_PAUSE,
    Reporter,
    Said,
    Signs,
    look,
)
from ansible_collections.pkgctl.testbed.plugins.module_utils.nodestatus import (
    MEMORY,
    MILLICORES,
    Having,
)


class World:
    """A node, the API, and a clock, all of them in the test's hand."""

    def __init__(self) -> None:
        self.now = 100.0
        self.having = Having({MILLICORES: "1k"})
        self.node: dict[str, object] = {}
        self.error: Exception | None = None
        self.asked: list[float] = []
        self.patches: list[object] = []
        self.said: list[str] = []
        self.ready = 0
        self.reporter = Reporter(self, lambda: self.having, self._say, self._be_ready)

    def _say(self, theme: str, text: str) -> None:
        if text:
            self.said.append(text)

    def _be_ready(self) -> None:
        self.ready += 1

    def get(self) -> dict[str, object]:
        self.asked.append(self.now)
        if self.error is not None:
            raise self.error
        return self.node

    def patch_status(self, body: dict[str, object]) -> None:
        self.patches.append(body["status"])
        self.node = body

    def goes_on(self, seconds: float, *, changed: bool = False) -> None:
        end = self.now + seconds
        while self.now < end:
            self.reporter.turn(self.now, changed=changed)
            self.now += 0.5


def told(shown: str) -> dict[str, dict[str, str]]:
    return {"capacity": {MILLICORES: shown}, "allocatable": {MILLICORES: shown}}


def test_a_change_is_told_at_the_next_turn_and_nothing_twice():
    world = World()
    world.goes_on(3)
    world.having = Having({MILLICORES: "200"})
    world.reporter.turn(world.now, changed=True)

    assert world.patches == [told("1k"), told("200")]
    assert world.ready == 1
    world.goes_on(CHECK_SECONDS - 1)
    assert len(world.asked) == 2


def test_what_changed_and_changed_back_costs_no_question():
    world = World()
    world.goes_on(9, changed=True)

    assert len(world.asked) == 1


def test_however_fast_a_node_changes_there_is_a_second_between_questions():
    world = World()
    for step in range(40):
        world.having = Having({MILLICORES: str(1 + step)})
        world.reporter.turn(world.now, changed=True)
        world.now += 0.1
    world.goes_on(2)

    assert len(world.asked) <= 6
    assert min(b - a for a, b in zip(world.asked, world.asked[1:], strict=False)) >= 1.0
    assert world.patches[-1] == told("40")


def test_what_the_api_forgot_is_told_again():
    world = World()
    world.goes_on(1)
    world.node = {"metadata": {"uid": "another"}}
    world.goes_on(CHECK_SECONDS + 1)

    assert world.patches == [told("1k"), told("1k")]


def test_an_api_that_is_away_is_asked_less_and_less_often_and_told_the_latest():
    world = World()
    world.error = ApiError("the API does not answer: Connection refused")
    world.goes_on(120)
    pauses = [b - a for a, b in zip(world.asked, world.asked[1:], strict=False)]

    assert pauses == sorted(pauses)
    assert (pauses[0], pauses[-1]) == (1.0, LONGEST_PAUSE)
    assert set(world.said) == {"the API does not answer: Connection refused"}
    world.having, world.error = Having({MILLICORES: "300"}), None
    world.goes_on(LONGEST_PAUSE + 1)
    assert world.patches == [told("300")]
    assert world.ready == 1


def test_a_change_is_not_held_back_because_the_api_was_away():
    world = World()
    world.error = NodeError("no kubeconfig")
    world.goes_on(60)
    world.error = None
    world.reporter.turn(world.now + 1, changed=True)

    assert world.patches == [told("1k")]


def test_the_same_trouble_is_said_once(capsys):
    say = Said()
    for text in ("gone", "gone", "", "gone", "other"):
        say("api", text)
    say("disks", "other")

    assert capsys.readouterr().err.split() == ["gone", "gone", "other", "other"]


# What there is.


@pytest.fixture
def node(tmp_path: Path) -> Identity:
    found = Identity(
        name="edge-1",
        testbed="t",
        interface="eth0",
        address="10.77.0.2",
        network="10.77.0.0/16",
        peers={},
        access=None,
        cgroup="t/edge-1",
        cpu=1.0,
        memory=1 << 28,
        pids=100,
        disks={"data": Disk(str(tmp_path / "data.img"), str(tmp_path / "data"), 1 << 20)},
        directory=str(tmp_path),
    )
    found.save()
    return found


def test_a_node_has_what_its_layers_left_it_and_its_disks_as_they_are(node, tmp_path):
    layers.save(tmp_path / "quota.json", {"base": {"cpu": 1.0}, "low": {"cpu": 0.2}})
    said = []

    found = look(tmp_path, lambda *each: said.append(each))

    assert found.resources == {MILLICORES: "200", MEMORY: str(1 << 28)}
    assert (found.disks.status, found.disks.reason) == ("True", "DiskUnmounted")
    assert said == [("capacity", ""), ("disks", "")]
    layers.save(tmp_path / "disk.json", {"gone": {"data": {"condition": "detached"}}})
    assert look(tmp_path, lambda *_: None).disks.reason == "DiskDetached"


@pytest.mark.parametrize(
    "text", ["", "[]", "{", '{"base": 5}', '{"base": {"cpu": "many"}}', "\xff"]
)
def test_a_store_that_cannot_be_read_hides_no_other(node, tmp_path, text):
    (tmp_path / "quota.json").write_text(text)
    said = []

    found = look(tmp_path, lambda *each: said.append(each))

    assert found.resources == {}
    assert found.disks is not None
    assert [theme for theme, text in said if text] == ["capacity"]


def test_a_machine_that_is_no_node_has_nothing(tmp_path):
    with pytest.raises(NodeError, match="not a node"):
        look(tmp_path, lambda *_: None)


# Whether it changed.


def test_a_change_is_seen_once_and_when_it_is_done(tmp_path):
    signs = Signs(tmp_path)
    assert not signs.changed()

    with layers.locked(tmp_path / "quota.json"):
        layers.save(tmp_path / "quota.json", {"base": {"cpu": 1}})
        assert [signs.changed(), signs.changed()] == [False, False]
    assert [signs.changed(), signs.changed()] == [True, False]

    layers.save(tmp_path / "disk.json", {"base": {}})
    assert [signs.changed(), signs.changed()] == [True, False]
    layers.save(tmp_path / "disk.json", {})
    assert [signs.changed(), signs.changed()] == [True, False]


def test_looking_keeps_nobody_from_changing(tmp_path):
    signs = Signs(tmp_path)
    with layers.locked(tmp_path / "quota.json"):
        pass
    layers.save(tmp_path / "quota.json", {"base": {"cpu": 1}})
    assert signs.changed()

    with (tmp_path / "quota.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_a_service_that_is_ready_says_so(tmp_path, monkeypatch):
    place = tmp_path / "told.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as heard:
        heard.bind(str(place))
        monkeypatch.setenv("NOTIFY_SOCKET", str(place))
        nodereporter.notify()
        assert heard.recv(64) == b"READY=1"
    nodereporter.notify()
    monkeypatch.delenv("NOTIFY_SOCKET")
    nodereporter.notify()
