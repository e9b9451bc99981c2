# SPDX-License-Identifier: GPL-3.0-or-later
"""The module unit: what it does to whoever keeps units, and what it asks of systemd."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.pkgctl.testbed.plugins.module_utils import (
    identity,
    services,
    supervision,
    upkeep,
)
from ansible_collections.pkgctl.testbed.plugins.module_utils.errors import (
    DisturbanceError,
    NodeError,
)
from ansible_collections.pkgctl.testbed.plugins.module_utils.upkeep import Now

from .agents import Agent, node

STATES = ("started", "restarted", "stopped", "absent")
NEW, IDLE = Now(), Now(there=True, differs=False)
UP = Now(there=True, differs=False, wanted=True, live=True, ready=True)


def options(**changes: Any) -> dict[str, Any]:
    defaults = {key: each.get("default") for key, each in upkeep.UNIT["argument_spec"].items()}
    return {**defaults, "name": "web", "command": ["/bin/web"], **changes}


@pytest.mark.parametrize(
    ("now", "state", "wanted"),
    [
        (NEW, "started", ["declare", "start"]),
        (NEW, "restarted", ["declare", "start"]),
        (NEW, "stopped", ["declare"]),
        (NEW, "absent", []),
        (IDLE, "started", ["start"]),
        (IDLE, "stopped", []),
        (IDLE, "absent", ["remove"]),
        (UP, "started", []),
        (UP, "restarted", ["restart"]),
        (UP, "stopped", ["stop"]),
        (UP, "absent", ["remove"]),
    ],
)
def test_the_steps_to_a_state(now, state, wanted):
    assert upkeep.steps(now, state, has_unit=True) == wanted


def test_what_runs_is_started_anew_only_if_it_is_another():
    other = Now(there=True, differs=True, wanted=True, live=True)
    stale = Now(there=True, differs=False, wanted=True, live=True, stale=True)

    assert upkeep.steps(other, "started", has_unit=True) == ["declare", "restart"]
    assert upkeep.steps(stale, "started", has_unit=True) == ["restart"]
    assert upkeep.steps(other, "stopped", has_unit=False) == ["stop"]


FLAGS = st.booleans()
FOUND = st.builds(
    Now, there=FLAGS, differs=FLAGS, wanted=FLAGS, live=FLAGS, ready=FLAGS, stale=FLAGS
)


@given(FOUND, st.sampled_from(["started", "stopped", "absent"]))
def test_a_second_run_has_nothing_to_do(now, state):
    after = now
    for step in upkeep.steps(now, state, has_unit=True):
        after = _effect(after, step)

    assert upkeep.steps(after, state, has_unit=True) == []


def _effect(now: Now, step: str) -> Now:
    effects = {
        "declare": {"there": True, "differs": False},
        "start": {"wanted": True, "live": True, "stale": False},
        "restart": {"wanted": True, "live": True, "stale": False},
        "stop": {"wanted": False, "live": False},
        "remove": {"there": False, "wanted": False, "live": False},
    }
    known = {key: getattr(now, key) for key in Now.__slots__}
    return Now(**{**known, **effects[step]})


class Keeper:
    """A keeper of one unit that does as it is told, or does not."""

    def __init__(self) -> None:
        self.now, self.done = NEW, []
        self.unit: supervision.Unit | None = None
        self.is_ready = True

    def look(self, unit):
        known = {key: getattr(self.now, key) for key in Now.__slots__}
        shown = supervision.shown(self.unit) if self.unit else ""
        return Now(**{**known, "differs": unit != self.unit, "shown": shown})

    def declare(self, unit):
        self.unit = unit
        self._do("declare")

    def start(self):
        self._do("start")

    def restart(self):
        self._do("restart")

    def stop(self):
        self._do("stop")

    def remove(self):
        self.unit = None
        self._do("remove")

    def log(self):
        return ["one", "two"]

    def _do(self, step):
        self.done.append(step)
        known = _effect(self.now, step)
        ready = known.live and self.is_ready
        values = {key: getattr(known, key) for key in Now.__slots__}
        self.now = Now(**{**values, "ready": ready})


@pytest.fixture
def keeper(monkeypatch):
    made = Keeper()
    monkeypatch.setattr(upkeep, "_keeper", lambda _: made)
    monkeypatch.setattr(upkeep, "_PAUSE", 0.001)
    return made


def test_a_life_of_a_unit(keeper):
    foreseen = upkeep.keep(options(), dry_run=True)
    assert keeper.done == []
    created = upkeep.keep(options(wait=1.0))

    assert foreseen == created
    assert created["actions"] == ["declare web", "start web"]
    (diff,) = created["diff"]
    assert diff["before"] == "" and "ExecStart=/bin/web\n" in diff["after"]
    assert upkeep.keep(options()) == {"changed": False, "actions": [], "diff": []}
    changed = upkeep.keep(options(fingerprint="x"))
    assert changed["actions"] == ["declare web", "restart web"]
    assert "# fingerprint: x" in changed["diff"][0]["after"]
    assert not upkeep.keep(options(fingerprint="x"))["changed"]
    assert upkeep.keep(options(state="stopped", command=None))["actions"] == ["stop web"]
    removed = upkeep.keep(options(state="absent", command=None))
    assert removed["actions"] == ["remove web"] and removed["diff"][0]["after"] == ""
    assert not upkeep.keep(options(state="absent", command=None))["changed"]


def test_no_value_of_a_variable_is_in_the_report(keeper):
    report = upkeep.keep(options(environment={"TOKEN": "hush"}))

    assert "hush" not in json.dumps(report) and "TOKEN=" in json.dumps(report)


def test_a_unit_that_is_not_ready_in_time_is_an_error_with_its_log(keeper):
    keeper.is_ready = False

    with pytest.raises(DisturbanceError) as caught:
        upkeep.keep(options(wait=0.01))

    assert str(caught.value) == (
        "unit web is not ready after 0.01 s; the end of its log:\n  one\n  two"
    )
    assert not upkeep.keep(options())["changed"]


def test_a_unit_that_does_not_end_is_an_error(keeper, monkeypatch):
    monkeypatch.setattr(upkeep, "_PATIENCE", 0.01)
    upkeep.keep(options())
    monkeypatch.setattr(keeper, "stop", lambda: None)
    monkeypatch.setattr(keeper, "log", list)

    with pytest.raises(DisturbanceError, match=r"web does not end after 0.01 s, and its log is em"):
        upkeep.keep(options(state="stopped", grace=0.0))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"name": "a b"}, "'a b' is no name of a unit"),
        ({"command": ["bin/web"]}, "unit web: command: 'bin/web' is neither"),
        ({"limits": {"nofile": -5}}, "unit web: nofile: must be a whole number"),
    ],
)
def test_a_wrong_option_changes_nothing(keeper, given, message):
    with pytest.raises(DisturbanceError, match=message):
        upkeep.keep(options(**given))
    assert keeper.done == []


# The node's agent.


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.setattr(services, "RUNTIME", tmp_path / "none")
    monkeypatch.setattr(identity, "DIRECTORY", str(tmp_path))
    return node(tmp_path)


def test_a_host_that_is_no_node_has_nobody_who_keeps_units(tmp_path, monkeypatch):
    monkeypatch.setattr(services, "RUNTIME", tmp_path / "none")
    monkeypatch.setattr(identity, "DIRECTORY", str(tmp_path))

    with pytest.raises(NodeError, match="this host is not a node of a testbed"):
        upkeep.keep(options())


def test_a_nodes_agent_is_told_all_of_a_declaration_and_shows_none_of_its_secrets(here):
    with Agent(here, units=[], differs=["declaration"]) as agent:
        upkeep.keep(options(environment={"TOKEN": "hush"}, limits={"nofile": 64}))

    ops = [heard["op"] for heard in agent.heard]
    assert ops == ["unit-list", "unit-set", "unit-start"]
    assert {heard["node"] for heard in agent.heard} == {"edge-1"}
    told = agent.heard[1]["unit"]
    assert (told["name"], told["environment"], told["nofile"]) == ("web", {"TOKEN": "hush"}, 64)


@pytest.mark.parametrize(
    ("record", "differs", "actions"),
    [
        ({}, [], []),
        ({}, ["command"], ["declare web", "restart web"]),
        ({"stale": True}, [], ["restart web"]),
        ({"wanted": False, "status": "stopped"}, [], ["start web"]),
        ({"status": "restarting", "ready": False}, [], []),
    ],
)
def test_what_the_agent_tells_decides_what_is_done(here, record, differs, actions):
    known = {"wanted": True, "status": "running", "ready": True, "stale": False}
    told = {**known, "removing": False, "shown": "", **record}
    with Agent(here, units=[told], differs=differs):
        report = upkeep.keep(options(), dry_run=True)

    assert report["actions"] == actions


# Systemd.

SYSTEMCTL = """#!/bin/sh
# Keeps what systemd would know of one unit in files of its own.
cd {folder}
echo "$*" >>calls
for word; do last=$word; done
case "$2" in
show)
    case "$*" in
    *ControlGroup*) echo /system.slice/web.service; exit;;
    esac
    load=not-found; [ -e {units}/web.service ] && load=loaded
    echo "LoadState=$load"
    echo "ActiveState=$(cat active 2>/dev/null || echo inactive)"
    echo "UnitFileState=$(cat enabled 2>/dev/null || echo disabled)"
    stale=no; [ -e {units}/web.service ] && ! cmp -s {units}/web.service read && stale=yes
    echo "NeedDaemonReload=$stale";;
daemon-reload) cp {units}/web.service read 2>/dev/null || true;;
enable) echo enabled >enabled;;
disable) rm -f enabled;;
start|restart) [ ! -e refuse ] || {{ echo "Job failed." >&2; exit 1; }}; cat then >active;;
stop) rm -f active;;
reset-failed) exit 1;;
*) exit 9;;
esac
"""


class Machine:
    """A machine on which systemd has at most one unit."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder / "state"
        self.units = folder / "units"
        for place in (self.folder, self.units, folder / "bin", folder / "run" / "system"):
            place.mkdir(parents=True)
        self.then("active")
        self._tool(folder / "bin" / "systemctl", SYSTEMCTL)
        self._tool(folder / "bin" / "journalctl", "#!/bin/sh\necho first; echo last words\n")
        monkeypatch.setenv("PATH", f"{folder / 'bin'}:/usr/bin:/bin")
        monkeypatch.setattr(services, "RUNTIME", folder / "run" / "system")
        monkeypatch.setattr(services, "FOLDER", str(self.units))
        monkeypatch.setattr(upkeep, "_PAUSE", 0.001)
        self.killed: list[str] = []
        killed = self.killed

        class Group:
            def __init__(self, path: str) -> None:
                self.path = path

            def kill(self) -> None:
                killed.append(self.path)

        monkeypatch.setattr(upkeep, "group", Group)

    def _tool(self, path: Path, text: str) -> None:
        folder, units = shlex.quote(str(self.folder)), shlex.quote(str(self.units))
        path.write_text(text.format(folder=folder, units=units) if "{folder}" in text else text)
        path.chmod(0o755)

    def then(self, state: str) -> None:
        (self.folder / "then").write_text(f"{state}\n")

    @property
    def file(self) -> Path:
        return self.units / "web.service"

    def calls(self) -> list[str]:
        """Return the verbs that change something, since this was asked last."""
        path = self.folder / "calls"
        said = path.read_text().splitlines() if path.exists() else []
        path.unlink(missing_ok=True)
        return [line.split()[1] for line in said if line.split()[1] != "show"]


@pytest.fixture
def machine(tmp_path, monkeypatch):
    return Machine(tmp_path, monkeypatch)


def test_systemd_keeps_a_unit_through_its_life(machine):
    foreseen = upkeep.keep(options(), dry_run=True)
    assert machine.calls() == [] and not machine.file.exists()

    created = upkeep.keep(options(wait=5.0))
    assert created == foreseen and created["actions"] == ["declare web", "start web"]
    assert machine.calls() == ["daemon-reload", "enable", "start"]
    assert machine.file.read_text() == supervision.text(upkeep.declared(options()))
    assert machine.file.stat().st_mode & 0o777 == 0o644

    assert not upkeep.keep(options(wait=5.0))["changed"]
    assert machine.calls() == []

    changed = upkeep.keep(options(fingerprint="x", wait=5.0))
    assert changed["actions"] == ["declare web", "restart web"]
    assert machine.calls() == ["daemon-reload", "enable", "restart"]

    assert upkeep.keep(options(state="stopped", command=None))["actions"] == ["stop web"]
    assert machine.calls() == ["disable", "stop"]
    assert not upkeep.keep(options(state="stopped", command=None))["changed"]

    assert upkeep.keep(options(state="absent", command=None))["actions"] == ["remove web"]
    assert machine.calls() == ["disable", "stop", "reset-failed", "daemon-reload"]
    # What a unit leaves running on purpose goes when the unit does.
    assert machine.killed == ["system.slice/web.service"]
    assert list(machine.units.iterdir()) == []
    assert not upkeep.keep(options(state="absent", command=None))["changed"]


def test_a_unit_that_was_written_and_not_started_anew_is_so_by_the_next_run(machine):
    upkeep.keep(options())
    (machine.folder / "refuse").touch()
    with pytest.raises(DisturbanceError, match=r"restart web\.service: Job failed"):
        upkeep.keep(options(fingerprint="x"))
    (machine.folder / "refuse").unlink()

    assert upkeep.keep(options(fingerprint="x"))["actions"] == ["restart web"]
    assert not upkeep.keep(options(fingerprint="x"))["changed"]


def test_a_service_that_does_not_come_up_is_told_with_its_journal(machine):
    machine.then("activating")

    with pytest.raises(DisturbanceError, match=r"(?s)web is not ready after 0.05 s.*last words"):
        upkeep.keep(options(wait=0.05))


def test_systemd_is_shown_no_secret_of_ours_in_a_diff(machine):
    upkeep.keep(options(environment={"TOKEN": "hush"}))

    report = upkeep.keep(options(environment={"TOKEN": "other"}))

    assert report["changed"]
    assert "hush" not in json.dumps(report) and "other" not in json.dumps(report)
