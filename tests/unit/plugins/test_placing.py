# SPDX-License-Identifier: GPL-3.0-or-later
"""Actions on virtual machines: health here, all else by the module, each in its turn."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest
from ansible.errors import AnsibleConnectionFailure

from ansible_collections.pkgctl.testbed.plugins.action import (
    drift,
    health,
    layer,
    link,
    measure,
    quota,
)
from ansible_collections.pkgctl.testbed.plugins.module_utils import domains, watchman
from ansible_collections.pkgctl.testbed.plugins.plugin_utils import machines, packing, records

from .recorded import record
from .virsh import Virsh

NAME, DOMAIN = "edge-1", "pkgctl.lab.edge-1"
LINK = {"egress": {"cloud-1": {"rate": "5mbit"}}}
DONE = {"changed": True, "actions": ["done there"], "diff": [{"after_header": "link"}]}


class Far:
    """A virtual machine's folder here, its domain, and what was done by its modules."""

    def __init__(self, folder: Path, virsh: Virsh) -> None:
        self.folder, self.virsh = folder, virsh
        self.told: list[tuple[str, Any]] = []
        self.answer: dict[str, Any] = dict(DONE)
        self.answers_after = 0
        self.is_reachable = True
        self.patience = 5.0
        self.has_code = False

    @property
    def store(self) -> dict[str, Any]:
        path = self.folder / "nodes" / NAME / "health.json"
        return json.loads(path.read_text()) if path.exists() else {}

    def do(self, action: Any, /, check: bool = False, **arguments: Any) -> dict[str, Any]:
        """Run an action of a task on the machine."""
        task = SimpleNamespace(
            args=arguments,
            check_mode=check,
            async_val=0,
            diff=False,
            environment=None,
            run_once=False,
            action="pkgctl.testbed.layer",
            collections=[],
        )
        connection = mock.MagicMock(spec=["become", "reset", "_shell", "get_option"])
        connection.become, connection._shell.tmpdir = None, "/none"
        connection.reset.side_effect = lambda: self.told.append(("hang up", None))
        made = action.ActionModule(task, connection, mock.MagicMock(), None, None, None)
        made._execute_module = self._module
        made._low_level_execute_command = self._command
        variables = records.variables(record(), NAME, self.folder)
        return made.run(task_vars={**variables, machines.PATIENCE_VARIABLE: self.patience})

    def _module(self, module_args: Any = None, task_vars: Any = None) -> dict[str, Any]:
        if not self.is_reachable:
            raise AnsibleConnectionFailure("Failed to connect:\nssh: No route to host")
        self.told.append(("module", module_args))
        return dict(self.answer)

    def _command(self, command: str, sudoable: bool = True, in_data: Any = None) -> dict[str, Any]:
        if in_data is not None:
            return self._installed(json.loads(in_data))
        self.told.append(("ready?", None))
        self.answers_after -= 1
        if self.answers_after >= 0:
            raise AnsibleConnectionFailure("ssh: connect to host: Connection refused")
        return {"rc": 0, "stdout": "", "stderr": ""}

    def _installed(self, given: dict[str, Any]) -> dict[str, Any]:
        if not self.is_reachable:
            raise AnsibleConnectionFailure("Failed to connect:\nssh: No route to host")
        if not self.has_code:
            return {"rc": 0, "stdout": '{"ok":false,"error":"other code"}\n', "stderr": ""}
        assert given["digest"] == packing.pack().digest
        options = {name: value for name, value in given["options"].items() if value is not None}
        self.told.append((given["module"], options))
        told = f'a banner\n{{"ok":true}}\n{json.dumps({"report": self.answer})}\n'
        return {"rc": 0, "stdout": told, "stderr": ""}


@pytest.fixture
def far(tmp_path, monkeypatch):
    monkeypatch.setattr(domains, "_PAUSE", 0.01)
    monkeypatch.setattr(machines, "_PAUSE", 0.01)
    virsh = Virsh(tmp_path, monkeypatch)
    virsh.define(DOMAIN)
    with tempfile.TemporaryDirectory() as folder:
        bed = Path(folder, "lab")
        bed.mkdir()
        (bed / "state.json").write_text(json.dumps(record()))
        yield Far(bed, virsh)
        watchman.dismiss(bed)


# Setting.


def test_all_else_is_set_first_and_health_last(far):
    report = far.do(layer, layer="boom", link=LINK, health={"health": "crashed"})

    (_, arguments), *rest = far.told
    assert (arguments["layer"], arguments["link"]["egress"]) == ("boom", LINK["egress"])
    assert "health" not in arguments
    assert rest == [("hang up", None)]
    assert report["changed"] and report["actions"] == ["done there", "switch off"]
    assert [part["after_header"] for part in report["diff"]] == ["link", "health"]
    assert far.virsh.state(DOMAIN) == "shut off"
    assert far.store == {"boom": {"health": "crashed"}}


def test_health_alone_needs_no_machine_that_answers(far):
    far.is_reachable = False

    assert far.do(health, layer="boom", health="crashed")["changed"]
    assert not far.do(health, layer="boom", health="crashed")["changed"]
    assert far.do(layer, layer="nap", health={"health": "paused"})["changed"]

    assert [what for what, _ in far.told if what != "hang up"] == []


def test_what_fails_on_the_machine_leaves_its_health_alone(far):
    far.answer = {"failed": True, "msg": "rate: wrong"}

    report = far.do(layer, layer="boom", link=LINK, health={"health": "crashed"})

    assert (report["failed"], report["msg"]) == (True, "rate: wrong")
    assert far.virsh.calls() == [] and far.store == {}


@pytest.mark.parametrize("action", [layer, link, quota])
def test_a_machine_that_is_down_can_be_told_nothing_else(far, action):
    far.do(health, layer="boom", health="crashed")
    given = {"link": LINK} if action is layer else LINK if action is link else {"cpu": "0.2"}

    report = far.do(action, layer="slow", **given)

    assert (report["failed"], report["msg"]) == (True, "node edge-1 is crashed")
    assert "module" not in [what for what, _ in far.told]


def test_measuring_is_refused_on_a_machine_that_is_down(far):
    far.do(health, layer="boom", health="paused")

    assert far.do(measure, state="listening")["msg"] == "node edge-1 is paused"


def test_a_dry_run_changes_nothing_here_and_runs_dry_there(far):
    report = far.do(layer, check=True, layer="boom", link=LINK, health={"health": "stopped"})

    assert report["actions"] == ["done there", "shut down"]
    assert far.virsh.calls() == [] and far.store == {}
    assert not (far.folder / "nodes" / NAME / "carried.json").exists()


def test_wrong_options_are_refused_before_anything_is_done(far):
    with pytest.raises(Exception, match="value of health must be one of"):
        far.do(health, health="tired")

    report = far.do(health, health="paused", timeline="storm", start="soon")
    assert report["failed"] and report["msg"].startswith("start: ")
    assert far.virsh.calls() == []


# Taking away.


def test_health_is_taken_away_first_and_all_else_when_the_machine_answers(far):
    far.do(layer, layer="boom", link=LINK, health={"health": "crashed"})
    far.told.clear()
    far.answers_after = 2

    report = far.do(layer, layer="boom", state="absent")

    assert [what for what, _ in far.told] == ["hang up", *["ready?"] * 3, "module"]
    assert report["actions"] == ["start", "done there"]
    assert far.virsh.state(DOMAIN) == "running"
    assert far.store == {}
    assert not (far.folder / "nodes" / NAME / "carried.json").exists()


def test_a_machine_that_runs_is_not_waited_for(far):
    report = far.do(layer, layer="*", state="absent")

    assert [what for what, _ in far.told] == ["module"]
    assert report["actions"] == ["done there"]


def test_a_machine_that_does_not_come_back_is_told_with_sshs_words(far):
    far.do(health, layer="boom", health="crashed")
    far.answers_after = 10**6
    far.patience = 0.1

    report = far.do(layer, layer="*", state="absent")

    assert report["msg"] == (
        "node edge-1 was started, and is not ready after 0.1 s:"
        " ssh: connect to host: Connection refused"
    )


def test_of_a_machine_that_stays_down_only_what_it_may_carry_is_missed(far):
    far.do(layer, layer="slow", link=LINK)
    far.do(health, layer="nap", health="paused")
    far.do(health, layer="boom", health="crashed")
    far.told.clear()

    report = far.do(layer, layer="boom", state="absent")
    assert (report.get("failed"), report["actions"]) == (None, ["start paused"])

    report = far.do(layer, layer="slow", state="absent")
    assert report["failed"] and report["msg"] == (
        "node edge-1 is paused: what else it has of layer slow can go when it runs"
    )
    assert far.do(quota, layer="slow", state="absent").get("failed") is None
    assert far.told == []


def test_a_dry_run_of_healing_tells_what_can_be_told_of_a_machine_that_is_off(far):
    far.do(layer, layer="boom", link=LINK, health={"health": "crashed"})
    far.told.clear()

    report = far.do(layer, check=True, layer="*", state="absent")

    assert report["changed"]
    assert report["actions"] == ["start", "take away what else it carries"]
    assert far.told == [] and far.virsh.state(DOMAIN) == "shut off"


def test_a_machine_that_somebody_switched_off_is_told_as_such(far):
    far.virsh.define(DOMAIN, "shut off")
    far.is_reachable = False

    with pytest.raises(AnsibleConnectionFailure) as caught:
        far.do(link, layer="slow", **LINK)

    assert str(caught.value) == (
        "node edge-1 does not answer: its domain is off; heal it to have it started"
    )


def test_a_machine_that_runs_and_is_silent_is_told_with_sshs_words(far):
    far.is_reachable = False

    with pytest.raises(AnsibleConnectionFailure) as caught:
        far.do(link, layer="slow", **LINK)

    assert str(caught.value) == "node edge-1 does not answer by SSH: ssh: No route to host"


def test_a_machines_agent_does_the_work_and_no_module_is_sent(far):
    far.has_code = True

    report = far.do(layer, layer="slow", link=LINK)
    assert report["actions"] == ["done there"]
    far.do(layer, layer="slow", state="absent")

    assert [what for what, _ in far.told] == ["layer", "layer"]
    assert far.told[0][1]["link"] == {**LINK, "ingress": None}


# What comes later.


def test_health_is_armed_with_the_watchman_and_all_else_with_the_machines_own_agent(far):
    times = {"timeline": "storm", "start": "1s", "duration": "5s"}

    report = far.do(layer, layer="boom", link=LINK, health={"health": "crashed"}, **times)

    assert report["actions"] == ["done there", "arm boom (health) on storm"]
    ((_, arguments),) = far.told
    assert {key: arguments[key] for key in times} == times
    assert "link" in arguments and "health" not in arguments
    again = far.do(layer, layer="boom", health={"health": "crashed"}, **times)
    assert not again["changed"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"health": {"health": "paused"}, "when": "requests > 100"},
            "when: 'requests > 100' is seen on virtual machines alone",
        ),
        (
            {"health": {"health": "paused"}, "when": "job web ready"},
            "when: 'job web ready' is seen on virtual machines alone",
        ),
        (
            {"link": LINK, "when": "node cloud-1 down"},
            "when: 'node cloud-1 down' is not seen from inside edge-1",
        ),
    ],
)
def test_what_nobody_there_can_see_is_not_waited_for(far, given, message):
    report = far.do(layer, layer="late", timeline="storm", **given)

    assert report["failed"] and report["msg"].startswith(message)
    assert far.told == []


# Drift.


def looked() -> dict[str, Any]:
    links = {"egress": {}, "ingress": {"cloud-1": {"rate": 1}}}
    return {
        "changed": False,
        "drift": [],
        "in_force": {"health": "running", "access": None, "links": links},
    }


def test_drift_is_looked_for_here_and_there(far):
    far.answer = looked()

    assert far.do(drift)["drift"] == []
    _, arguments = far.told[0]
    assert arguments["fail"] is False
    assert arguments["base"]["ingress"].keys() == {"cloud-1"}

    far.answer["drift"] = ["link: lacks 'x'"]
    report = far.do(drift)
    assert (report["failed"], report["msg"]) == (True, "drift: link: lacks 'x'")
    assert not far.do(drift, fail=False).get("failed")


def test_a_machine_that_is_down_as_asked_has_not_drifted(far):
    far.do(health, layer="boom", health="crashed")
    far.told.clear()

    report = far.do(drift)

    assert report["drift"] == [] and report["in_force"]["health"] == "crashed"
    assert report["in_force"]["links"]["ingress"].keys() == {"cloud-1"}
    assert far.told == []


def test_a_machine_that_is_off_without_being_asked_to_has_drifted(far):
    far.virsh.define(DOMAIN, "shut off")

    assert far.do(drift)["msg"] == "drift: health: needs: start"
