# SPDX-License-Identifier: GPL-3.0-or-later
"""Nodes that pause, stop and crash, and load that runs on them: seen from outside of our code."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pkgctl.errors import NodeLostError
from pkgctl.local import paths, testbed
from pkgctl.local.backend import LocalBackend
from pkgctl.nodeside import cgroups, change, health, stress
from pkgctl.scheduling.backend import NodeEvent
from pkgctl.scheduling.job import Job
from pkgctl.scheduling.resources import Resources
from tests import controlgroups

from .conftest import on_node, pkgctl

pytestmark = pytest.mark.root

PATIENCE = 240.0
EDGE, CLOUD = "edge-1", "cloud-1"
ENTER = ("net", "uts", "ipc", "mnt")
needs_stress = pytest.mark.skipif(not shutil.which("stress-ng"), reason="needs stress-ng")
TICKER = """
import time
n = 0
while True:
    n += 1
    open("/tmp/ticks", "w").write(str(n))
    time.sleep(0.005)
"""
ECHO = """
import socket
server = socket.create_server(("", 7000))
other, _ = server.accept()
while data := other.recv(100):
    other.sendall(data)
"""
TALK = """
import socket, sys
talk = socket.create_connection((sys.argv[1], 7000))
for line in sys.stdin:
    talk.sendall(line.encode())
    print(talk.recv(100).decode().strip(), flush=True)
"""
# Asked to end, one writes that down and does; the other does not care.
POLITE = """
trap 'echo asked >/data/polite; sync; exit' TERM
echo >/tmp/polite
while :; do sleep 0.05; done
"""
RUDE = "trap '' TERM; echo >/tmp/rude; while :; do sleep 0.05; done"


def set_health(place: paths.Paths, word: str, layer: str = "test") -> change.Change:
    """Set a layer of the edge node's health, or take it away."""
    with testbed.inside(place, EDGE) as node:
        if word == "running":
            return health.change(node, layer=layer, present=False)
        return health.change(node, layer=layer, health=word)


def drift(place: paths.Paths) -> list[str]:
    with testbed.inside(place, EDGE) as node:
        return health.converge(node, dry_run=True).actions


def eventually(holds: Callable[[], object]) -> bool:
    deadline = time.monotonic() + PATIENCE
    while not holds() and time.monotonic() < deadline:
        time.sleep(0.02)
    return bool(holds())


def beside(place: paths.Paths, *command: str) -> str:
    """Return what a command prints in the edge node's namespaces, but outside of its group."""
    pins = place.namespaces(EDGE)
    spaces = [f"--{'mount' if kind == 'mnt' else kind}={pins / kind}" for kind in ENTER]
    done = subprocess.run(
        ["nsenter", *spaces, "--", *command],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return done.stdout


def reaches(place: paths.Paths, target: str = EDGE) -> bool:
    """Return whether the cloud node gets an answer to a ping."""
    words = ("exec", "--name", place.name, CLOUD, "--", "ping", "-c1", "-W0.5", target)
    return pkgctl(*words).returncode == 0


def groups(place: paths.Paths) -> list[str]:
    """Return all control groups of the edge node, in every hierarchy."""
    return controlgroups.below(f"{place.cgroup}/nodes/{EDGE}")


def processes(place: paths.Paths, below: str = "") -> list[int]:
    """Return the processes that the kernel lists in the edge node's group and those below it."""
    root = Path("/sys/fs/cgroup/pids" if Path("/sys/fs/cgroup/pids").is_dir() else "/sys/fs/cgroup")
    folder = root / place.cgroup / "nodes" / EDGE / below
    found = []
    for at, _, _ in os.walk(folder):
        with contextlib.suppress(OSError):
            found += [int(pid) for pid in Path(at, "cgroup.procs").read_text().split()]
    return found


@pytest.fixture
def start(duo: paths.Paths) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start commands on nodes that end with the test."""
    begun: list[subprocess.Popen[str]] = []

    def starter(node: str, *command: str) -> subprocess.Popen[str]:
        words = [sys.executable, "-m", "pkgctl", "exec", "--name", duo.name, node, "--", *command]
        pipe = subprocess.PIPE
        begun.append(subprocess.Popen(words, text=True, stdin=pipe, stdout=pipe))
        return begun[-1]

    yield starter
    for process in begun:
        process.kill()
        process.communicate()


# Paused.


def test_a_paused_node_stands_still_and_goes_on_where_it_was(
    duo: paths.Paths, start: Callable[..., subprocess.Popen[str]]
) -> None:
    ticker = start(EDGE, sys.executable, "-S", "-c", TICKER)
    assert eventually(lambda: "ticks" in beside(duo, "ls", "/tmp").split())
    before = groups(duo)

    set_health(duo, "paused")

    assert not reaches(duo)
    count = beside(duo, "cat", "/tmp/ticks")
    time.sleep(0.2)
    assert beside(duo, "cat", "/tmp/ticks") == count
    assert ticker.pid in processes(duo)
    assert Path(f"/proc/{ticker.pid}/stat").read_text().split(")")[1].split()[0] in "DST"
    assert drift(duo) == []

    set_health(duo, "running")

    assert reaches(duo)
    assert eventually(lambda: beside(duo, "cat", "/tmp/ticks") != count)
    assert ticker.poll() is None
    assert groups(duo) == before


def test_connections_live_through_a_pause(
    duo: paths.Paths, start: Callable[..., subprocess.Popen[str]]
) -> None:
    start(EDGE, sys.executable, "-S", "-c", ECHO)
    assert eventually(lambda: ":7000" in beside(duo, "ss", "-ltn"))
    client = start(CLOUD, sys.executable, "-S", "-c", TALK, EDGE)
    assert client.stdin is not None and client.stdout is not None
    client.stdin.write("before\n")
    client.stdin.flush()
    assert client.stdout.readline() == "before\n"

    set_health(duo, "paused")
    client.stdin.write("during\n")
    client.stdin.flush()
    time.sleep(0.5)
    set_health(duo, "running")

    assert client.stdout.readline() == "during\n"


# Stopped and crashed.


def fill_memory(place: paths.Paths) -> None:
    script = "for d in /tmp /run /dev/shm; do mkdir $d/deep; echo x >$d/deep/file; done"
    on_node(place, EDGE, "sh", "-c", script)


@pytest.mark.parametrize("word", ["stopped", "crashed"])
def test_a_node_that_is_switched_off_keeps_its_disks_and_nothing_else(
    duo: paths.Paths, start: Callable[..., subprocess.Popen[str]], word: str
) -> None:
    on_node(duo, EDGE, "sh", "-c", "echo kept >/data/file; sync; echo root >/var/root")
    # An installation that lies in /tmp is seen there by every node, and stays.
    fresh = {folder: beside(duo, "ls", "-A", folder) for folder in ("/tmp", "/dev/shm")}
    fill_memory(duo)
    before = groups(duo), beside(duo, "cat", "/proc/self/mounts").splitlines()
    sleeper = start(EDGE, "sleep", "1000")
    assert eventually(lambda: sleeper.pid in processes(duo))

    set_health(duo, word)

    assert sleeper.wait(PATIENCE) == (-signal.SIGTERM if word == "stopped" else -signal.SIGKILL)
    assert processes(duo) == []
    assert " /data " not in beside(duo, "cat", "/proc/self/mounts")
    for folder in fresh:
        assert beside(duo, "ls", "-A", folder) == fresh[folder]
    assert beside(duo, "ls", "-A", "/run") == "pkgctl\n"
    assert not reaches(duo)
    assert drift(duo) == []

    set_health(duo, "running")

    assert on_node(duo, EDGE, "cat", "/data/file", "/var/root") == "kept\nroot\n"
    assert reaches(duo)
    after = groups(duo), beside(duo, "cat", "/proc/self/mounts").splitlines()
    assert after[0] == before[0]
    # The disk may be on another loop device now.
    assert [line.split(" ", 1)[1] for line in after[1]] == [
        line.split(" ", 1)[1] for line in before[1]
    ]


def test_a_stop_asks_first_and_a_crash_does_not(
    duo: paths.Paths, start: Callable[..., subprocess.Popen[str]]
) -> None:
    start(EDGE, "sh", "-c", POLITE)
    rude = start(EDGE, "sh", "-c", RUDE)
    assert eventually(lambda: {"polite", "rude"} <= {*beside(duo, "ls", "/tmp").split()})

    set_health(duo, "stopped")

    assert rude.wait(PATIENCE) == -signal.SIGKILL
    set_health(duo, "running")
    assert on_node(duo, EDGE, "cat", "/data/polite") == "asked\n"

    on_node(duo, EDGE, "sh", "-c", "rm /data/polite; sync")
    start(EDGE, "sh", "-c", POLITE)
    assert eventually(lambda: "polite" in beside(duo, "ls", "/tmp"))
    set_health(duo, "crashed")
    set_health(duo, "running")
    assert "polite" not in on_node(duo, EDGE, "ls", "/data")


def test_others_hear_nothing_of_a_crash(
    duo: paths.Paths, start: Callable[..., subprocess.Popen[str]]
) -> None:
    """A machine without power sends no farewell: its peers' connections stay open."""
    start(EDGE, sys.executable, "-S", "-c", ECHO)
    assert eventually(lambda: ":7000" in beside(duo, "ss", "-ltn"))
    client = start(CLOUD, sys.executable, "-S", "-c", TALK, EDGE)
    established = lambda: on_node(duo, CLOUD, "ss", "-Htn", "state", "established").strip()  # noqa: E731
    assert eventually(established)

    set_health(duo, "crashed")

    time.sleep(0.3)
    assert ":7000" in established()
    assert client.poll() is None


def test_of_two_layers_the_harsher_holds_until_it_is_healed(duo: paths.Paths) -> None:
    set_health(duo, "paused", "nap")
    set_health(duo, "crashed", "boom")
    assert pkgctl("exec", "--name", duo.name, EDGE, "true").stderr.count("is crashed") == 1

    set_health(duo, "running", "boom")
    assert pkgctl("exec", "--name", duo.name, EDGE, "true").stderr.count("is paused") == 1

    set_health(duo, "running", "nap")
    on_node(duo, EDGE, "true")


@pytest.mark.parametrize("word", ["paused", "stopped", "crashed"])
def test_no_command_begins_on_a_node_that_is_down(duo: paths.Paths, word: str) -> None:
    set_health(duo, word)

    refused = pkgctl("exec", "--name", duo.name, EDGE, "true")

    assert refused.returncode == 1
    assert refused.stderr.splitlines() == [f"pkgctl: node {EDGE} is {word}: nothing starts there"]


# Cut short.


def cut_short(place: paths.Paths, word: str, number: int, moment: str) -> bool:
    """Make a change in a process that is killed at one of its steps; return whether it was.

    Args:
        word: the health, "running" to heal.
        number: the step, counted from 0.
        moment: "early" is before the step, "late" is after it.
    """
    child = os.fork()
    if child == 0:
        try:
            _die_at(number, moment)
            set_health(place, word)
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status)


def _die_at(number: int, moment: str) -> None:
    left = iter(range(number, -100, -1))

    def cut(act: Callable[[Any], None]) -> Callable[[Any], None]:
        def acted(identity: Any) -> None:
            last = next(left) == 0
            if last and moment == "early":
                os.kill(os.getpid(), signal.SIGKILL)
            act(identity)
            if last:
                os.kill(os.getpid(), signal.SIGKILL)

        return acted

    health._ACTS = {step: cut(act) for step, act in health._ACTS.items()}


def sleeping(place: paths.Paths) -> subprocess.Popen[bytes]:
    """Return a process in the edge node's control group."""
    session = cgroups.group(f"{place.cgroup}/nodes/{EDGE}").child("session")
    session.create()
    return subprocess.Popen(["sleep", "1000"], preexec_fn=session.join)


def converge(place: paths.Paths) -> None:
    with testbed.inside(place, EDGE) as node:
        health.converge(node)


@pytest.mark.parametrize("moment", ["early", "late"])
@pytest.mark.parametrize("word", ["paused", "stopped", "crashed"])
def test_what_is_cut_short_at_any_step_is_resumed(duo: paths.Paths, word: str, moment: str) -> None:
    on_node(duo, EDGE, "sh", "-c", "echo kept >/data/file; sync")
    before = groups(duo)
    number, cuts = 0, 1
    while cuts:
        beside(duo, "touch", "/tmp/file", "/run/file", "/dev/shm/file")
        sleeper = sleeping(duo)
        cuts = cut_short(duo, word, number, moment)
        converge(duo)
        assert drift(duo) == []
        assert (processes(duo) == []) is (word != "paused")

        cuts += cut_short(duo, "running", number, moment)
        converge(duo)
        assert drift(duo) == []
        assert beside(duo, "cat", "/data/file") == "kept\n"
        assert (sleeper.poll() is None) is (word == "paused")
        sleeper.kill()
        sleeper.wait()
        number += 1
    assert reaches(duo)
    assert groups(duo) == before
    assert number > 2


def test_a_crash_that_was_cut_short_does_not_come_back_alive(duo: paths.Paths) -> None:
    sleeper = sleeping(duo)
    assert cut_short(duo, "crashed", 0, "late")  # Only its links are closed.
    assert sleeper.poll() is None

    set_health(duo, "running")

    assert sleeper.wait(PATIENCE) == -signal.SIGKILL


# Jobs, and what schedulers see.


@pytest.fixture
def backend(duo: paths.Paths) -> Iterator[LocalBackend]:
    made = LocalBackend(duo)
    yield made
    made.close()


def service(name: str = "web-1") -> Job:
    return Job(id=name, resources=Resources(0.1, 32 << 20))


def run_service(backend: LocalBackend, name: str = "web-1") -> None:
    backend.start(service(name), EDGE, submitted=time.monotonic(), decided=time.monotonic())
    ready = lambda: backend.jobs[name].is_ready  # noqa: E731
    assert backend.wait(ready, time.monotonic() + PATIENCE, lambda _: None)


@pytest.mark.parametrize("word", ["stopped", "crashed"])
def test_jobs_of_a_node_that_is_switched_off_have_failed(
    duo: paths.Paths, backend: LocalBackend, word: str
) -> None:
    run_service(backend)

    set_health(duo, word)

    over = lambda: backend.jobs["web-1"].has_ended  # noqa: E731
    assert backend.wait(over, time.monotonic() + PATIENCE, lambda _: None)
    job = backend.jobs["web-1"]
    assert (job.status, job.error, job.lost) == ("failed", f"node {EDGE} {word}", True)
    set_health(duo, "running")
    assert backend.jobs["web-1"].status == "failed"
    assert eventually(lambda: not any("job-web-1" in group for group in groups(duo)))


def test_jobs_of_a_paused_node_go_on_after_it(duo: paths.Paths, backend: LocalBackend) -> None:
    run_service(backend)
    pid = processes(duo, "job-web-1")

    set_health(duo, "paused")
    set_health(duo, "running")

    assert processes(duo, "job-web-1") == pid
    assert backend.jobs["web-1"].is_ready


@pytest.mark.parametrize("word", ["paused", "stopped", "crashed"])
def test_schedulers_see_a_lost_node_and_its_return(
    duo: paths.Paths, backend: LocalBackend, word: str
) -> None:
    heard: list[NodeEvent] = []

    def listen() -> NodeEvent:
        is_told = lambda: len(heard) > told  # noqa: E731
        told = len(heard)
        note = lambda event: heard.append(event) if isinstance(event, NodeEvent) else None  # noqa: E731
        assert backend.wait(is_told, time.monotonic() + PATIENCE, note)
        return heard[-1]

    assert backend.view().by_name[EDGE].ready
    set_health(duo, word)
    event = listen()

    assert (event.node, event.health, event.is_ready) == (EDGE, word, False)
    view = backend.view()
    assert not view.by_name[EDGE].ready and view.by_name[CLOUD].ready
    with pytest.raises(NodeLostError, match=f"node {EDGE} is {word}"):
        backend.start(service(), EDGE, submitted=0.0, decided=0.0)

    set_health(duo, "running")
    assert listen().is_ready
    assert backend.view().by_name[EDGE].ready
    run_service(backend)


def test_a_job_that_is_removed_during_a_pause_leaves_nothing(
    duo: paths.Paths, backend: LocalBackend
) -> None:
    run_service(backend)
    set_health(duo, "paused")

    backend.remove(["web-1"])
    set_health(duo, "running")

    assert eventually(lambda: not any("job-web-1" in group for group in groups(duo)))
    assert eventually(lambda: processes(duo) == [])


# Load.


def set_load(place: paths.Paths, layer: str, **body: float) -> change.Change:
    with testbed.inside(place, EDGE) as node:
        return stress.change(node, layer=layer, body=body, present=bool(body))


def cpu_seconds(place: paths.Paths, layer: str) -> float:
    """Return what a layer's processes have used, by /proc and not by control groups."""
    ticks = 0
    for pid in processes(place, f"stress-{layer}"):
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def resident(place: paths.Paths, layer: str) -> int:
    pages = [
        int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        for pid in processes(place, f"stress-{layer}")
    ]
    return max(pages, default=0) * os.sysconf("SC_PAGE_SIZE")


@needs_stress
def test_a_load_on_the_processor_is_seen_and_goes_away(duo: paths.Paths) -> None:
    before = groups(duo)

    assert set_load(duo, "hot", cpu=0.5).changed

    assert eventually(lambda: cpu_seconds(duo, "hot") > 0.3)
    assert not set_load(duo, "hot", cpu=0.5).changed
    pids = processes(duo, "stress-hot")
    set_load(duo, "hot")
    assert groups(duo) == before
    assert not any(_is_alive(pid) for pid in pids)


def _is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


@needs_stress
def test_layers_of_load_run_beside_each_other(duo: paths.Paths) -> None:
    amount = 40 << 20
    set_load(duo, "full", memory=amount)
    set_load(duo, "busy", io=1)

    assert eventually(lambda: resident(duo, "full") > amount)
    files = lambda: beside(duo, "find", "/data/.pkgctl-stress-busy", "-type", "d").split()  # noqa: E731
    assert eventually(lambda: len(files()) > 1)

    set_load(duo, "full")
    assert processes(duo, "stress-full") == []
    assert processes(duo, "stress-busy")
    set_load(duo, "busy")
    assert on_node(duo, EDGE, "ls", "-A", "/data").split() == ["lost+found"]


@needs_stress
def test_a_load_outlives_its_starter_and_shares_its_nodes_fate(duo: paths.Paths) -> None:
    script = (
        "import sys; from pkgctl.local import paths, testbed; from pkgctl.nodeside import stress\n"
        "with testbed.inside(paths.paths(sys.argv[1]), 'edge-1') as node:\n"
        "    stress.change(node, layer='hot', body={'cpu': 0.3, 'io': 1})"
    )
    subprocess.run([sys.executable, "-c", script, duo.name], check=True, timeout=240)
    assert eventually(lambda: cpu_seconds(duo, "hot") > 0.05)

    set_health(duo, "paused")
    used = cpu_seconds(duo, "hot")
    time.sleep(0.3)
    assert cpu_seconds(duo, "hot") == used
    set_health(duo, "running")
    assert eventually(lambda: cpu_seconds(duo, "hot") > used)

    set_health(duo, "crashed")
    assert processes(duo) == []
    assert not any("stress-" in group for group in groups(duo))
    set_health(duo, "running")
    assert eventually(lambda: cpu_seconds(duo, "hot") > 0.05)
    set_load(duo, "hot")
    assert on_node(duo, EDGE, "ls", "-A", "/data").split() == ["lost+found"]


@needs_stress
def test_a_load_that_was_healed_while_its_node_was_down_stays_away(duo: paths.Paths) -> None:
    set_load(duo, "hot", cpu=0.2, io=1)
    set_load(duo, "cold", cpu=0.1)
    set_health(duo, "paused", "nap")
    set_load(duo, "cold")
    set_health(duo, "crashed", "boom")
    set_load(duo, "hot")

    set_health(duo, "running", "boom")
    set_health(duo, "running", "nap")

    assert not any("stress-" in group for group in groups(duo))
    assert on_node(duo, EDGE, "ls", "-A", "/data").split() == ["lost+found"]
