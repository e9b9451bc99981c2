# SPDX-License-Identifier: GPL-3.0-or-later
"""The agent's units over processes that only seem to be there, with a clock that a test moves."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from contextlib import nullcontext

import pytest

from ansible_collections.pkgctl.testbed.plugins.module_utils import (
    condition,
    jobs,
    layers,
    notices,
    supervised,
    supervisor,
    syscalls,
)
from ansible_collections.pkgctl.testbed.plugins.module_utils.errors import (
    AgentError,
    DisturbanceError,
    KernelError,
    NodeError,
)
from ansible_collections.pkgctl.testbed.plugins.module_utils.loop import Loop
from ansible_collections.pkgctl.testbed.plugins.module_utils.supervisor import Supervisor

from . import trees
from .agents import node

EDGE = "edge-1"
WEB = {"name": "web", "command": ["/bin/web"], "restart_seconds": 5, "grace": 10, "kill": "process"}


class Still:
    """A loop in which time passes when the test says so."""

    def __init__(self) -> None:
        self.now = 100.0
        self.timers: list[list] = []
        self.ends: dict[int, object] = {}
        self.watched: dict[int, object] = {}

    def at(self, when, action):
        entry = [when, action]
        self.timers.append(entry)

        class Timer:
            def cancel(self):
                entry[1] = None

        return Timer()

    def pass_by(self, seconds):
        until = self.now + seconds
        while due := [each for each in self.timers if each[1] and each[0] <= until]:
            first = min(due, key=lambda each: each[0])
            self.timers.remove(first)
            self.now = max(self.now, first[0])
            first[1]()
        self.now = until

    def await_exit(self, pid, then):
        self.ends[pid] = then

    def watch(self, descriptor, handler):
        self.watched[descriptor] = handler

    def forget(self, descriptor):
        self.watched.pop(descriptor, None)


class Bed:
    """A testbed of one node, in which processes are numbers."""

    def __init__(self, folder, monkeypatch) -> None:
        self.folder = folder
        self.home = folder / "nodes" / EDGE
        self.home.mkdir(parents=True)
        self.nodes = {EDGE: node(self.home)}
        self.loop = Still()
        self.told: list[dict] = []
        self.alive: dict[int, int] = {}
        self.begun: list[int] = []
        self.signals: list[tuple[int, int]] = []
        self.machine = trees.v1(folder / "groups")
        monkeypatch.setattr(syscalls, "monotonic", lambda: self.loop.now)
        monkeypatch.setattr(jobs, "begin", self.begin)
        monkeypatch.setattr(jobs, "birth", self.alive.get)
        monkeypatch.setattr(supervisor, "group", lambda path: trees.Group(path, self.machine))
        monkeypatch.setattr(supervisor.os, "kill", lambda *given: self.signals.append(given))

    def begin(self, place, become):
        pid = 1000 + len(self.begun)
        self.begun.append(pid)
        self.alive[pid] = pid * 7
        return pid

    def end(self, pid, status=0):
        del self.alive[pid]
        self.loop.ends.pop(pid)(status)

    def look_up(self, name):
        if name not in self.nodes:
            raise AgentError(f"there is no node {name!r}")
        return self.nodes[name]

    def agent(self) -> Supervisor:
        self.loop.timers.clear()
        self.loop.ends.clear()
        names = lambda: list(self.nodes)  # noqa: E731
        return Supervisor(self.folder, self.loop, self.look_up, names, self.told.append)

    def health(self, word=None):
        stored = {"test": {"health": word}} if word else {}
        layers.save(self.home / condition.STORE, stored)

    @property
    def statuses(self):
        return [each["status"] for each in self.told]


@pytest.fixture
def bed(tmp_path, monkeypatch):
    return Bed(tmp_path, monkeypatch)


def begin(bed, **changes):
    """Return a supervisor in which a unit runs."""
    units = bed.agent()
    units.set({"node": EDGE, "unit": {**WEB, **changes}})
    units.start({"node": EDGE, "name": "web"})
    return units


def web(units):
    (found,) = units.listing({"name": "web"})["units"]
    return found


def test_a_declaration_starts_nothing(bed):
    units = bed.agent()

    done = units.set({"node": EDGE, "unit": WEB})

    assert done == {"differs": ["declaration"]}
    assert (web(units)["status"], web(units)["wanted"]) == ("stopped", False)
    assert bed.begun == []
    assert units.set({"node": EDGE, "unit": WEB})["differs"] == []


def test_a_dry_run_takes_nothing_on(bed):
    units = bed.agent()

    assert units.set({"node": EDGE, "unit": WEB, "dry_run": True})["differs"] == ["declaration"]

    assert units.listing({}) == {"units": []}
    assert not (bed.home / "units").exists()


def test_what_runs_is_stale_once_its_declaration_is_another(bed):
    units = begin(bed)
    assert web(units)["ready"] and not web(units)["stale"]

    assert units.set({"node": EDGE, "unit": {**WEB, "fingerprint": "x"}})["differs"] == [
        "fingerprint"
    ]
    assert web(units)["stale"] and bed.begun == [1000]

    units.restart({"node": EDGE, "name": "web"})
    assert bed.signals == [(1000, signal.SIGTERM)]
    bed.end(1000, -15)
    assert bed.begun == [1000, 1001] and not web(units)["stale"]


def test_a_unit_that_ends_is_started_again_after_its_time(bed):
    units = begin(bed)

    bed.end(1000, 3)

    assert (web(units)["status"], web(units)["exit"]) == ("restarting", 3)
    assert web(units)["error"] == "ended with status 3"
    bed.loop.pass_by(4.9)
    assert bed.begun == [1000]
    bed.loop.pass_by(0.2)
    assert bed.begun == [1000, 1001]
    assert (web(units)["status"], web(units)["restarts"]) == ("running", 1)
    assert bed.statuses == ["running", "restarting", "running"]


def test_a_start_does_not_wait_for_that_time(bed):
    units = begin(bed)
    bed.end(1000)

    units.start({"node": EDGE, "name": "web"})
    bed.loop.pass_by(10)

    assert bed.begun == [1000, 1001]


def test_a_stop_asks_and_then_kills(bed):
    units = begin(bed)

    units.stop({"node": EDGE, "name": "web"})
    bed.loop.pass_by(9.9)
    assert bed.signals == [(1000, signal.SIGTERM)]
    bed.loop.pass_by(0.2)
    assert bed.signals[1:] == [(1000, signal.SIGKILL)]

    bed.end(1000, -9)
    bed.loop.pass_by(100)
    assert web(units)["status"] == "stopped" and bed.begun == [1000]


def test_a_unit_that_is_to_run_again_after_all_does_so_once_it_has_ended(bed):
    units = begin(bed)
    units.stop({"node": EDGE, "name": "web"})

    units.start({"node": EDGE, "name": "web"})
    assert bed.begun == [1000]
    bed.end(1000)

    assert bed.begun == [1000, 1001] and web(units)["wanted"]


def put_into_group(bed, *pids):
    place = bed.machine.v1["pids"] / "pkgctl/test/system/edge-1/unit-web/box"
    place.mkdir(parents=True, exist_ok=True)
    (place / "cgroup.procs").write_text("\n".join(map(str, pids)))


def test_with_a_group_all_that_it_has_started_ends_too(bed):
    units = begin(bed, kill="group")
    put_into_group(bed, 1000, 77)

    units.stop({"node": EDGE, "name": "web"})
    assert sorted(bed.signals) == [(77, signal.SIGTERM), (1000, signal.SIGTERM)]
    put_into_group(bed, 77)
    bed.end(1000)
    assert web(units)["status"] == "stopping"
    bed.loop.pass_by(11)
    assert (77, signal.SIGKILL) in bed.signals
    put_into_group(bed)
    bed.loop.pass_by(1)

    assert web(units)["status"] == "stopped"


def test_with_a_process_what_it_has_started_goes_on_until_it_is_removed(bed, monkeypatch):
    units = begin(bed)
    put_into_group(bed, 77)
    units.stop({"node": EDGE, "name": "web"})
    bed.end(1000)
    assert web(units)["status"] == "stopped"
    assert bed.signals == [(1000, signal.SIGTERM)]

    removed = []
    monkeypatch.setattr(trees.Group, "remove", lambda group: removed.append(group.path))
    units.remove({"node": EDGE, "name": "web"})
    assert bed.signals[1:] == [(77, signal.SIGKILL)]
    with pytest.raises(AgentError, match="is being removed"):
        units.set({"node": EDGE, "unit": {**WEB, "fingerprint": "x"}})
    put_into_group(bed)
    bed.loop.pass_by(1)

    assert units.listing({}) == {"units": []}
    assert removed[0] == "pkgctl/test/system/edge-1/unit-web"
    assert not (bed.home / "units").exists()
    assert bed.statuses[-1] == "removed"


@pytest.mark.parametrize("op", ["start", "stop", "restart", "remove"])
def test_only_what_is_there_can_be_changed(bed, op):
    units = bed.agent()

    with pytest.raises(AgentError, match="node edge-1 has no unit 'web'"):
        getattr(units, op)({"node": EDGE, "name": "web"})
    with pytest.raises(AgentError, match="there is no node 'edge-9'"):
        getattr(units, op)({"node": "edge-9", "name": "web"})


@pytest.mark.parametrize("word", ["paused", "stopped", "crashed"])
def test_on_a_node_that_is_down_nothing_is_changed(bed, word):
    units = begin(bed)
    bed.health(word)

    for op in ("start", "stop", "restart", "remove"):
        with pytest.raises(NodeError, match=f"node edge-1 is {word}: its units are left as they"):
            getattr(units, op)({"node": EDGE, "name": "web"})
    with pytest.raises(NodeError):
        units.set({"node": EDGE, "unit": {**WEB, "fingerprint": "x"}})
    assert bed.signals == []


def test_a_unit_waits_for_its_node(bed):
    units = begin(bed)
    bed.health("crashed")

    bed.end(1000, -9)
    bed.loop.pass_by(100)
    assert web(units)["status"] == "off" and bed.begun == [1000]
    units.node_changed(EDGE)
    assert bed.begun == [1000]

    bed.health()
    units.node_changed(EDGE)
    assert bed.begun == [1000, 1001]
    units.node_changed(EDGE)
    assert bed.begun == [1000, 1001]


def test_a_unit_whose_time_comes_while_its_node_is_down_waits_too(bed):
    units = begin(bed)
    bed.end(1000)
    bed.health("paused")

    bed.loop.pass_by(100)

    assert web(units)["status"] == "off" and bed.begun == [1000]


def test_what_cannot_be_started_is_tried_again(bed, monkeypatch):
    units = begin(bed)

    def refuse(*_):
        raise KernelError("make a group", 28)

    with monkeypatch.context() as broken:
        broken.setattr(trees.Group, "create", refuse)
        bed.end(1000)
        bed.loop.pass_by(5)
        assert web(units)["error"].startswith("cannot be started: make a group: No space left")
    bed.loop.pass_by(5)

    assert web(units)["status"] == "running"


# Found again.


def test_the_next_agent_finds_a_unit_that_runs(bed):
    begin(bed)

    units = bed.agent()
    units.resume()

    assert web(units)["pid"] == 1000 and bed.begun == [1000]
    bed.end(1000, None)
    assert web(units)["error"] == "ended for a reason unknown"


def test_the_next_agent_starts_what_has_ended_meanwhile(bed):
    begin(bed)
    del bed.alive[1000]

    units = bed.agent()
    assert bed.begun == [1000]
    units.resume()

    assert bed.begun == [1000, 1001] and web(units)["status"] == "running"


def test_a_process_with_the_same_number_is_another_one(bed):
    begin(bed)
    bed.alive[1000] = 1

    units = bed.agent()
    units.resume()

    assert web(units)["pid"] == 1001 and bed.signals == []


def test_after_a_start_of_the_machine_nothing_is_the_same(bed):
    begin(bed)
    path = bed.home / "units" / "web.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "boot": "another"}))

    units = bed.agent()
    units.resume()

    assert web(units)["pid"] == 1001


@pytest.mark.parametrize("is_alive", [True, False])
def test_the_next_agent_goes_on_with_a_stop(bed, is_alive):
    units = begin(bed)
    units.stop({"node": EDGE, "name": "web"})
    if not is_alive:
        del bed.alive[1000]

    units = bed.agent()
    units.resume()
    if is_alive:
        bed.loop.pass_by(10)
        assert bed.signals[-1] == (1000, signal.SIGKILL)
        bed.end(1000, None)

    assert web(units)["status"] == "stopped" and bed.begun == [1000]


def test_the_next_agent_goes_on_with_a_removal(bed):
    begin(bed).remove({"node": EDGE, "name": "web"})
    del bed.alive[1000]

    assert bed.agent().listing({}) == {"units": []}
    assert not (bed.home / "units").exists()


def test_a_record_that_cannot_be_read_is_told_and_passed_over(bed, capsys):
    begin(bed)
    (bed.home / "units" / "broken.json").write_text('{"unit": {}}')

    units = bed.agent()

    assert [each["name"] for each in units.listing({})["units"]] == ["web"]
    assert "broken.json is no unit's record" in capsys.readouterr().err


def test_what_cannot_be_recorded_is_not_taken_on(bed, monkeypatch):
    units = begin(bed)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(supervised.Kept, "save", full)
    with pytest.raises(AgentError, match=r"web of edge-1 cannot be recorded: No space left"):
        units.set({"node": EDGE, "unit": {**WEB, "fingerprint": "x"}})

    assert (web(units)["fingerprint"], web(units)["stale"]) == ("", False)


def test_a_node_that_goes_takes_its_units_along(bed):
    units = begin(bed)
    (bed.home / "units" / "web.json").unlink()

    bed.end(1000)
    bed.loop.pass_by(10)

    assert units.listing({}) == {"units": []} and bed.begun == [1000]


def test_a_sweep_forgets_units_of_nodes_that_are_gone_and_bounds_logs(bed, monkeypatch):
    units = begin(bed)
    log = bed.folder / "logs" / "units" / EDGE / "web.log"
    monkeypatch.setattr(supervised.bound_log, "__defaults__", (10,))
    log.write_text("0123456789abcdef")
    units.sweep()
    assert (log.read_text(), log.with_suffix(".old").read_text()) == ("", "6789abcdef")

    (bed.home / "units" / "web.json").unlink()
    units.sweep()

    assert units.listing({}) == {"units": []}
    assert not log.exists()


def test_nothing_starts_while_a_testbed_goes(bed):
    begin(bed)
    (bed.folder / "down").touch()

    bed.end(1000)
    bed.loop.pass_by(10)

    assert bed.begun == [1000]


def test_no_secret_is_told(bed):
    units = begin(bed, environment={"TOKEN": "hush"})

    bed.end(1000)

    assert "hush" not in json.dumps([units.listing({"lines": 5}), bed.told])
    record = bed.home / "units" / "web.json"
    assert "hush" in record.read_text() and record.stat().st_mode & 0o077 == 0


# Its own words.


def test_a_unit_is_ready_when_it_says_so(bed):
    units = begin(bed, notify=True)
    assert web(units)["status"] == "starting"
    (handler,) = bed.loop.watched.values()
    talk = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    folder = os.open(bed.home / "units", os.O_PATH)
    with talk:
        for words, status in (("STATUS=soon", "starting"), ("STATUS=on\nREADY=1\n", "running")):
            talk.sendto(words.encode(), f"/proc/self/fd/{folder}/web.sock")
            handler(1)
            assert web(units)["status"] == status
    os.close(folder)

    bed.end(1000)
    assert bed.loop.watched == {}


def test_its_place_to_speak_may_have_a_long_name(tmp_path):
    folder = tmp_path / ("long" * 30)
    folder.mkdir()
    for _ in range(2):
        notices.bound(folder / "web.sock").close()
        assert (folder / "web.sock").is_socket()


def test_what_is_said_while_nobody_listens_is_heard_by_the_next(tmp_path):
    """A process that has the socket open keeps it and what is in it."""
    heard: list[str] = []
    loop = Loop()
    first = notices.Notices(loop, notices.bound(tmp_path / "web.sock"), lambda: heard.append("a"))
    inode, copy = first.inode, first.copy()
    command = [sys.executable, "-S", "-c", "import sys; sys.stdin.read()"]
    with subprocess.Popen(command, pass_fds=[copy], stdin=subprocess.PIPE) as holder:
        os.close(copy)
        first.close()
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as talk:
            talk.sendto(b"READY=1", str(tmp_path / "web.sock"))

        found = notices.held(holder.pid, inode)

        assert found is not None and notices.held(holder.pid, inode + 1) is None
        second = notices.Notices(loop, found, lambda: (heard.append("b"), loop.stop()))
        loop.at(syscalls.monotonic() + 30, loop.stop)
        loop.run()
        second.close()
        holder.communicate(b"")
    assert heard == ["b"]
    assert notices.held(holder.pid, inode) is None


# The process.


@pytest.mark.parametrize("lives", [True, False])
def test_a_program_runs_only_if_its_process_was_noted(tmp_path, monkeypatch, lives):
    """An agent that dies in between leaves nothing that the next one would not know of."""
    unit = supervisor.supervision.parse({**WEB, "command": ["touch", str(tmp_path / "ran")]})
    noted: list[int] = []

    def begin(_, become):
        pid = os.fork()
        if pid == 0:
            try:
                become()
            finally:
                os._exit(7)
        return pid

    def note(pid):
        noted.append(pid)
        if not lives:
            raise InterruptedError

    monkeypatch.setattr(jobs, "begin", begin)
    with nullcontext() if lives else pytest.raises(InterruptedError):
        supervised.start(None, EDGE, unit, os.dup(0), note)

    _, status = os.waitpid(noted[0], 0)
    assert (tmp_path / "ran").exists() is lives
    assert os.waitstatus_to_exitcode(status) == (0 if lives else 7)


def test_variables_of_files_come_before_those_of_the_declaration(tmp_path):
    (tmp_path / "a.env").write_text("A=file\nNOTIFY_SOCKET=/none\n")
    unit = supervisor.supervision.parse(
        {
            **WEB,
            "environment": {"A": "declared", "B": "declared"},
            "environment_files": [str(tmp_path / "none.env"), str(tmp_path / "a.env")],
            "notify": True,
        }
    )

    found = supervised.environment(EDGE, unit)

    assert (found["A"], found["B"], found["PKGCTL_NODE"]) == ("file", "declared", EDGE)
    assert found["NOTIFY_SOCKET"] == "/run/pkgctl/units/web.sock"


@pytest.mark.parametrize(
    ("content", "count", "found"),
    [("", 2, []), ("a\nb\nc\n", 2, ["b", "c"]), ("a\nb", 9, ["a", "b"]), ("a\n", 0, [])],
)
def test_the_last_lines_of_a_log(tmp_path, content, count, found):
    (tmp_path / "web.log").write_text(content)

    assert supervised.last_lines(tmp_path / "web.log", count) == found
    assert supervised.last_lines(tmp_path / "none.log", count) == []


def test_a_wrong_declaration_is_refused_by_the_agent(bed):
    with pytest.raises(DisturbanceError, match="unit web: command: needs a program"):
        bed.agent().set({"node": EDGE, "unit": {"name": "web"}})
