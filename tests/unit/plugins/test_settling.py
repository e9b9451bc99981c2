# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from ansible_collections.pkgctl.testbed.plugins.module_utils import (
    channel,
    daemon,
    identity,
    kinds,
    layers,
    services,
    settling,
)
from ansible_collections.pkgctl.testbed.plugins.module_utils.change import Change
from ansible_collections.pkgctl.testbed.plugins.module_utils.errors import (
    AgentError,
    CapabilityError,
    DisturbanceError,
    KernelError,
    NodeError,
)

from .test_enrolment import GIVEN, SLOW

SLOWER = {**SLOW, "delay": 0.08}


class Machine:
    """A machine whose kernel takes what it is told: what is in force is what it was brought to."""

    def __init__(self, folder, monkeypatch):
        self.home = folder / "run"
        self.home.mkdir()
        self.hosts = folder / "hosts"
        self.hosts.write_text("127.0.0.1 localhost\n")
        self.in_force: dict[str, object] = {}
        self.prepared, self.netem, self.answers = True, True, False
        self.cabled = False
        self.refused: set[str] = set()
        self.told: list[tuple[str, ...]] = []
        group = SimpleNamespace(exists=lambda: self.prepared, create=self.create)
        for target, name, new in (
            (identity, "DIRECTORY", str(self.home)),
            (settling, "HOSTS", str(self.hosts)),
            (settling, "has_netem", lambda: self.netem),
            (settling, "group", lambda _: group),
            (settling.Kernel, "here", lambda name: SimpleNamespace(__exit__=lambda: None)),
            (settling, "answers", lambda _: self.answers),
            (settling.cabling, "bring", self.cable),
            (services, "systemctl", self.systemctl),
            (kinds, "converge", self.converge),
            (kinds, "set_layer", self.set_layer),
        ):
            monkeypatch.setattr(target, name, new)

    def create(self):
        self.prepared = True

    def cable(self, node, *, dry_run=False):
        wanted = node.needs_switch
        todo = ["cable" if wanted else "uncable"] * (wanted != self.cabled)
        if not dry_run:
            self.cabled = wanted
        return todo

    def systemctl(self, *words):
        self.told.append(words)
        self.answers = words[0] == "restart"
        return ""

    def converge(self, node, kind, *, dry_run=False):
        if kind in self.refused and not dry_run:
            raise KernelError(f"bring {kind}", 22)
        asked = layers.load(self.home / kinds.store(kind))
        now = self.in_force.get(kind, {})
        if not dry_run:
            self.in_force[kind] = asked
        todo = [f"bring {kind}"] if now != asked else []
        return Change(bool(todo), str(now), str(asked), todo)

    def set_layer(self, node, kind, layer, body, *, force=False, dry_run=False):
        assert dry_run
        if kind in self.refused:
            raise KernelError(f"try {kind}", 22)
        return Change(True, "", str(body), [f"set {layer} of {kind}"])

    def settle(self, *, dry_run=False, agent=True, impairment="auto", limits=None, **changes):
        links = changes.pop("links", {"egress": {"cloud-1": SLOW}, "ingress": {}})
        options = {
            "identity": {**GIVEN, **changes},
            "links": links,
            "limits": limits,
            "impairment": impairment,
            "agent": agent,
        }
        return settling.settle(options, dry_run=dry_run)

    def picture(self):
        found = {}
        for path in sorted([self.hosts, *self.home.rglob("*")]):
            if path.suffix == ".lock":
                continue
            link = str(path.readlink()) if path.is_symlink() else None
            found[str(path)] = link or (path.read_text() if path.is_file() else None)
        return found


@pytest.fixture
def machine(tmp_path, monkeypatch):
    return Machine(tmp_path, monkeypatch)


def test_a_machine_becomes_a_node_and_the_second_time_nothing_is_done(machine):
    report = machine.settle()

    assert report["changed"]
    assert report["impairment"] == "netem"
    node = identity.load(machine.home / "node.json")
    assert (node.name, node.impairment) == ("edge-1", "netem")
    assert layers.load(machine.home / "links.json") == {
        "base": {"egress": {"cloud-1": SLOW}, "ingress": {}}
    }
    assert layers.load(machine.home / "quota.json")["base"]["cpu"] == 2
    assert layers.load(machine.home / "disk.json") == {"base": {}}
    assert "10.77.0.3 edge-2" in machine.hosts.read_text()
    assert machine.told == [("restart", services.AGENT)]
    before = machine.picture()

    again = machine.settle()

    assert (again["changed"], again["actions"], again["diff"]) == (False, [], [])
    assert machine.picture() == before
    assert len(machine.told) == 1


def test_to_its_agent_it_looks_like_a_testbed_of_one_node(machine):
    machine.settle()

    assert json.loads((machine.home / "state.json").read_text()) == {"nodes": {"edge-1": {}}}
    inner = identity.load(machine.home / "nodes" / "edge-1" / "node.json")
    assert inner.name == "edge-1"
    assert Path(inner.directory).samefile(machine.home)
    pins = machine.home / "ns" / "edge-1"
    assert {path.name: str(path.readlink()) for path in pins.iterdir()} == {
        kind: f"/proc/1/ns/{kind}" for kind in ("net", "uts", "ipc", "mnt")
    }
    assert daemon.is_service(machine.home)


def test_check_mode_says_what_would_be_done_and_does_nothing(machine):
    before = machine.picture()

    foreseen = machine.settle(dry_run=True)

    assert machine.picture() == before
    assert machine.told == []
    assert foreseen["changed"]
    assert "describe the node" in foreseen["actions"]
    assert machine.settle()["actions"] == foreseen["actions"]


def test_a_machine_that_was_not_prepared_is_refused_but_can_be_looked_at(machine):
    machine.home.rmdir()

    assert machine.settle(dry_run=True)["changed"]
    with pytest.raises(NodeError, match="prepare the machine first, as the role base does"):
        machine.settle()


@pytest.mark.parametrize(
    "changes",
    [
        {"cpu": -1},
        {"colour": "red"},
        {"links": {"egress": {"moon-1": SLOW}}},
        {"links": {"egress": {"cloud-1": {"rate": "5mbit"}}}},
        {"limits": {"mem": 5}},
    ],
)
def test_bad_input_changes_nothing(machine, changes):
    machine.settle()
    before = machine.picture()

    with pytest.raises((DisturbanceError, ValueError)):
        machine.settle(**changes)

    assert machine.picture() == before


@pytest.mark.parametrize("kind", ["link", "quota", "disk"])
@pytest.mark.parametrize("is_first", [True, False])
def test_what_the_kernel_refuses_is_taken_back(machine, kind, is_first):
    if not is_first:
        machine.settle()
    stores = ("node.json", "links.json", "quota.json", "disk.json", "state.json")
    before = {name: machine.picture().get(str(machine.home / name)) for name in stores}
    machine.refused.add(kind)
    machine.prepared = not is_first

    with pytest.raises(KernelError):
        machine.settle(cpu=1, links={"egress": {"cloud-1": SLOWER}})

    assert {name: machine.picture().get(str(machine.home / name)) for name in stores} == before
    assert ("cloud-1" in machine.hosts.read_text()) is not is_first


def test_a_new_base_leaves_the_other_layers_where_they_are(machine):
    machine.settle()
    path = machine.home / "quota.json"
    layers.save(path, {**layers.load(path), "slow": {"cpu": 0.1}})

    machine.settle(cpu=1)

    assert layers.load(path)["slow"] == {"cpu": 0.1}
    assert layers.load(path)["base"]["cpu"] == 1
    assert list(layers.load(path)) == ["base", "slow"]


def test_a_node_of_another_name_takes_the_place_of_the_one_before(machine):
    machine.settle()

    machine.settle(name="edge-9")

    assert [path.name for path in (machine.home / "nodes").iterdir()] == ["edge-9"]
    assert machine.told == [("restart", services.AGENT)] * 2


def test_drift_alone_is_a_change(machine):
    machine.settle()
    machine.in_force["link"] = {}

    assert machine.settle()["actions"] == ["bring link"]
    assert not machine.settle()["changed"]


@pytest.mark.parametrize("cause", ["it is gone", "its code is old", "it delays otherwise"])
def test_the_agent_is_started_again_if_there_is_a_reason(machine, cause):
    machine.settle()
    machine.told.clear()
    machine.answers = cause != "it is gone"
    if cause == "its code is old":
        (machine.home / services.OUTDATED).touch()

    report = machine.settle(impairment="delay line" if "otherwise" in cause else "auto")

    assert machine.told == [("restart", services.AGENT)]
    assert f"start {services.AGENT}" in report["actions"]
    assert not (machine.home / services.OUTDATED).exists()


def test_an_access_that_bounds_what_arrives_is_cabled_and_the_agent_looks_there(machine):
    machine.settle()
    machine.told.clear()

    report = machine.settle(access_down=5_000_000)

    assert report["actions"][:3] == ["describe the node", "cable", f"start {services.AGENT}"]
    assert machine.told == [("restart", services.AGENT)]
    assert not machine.settle(access_down=5_000_000)["changed"]
    assert machine.settle(access_down=6_000_000)["actions"] == ["describe the node"]
    assert machine.settle()["actions"][1:3] == ["uncable", f"start {services.AGENT}"]


def test_a_delay_line_that_is_not_there_yet_is_not_asked_what_it_does(machine, monkeypatch):
    machine.settle()
    machine.answers = False
    converge = machine.converge

    def ask(node, kind, *, dry_run=False):
        if kind == "link" and not machine.answers:
            raise AgentError("nobody answers")
        return converge(node, kind, dry_run=dry_run)

    monkeypatch.setattr(kinds, "converge", ask)

    assert f"start {services.AGENT}" in machine.settle()["actions"]
    assert not machine.settle()["changed"]


def test_without_an_agent_none_is_started(machine):
    assert machine.settle(agent=False)["changed"]
    assert machine.told == []


@pytest.mark.parametrize(
    ("asked", "there", "found"),
    [
        ("auto", True, "netem"),
        ("auto", False, "delay line"),
        ("netem", True, "netem"),
        ("delay line", True, "delay line"),
        ("delay line", False, "delay line"),
    ],
)
def test_the_impairment_is_what_is_asked_or_what_there_is(machine, asked, there, found):
    machine.netem = there

    assert machine.settle(impairment=asked)["impairment"] == found


def test_netem_that_is_asked_and_not_there_is_named(machine):
    machine.netem = False

    with pytest.raises(CapabilityError, match="no netem"):
        machine.settle(impairment="netem")


def test_an_agent_that_never_answers_is_told(machine, monkeypatch):
    monkeypatch.setattr(settling, "_PATIENCE", 0.0)
    monkeypatch.setattr(services, "systemctl", lambda *_: "")

    with pytest.raises(AgentError, match=r"pkgctl-agent.* does not answer"):
        machine.settle()

    assert not (machine.home / "node.json").exists()


def test_whether_an_agent_answers_is_asked_at_its_socket(tmp_path):
    assert not settling.answers(tmp_path / channel.AGENT)
