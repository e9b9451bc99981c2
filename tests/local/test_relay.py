# SPDX-License-Identifier: GPL-3.0-or-later
"""Testbeds of one node each in the place of machines: real agents, with clocks of their own.

SSH is a stand-in that brings a node's socket to where it is told to, for these nodes have none.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from pkgctl import topology
from pkgctl.errors import NodeLostError, TestbedError
from pkgctl.experiment import disturb
from pkgctl.local import observer, paths, removal, testbed
from pkgctl.local.backend import LocalBackend
from pkgctl.nodeside import channel, daemon
from pkgctl.nodeside import errors as node_errors
from pkgctl.remote import places as places_
from pkgctl.remote.places import Places
from pkgctl.scheduling.job import Job
from pkgctl.scheduling.resources import Resources

from .conftest import pkgctl

pytestmark = pytest.mark.root

AHEAD = {"near": 7200, "far": 900000}
TOPOLOGY = """\
name: {name}
sites: {{here: {{}}}}
kinds: {{node: {{cpu: 0.5, memory: 256Mi}}}}
nodes: [{{name: {name}, site: here, kind: node}}]
"""
SSH = """\
#!{python}
import json, socket, sys, threading
from contextlib import suppress
from pathlib import Path

words = sys.argv[1:]
options = dict(word.split("=", 1) for word in words if "=" in word and not word.startswith("-"))
local, remote = words[words.index("-L") + 1].split(":")
assert remote == "/run/pkgctl/agent/agent.sock", remote
key = Path(options["IdentityFile"].strip('"'))
target = json.loads((key.parent / "routes.json").read_text())[options["HostKeyAlias"]]
listener = socket.socket(socket.AF_UNIX)
listener.bind(local)
listener.listen()

def carry(one, other):
    try:
        while data := one.recv(65536):
            other.sendall(data)
        other.shutdown(socket.SHUT_WR)
    except OSError:
        with suppress(OSError):
            other.shutdown(socket.SHUT_RDWR)

def serve():
    while True:
        near, _ = listener.accept()
        far = socket.socket(socket.AF_UNIX)
        try:
            far.connect(target)
        except OSError:
            near.close()
            continue
        for pair in ((near, far), (far, near)):
            threading.Thread(target=carry, args=pair, daemon=True).start()

threading.Thread(target=serve, daemon=True).start()
print("ready", flush=True)
sys.stdin.read()
"""


class Machines:
    """Nodes that look like machines, and the folder of the testbed that they are."""

    def __init__(self) -> None:
        self.place = Places("far")
        self._agents: dict[str, subprocess.Popen[bytes]] = {}
        self.own: dict[str, paths.Paths] = {}

    def make(self, stack: ExitStack, folder: Path) -> None:
        for name in AHEAD:
            own = self.own[name] = paths.paths(f"t{os.getpid()}-{name}")
            stack.callback(removal.down, own)
            (folder / f"{name}.yaml").write_text(TOPOLOGY.format(name=name))
            testbed.up(topology.load(str(folder / f"{name}.yaml")), own)
            # From now on nobody but us starts its agent.
            (own.run / daemon.SERVICE).touch()
            os.kill(channel.call(own.agent / "agent.sock", "ping")["pid"], signal.SIGKILL)
            self.start(name)
            stack.callback(self.stop, name)
        self._describe()

    def start(self, name: str) -> None:
        """Start a node's agent with a clock that is off by hours."""
        own = self.own[name]
        code = (
            f"import sys; sys.path.insert(0, {str(daemon.import_root())!r}); from"
            f" {daemon.__package__}.agent import main; main()"
        )
        words = [sys.executable, "-S", "-E", "-c", code, str(own.run)]
        clock = ["unshare", "-T", "--monotonic", str(AHEAD[name]), "--fork", "--kill-child"]
        (own.agent / "agent.sock").unlink(missing_ok=True)
        self._agents[name] = subprocess.Popen([*clock, *words])
        deadline = time.monotonic() + 120.0
        while True:
            try:
                channel.call(own.agent / "agent.sock", "ping")
            except node_errors.AgentError:
                assert time.monotonic() < deadline
                time.sleep(0.02)
            else:
                return

    def stop(self, name: str) -> None:
        """Kill a node's agent."""
        self._agents[name].kill()
        self._agents[name].wait()

    def _describe(self) -> None:
        state = {name: testbed.read_state(own)["nodes"][name] for name, own in self.own.items()}
        nodes = {
            name: {**node, "directory": "/run/pkgctl", "host": "192.0.2.1", "uri": "", "domain": ""}
            for name, node in state.items()
        }
        routes = {name: str(own.agent / "agent.sock") for name, own in self.own.items()}
        run = self.place.run
        run.mkdir(parents=True)
        (run / "routes.json").write_text(json.dumps(routes))
        access = {"user": "root", "port": 22, "key": str(run / "key"), "known_hosts": "/nowhere"}
        record = {
            "format": 1,
            "testbed": self.place.name,
            "provider": "libvirt",
            "topology": {"name": "far"},
            "registry": "near",
            "nodes": nodes,
            "links": {},
            "access": access,
        }
        self.place.state.write_text(json.dumps(record))


@pytest.fixture
def machines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Machines]:
    state = Path("/tmp", f"pkgctl-t{os.getpid()}")
    monkeypatch.setenv(places_.VARIABLE, str(state))
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "ssh").write_text(SSH.format(python=sys.executable))
    (programs / "ssh").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    with ExitStack() as stack:
        stack.callback(subprocess.run, ["rm", "-rf", str(state)], check=True)
        made = Machines()
        made.make(stack, tmp_path)
        yield made


def test_jobs_run_on_nodes_with_clocks_of_their_own(machines):
    begun = time.monotonic()
    with closing(LocalBackend(machines.place)) as backend:
        for name in AHEAD:
            backend.launch(f"job-{name}", name, ["/bin/sh", "-c", "echo hello"], ready="exec")
        done = backend.wait(
            lambda: all(job.has_ended for job in backend.jobs.values()),
            time.monotonic() + 120.0,
            lambda _: None,
        )
        jobs = dict(backend.jobs)
        assert {name: backend.output(name) for name in jobs} == dict.fromkeys(jobs, "hello\n")
        view = backend.view()

    assert done
    for job in jobs.values():
        assert job.status == "finished"
        stamps = [job.stamps[step] for step in ("submitted", "started", "finished")]
        assert begun - 0.01 <= stamps[0] <= stamps[1] <= stamps[2] <= time.monotonic() + 0.01
    assert {node.name: node.ready for node in view.nodes} == {"near": True, "far": True}
    assert view.nodes[0].allocatable.cpu == 0.5


def test_jobs_are_listed_resized_and_removed_by_hand(machines):
    with closing(LocalBackend(machines.place)) as backend:
        backend.launch("one", "far", ["/bin/sleep", "60"], ready="exec", cpu=0.2)

    listed = json.loads(pkgctl("job", "list", "-o", "json", name="far").stdout)
    resized = pkgctl("job", "resize", "one", "--cpu", "0.3", "-o", "json", name="far")
    assert [job["node"] for job in listed] == ["far"]
    assert json.loads(resized.stdout)[0]["cpu"] == 0.3
    assert pkgctl("job", "rm", "one", name="far").stdout == "removed one\n"
    assert pkgctl("job", "list", "-o", "json", name="far").stdout.strip() == "[]"


def test_the_live_view_shows_all_nodes(machines):
    with closing(observer.Observer(machines.place, 0.2)) as source, closing(iter(source)) as shown:
        found = next(shown)

    assert {node.name: node.health for node in found.nodes} == {"near": "running", "far": "running"}
    assert all(node.memory is not None and node.cpu_limit == 0.5 for node in found.nodes)
    assert found.notes == ()


def test_a_timeline_begins_when_it_is_told_to_whatever_a_node_s_clock_shows(machines):
    with closing(LocalBackend(machines.place)) as backend:
        for name, own in machines.own.items():
            step = {"node": name, "kind": "quota", "layer": "slow", "body": {"cpu": 0.1}}
            times = {"start": 0.5, "duration": 0.5}
            channel.call(
                own.agent / "agent.sock", "timeline-arm", timeline="t", times=times, **step
            )
        t0 = time.monotonic() + 0.5
        backend.begin_timeline("t", t0)
        seen = []
        backend.wait(lambda: len(seen) == 4, time.monotonic() + 120.0, seen.append)

    for event in seen:
        due = t0 + (0.5 if event.action == "on" else 1.0)
        assert event.planned == pytest.approx(due, abs=0.05)
        assert event.actual == pytest.approx(due, abs=0.3)
    assert sorted((event.node, event.action) for event in seen) == [
        ("far", "off"),
        ("far", "on"),
        ("near", "off"),
        ("near", "on"),
    ]


def test_an_agent_that_comes_back_is_found_with_its_jobs(machines):
    with closing(LocalBackend(machines.place)) as backend:
        backend.launch("one", "far", ["/bin/sleep", "60"], ready="exec")
        machines.stop("far")
        machines.start("far")
        backend.launch("two", "far", ["/bin/sleep", "60"], ready="exec")

        assert {job.id: job.status for job in backend.jobs.values()} == {
            "one": "running",
            "two": "running",
        }


def test_the_relay_ends_with_the_testbed(machines):
    with closing(LocalBackend(machines.place)):
        pid = channel.call(machines.place.relay, "ping")["pid"]
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    assert len(children) == 2

    (machines.place.run / daemon.DOWN).touch()

    deadline = time.monotonic() + 120.0
    while any(Path(f"/proc/{each}").exists() for each in (pid, *children)):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_load_generator_s_files_are_on_its_node(machines):
    text = "näive " * 200_000
    with closing(LocalBackend(machines.place)) as backend:
        files = backend.client_files("far")
        files.put("plan.json", text)
        there = machines.own["far"].node("far") / "load" / "plan.json"
        assert there.read_text() == files.read("plan.json") == text
        files.put("plan.json", "short")
        assert files.read("plan.json") == "short"
        assert files.read("out.jsonl") == ""
        with pytest.raises(TestbedError, match="does not listen"):
            files.tell({"op": "stop"})
        files.clear()
        assert not there.parent.exists()


def test_nothing_is_placed_on_a_node_that_does_not_answer(machines):
    with closing(LocalBackend(machines.place)) as backend:
        machines.stop("far")
        job = Job(id="one", resources=Resources(0.1, 1 << 25), work=0.1)
        with pytest.raises(NodeLostError, match="node far is unreachable"):
            backend.start(job, "far", submitted=time.monotonic(), decided=time.monotonic())
        assert {node.name: node.ready for node in backend.view().nodes} == {
            "near": True,
            "far": False,
        }
        with pytest.raises(TestbedError, match="not reachable: far"):
            disturb.in_force(machines.place)
        machines.start("far")


def test_layers_are_read_from_the_nodes(machines):
    store = machines.own["far"].node("far") / "stress.json"
    assert disturb.in_force(machines.place) == []
    store.write_text(json.dumps({"busy": {"cpu": 1}}))
    assert disturb.in_force(machines.place) == ["busy"]
    store.unlink()
    assert disturb.in_force(machines.place) == []
    # Those of health are kept here.
    folder = machines.place.node("near")
    folder.mkdir(parents=True)
    (folder / "health.json").write_text(json.dumps({"off": {"health": "paused"}}))
    assert disturb.in_force(machines.place) == ["off"]
