# SPDX-License-Identifier: GPL-3.0-or-later
"""Timelines over several agents, each behind an SSH that runs what it is told on this machine."""

from __future__ import annotations

import json
import socket
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest

from ansible_collections.pkgctl.testbed.plugins.module_utils import channel, domains, layers
from ansible_collections.pkgctl.testbed.plugins.module_utils.errors import AgentError
from ansible_collections.pkgctl.testbed.plugins.plugin_utils import beginnings, relays

NODES = ("cloud-1", "edge-1")
BEGIN = {"name": "storm", "state": "begun"}
DROP = {"name": "storm", "state": "absent"}


class Agent:
    """Answers as an agent whose clock is ahead of ours, and notes what it heard and when."""

    def __init__(self, path, *, ahead=0.0, steps=1, states=(), refuses=""):
        path.parent.mkdir(parents=True)
        self._server = channel.listen(path)
        self.path, self.ahead, self.steps, self.refuses = path, ahead, steps, refuses
        self.states, self.heard = states, []
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self):
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()

    def _accept(self):
        while True:
            try:
                client, _ = self._server.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client):
        with client, client.makefile("rwb") as lines:
            for line in lines:
                request = json.loads(line)
                self.heard.append({"at": time.monotonic(), **request})
                lines.write(json.dumps(self._answer(request)).encode() + b"\n")
                lines.flush()

    def _answer(self, request):
        if request["op"] == "ping":
            return {"ok": True, "mono": time.monotonic() + self.ahead}
        if self.refuses:
            return {"ok": False, "error": self.refuses}
        listed = [{"timeline": "storm", "state": state} for state in self.states]
        return {"ok": True, "steps": self.steps, "timelines": listed}

    @property
    def told(self):
        return [each for each in self.heard if each["op"] != "ping"]


@pytest.fixture
def folder():
    with tempfile.TemporaryDirectory() as made:
        yield Path(made)


@pytest.fixture
def run(folder):
    """Have an agent for each node and for the testbed, and a way to each."""
    made = []

    def start(path, **how):
        made.append(Agent(path, **how))
        return made[-1]

    yield start
    for each in made:
        each.close()


def host(folder, name, agent_at, fails=""):
    """Return the variables of a machine whose SSH is a script."""
    script = folder / f"ssh-{name}"
    script.write_text(
        f'#!/bin/sh\necho "$*" >{folder}/words-{name}\n'
        + (f"echo '{fails}' >&2; exit 255\n" if fails else "")
        + "for last; do :; done\n"
        + f'exec sh -c "$(echo "$last" | sed \'s#{relays.SOCKET}#{agent_at}#\')"\n'
    )
    script.chmod(0o755)
    return {
        "ansible_host": "192.0.2.1",
        "ansible_user": "root",
        "ansible_port": 2222,
        "ansible_python_interpreter": sys.executable,
        "ansible_ssh_executable": str(script),
        "ansible_ssh_common_args": "-o 'UserKnownHostsFile=\"/a b\"'",
        "ansible_ssh_private_key_file": "/key",
        "ansible_control_path": "%(directory)s/0123",
        "pkgctl_domain": f"pkgctl.lab.{name}",
        "pkgctl_uri": "qemu:///system",
        "pkgctl_controller_directory": str(folder / "lab" / "nodes" / name),
    }


@pytest.fixture
def hosts(folder):
    (folder / "lab").mkdir()
    return {name: host(folder, name, folder / name / "agent.sock") for name in NODES}


def perform(folder, hosts, options=BEGIN, *, dry_run=False):
    return beginnings.perform(folder / "lab", hosts, options, dry_run=dry_run)


def test_all_begin_at_one_instant_each_by_its_own_clock(folder, hosts, run):
    watchman = run(folder / "lab" / "agent" / "agent.sock", steps=2)
    ahead = {"cloud-1": 5000.0, "edge-1": -70.0}
    agents = {name: run(folder / name / "agent.sock", ahead=ahead[name]) for name in NODES}

    report = perform(folder, hosts)

    assert (report["changed"], report["steps"]) == (True, 4)
    (begun,) = watchman.told
    assert (begun["op"], begun["timeline"]) == ("timeline-start", "storm")
    for name, agent in agents.items():
        (told,) = agent.told
        assert told["t0"] - ahead[name] == pytest.approx(begun["t0"], abs=report["uncertainty"])
        # Nobody hears of it after it began.
        assert told["at"] < begun["t0"]
    assert 0 < report["uncertainty"] < 0.1


def test_without_a_watchman_the_machines_begin_alone(folder, hosts, run):
    for name in NODES:
        run(folder / name / "agent.sock", steps=0)

    assert perform(folder, hosts) == {
        "changed": False,
        "steps": 0,
        "uncertainty": pytest.approx(0.0, abs=0.1),
    }


def test_where_no_machine_is_up_the_watchman_begins_at_once(folder, hosts, run):
    watchman = run(folder / "lab" / "agent" / "agent.sock")

    assert perform(folder, {})["steps"] == 1
    assert watchman.told[0]["t0"] == pytest.approx(watchman.told[0]["at"], abs=0.1)


def test_none_begins_if_one_agent_is_out_of_reach(folder, hosts, run):
    watchman = run(folder / "lab" / "agent" / "agent.sock")
    agent = run(folder / "cloud-1" / "agent.sock")
    hosts["edge-1"] = host(folder, "edge-1", folder / "none", fails="ssh: No route to host")

    with pytest.raises(AgentError) as caught:
        perform(folder, hosts)

    assert str(caught.value) == "the agent of edge-1 is out of reach: ssh: No route to host"
    assert watchman.told == agent.told == []


def test_a_machine_without_an_agent_is_named(folder, hosts):
    with pytest.raises(AgentError, match="cloud-1 is out of reach: none runs there"):
        perform(folder, hosts)


def test_an_agent_that_refuses_is_named_with_its_words(folder, hosts, run):
    run(folder / "cloud-1" / "agent.sock")
    run(folder / "edge-1" / "agent.sock", refuses="the journal cannot be written")

    with pytest.raises(AgentError, match=r"^edge-1: the journal cannot be written$"):
        perform(folder, hosts)


def test_a_machine_that_says_nothing_is_not_waited_for_without_end(folder, hosts, monkeypatch):
    monkeypatch.setattr(relays, "_OPENING", 0.3)
    (folder / "ssh-cloud-1").write_text("#!/bin/sh\nexec sleep 60\n")

    with pytest.raises(AgentError, match=r"^cloud-1: no answer within 0\.3 s$"):
        perform(folder, hosts)


def test_a_timeline_is_dropped_everywhere(folder, hosts, run):
    agents = [run(folder / name / "agent.sock") for name in NODES]
    agents.append(run(folder / "lab" / "agent" / "agent.sock"))

    assert perform(folder, hosts, DROP) == {"changed": True, "steps": 3}
    assert [each.told[0]["op"] for each in agents] == ["timeline-drop"] * 3


@pytest.mark.parametrize(
    ("states", "options", "changed"),
    [
        ({}, BEGIN, True),
        ({"edge-1": ["armed"]}, BEGIN, True),
        ({"edge-1": ["running"], "cloud-1": ["running"]}, BEGIN, False),
        ({}, DROP, False),
        ({"edge-1": ["running"]}, DROP, True),
    ],
)
def test_a_dry_run_only_asks(folder, hosts, run, states, options, changed):
    agents = [run(folder / name / "agent.sock", states=states.get(name, ())) for name in NODES]

    assert perform(folder, hosts, options, dry_run=True) == {"changed": changed}
    assert [[each["op"] for each in agent.told] for agent in agents] == [["timeline-list"]] * 2


def test_a_machine_that_is_down_has_no_part(folder, hosts):
    node = domains.guest(folder / "lab" / "nodes" / "edge-1", "x", "qemu:///system")
    Path(node.directory).mkdir(parents=True)
    layers.save(Path(node.directory, "health.json"), {"boom": {"health": "crashed"}})

    up, down = beginnings.sorted_out({**hosts, "localhost": {}})

    assert [*up] == ["cloud-1"] and down == {"edge-1": "crashed"}


def test_ssh_is_told_what_ansible_tells_it(folder, hosts, run, monkeypatch):
    monkeypatch.setenv("ANSIBLE_HOME", str(folder))
    for name in NODES:
        run(folder / name / "agent.sock")

    perform(folder, hosts)

    words = (folder / "words-edge-1").read_text()
    assert words.startswith('-T -o BatchMode=yes -o ConnectTimeout=10 -o Port=2222 -o User="root"')
    assert '-o IdentityFile="/key" -o ControlMaster=no -o ControlPath="' in words
    assert '/cp/0123" -o UserKnownHostsFile="/a b" 192.0.2.1 ' in words
