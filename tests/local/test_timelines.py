# SPDX-License-Identifier: GPL-3.0-or-later
"""Armed layers on a real testbed: on time, ended whoever dies, and gone without a trace."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import string
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pkgctl.errors import TestbedError
from pkgctl.local import testbed
from pkgctl.local.agent import AgentClient
from pkgctl.local.paths import Paths
from pkgctl.local.removal import down
from pkgctl.nodeside import channel, delayclient
from pkgctl.nodeside import errors as node_errors

from .conftest import on_node, traces_of
from .pictures import differences, picture

pytestmark = pytest.mark.root

LINK = {
    "egress": {"cloud-1": {"rate": 5_000_000}},
    "ingress": {"cloud-1": {"delay": 0.04, "loss": 0.02}},
}
STEPS: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "plain": ("link", LINK, {"duration": 2.0}),
    "flap": ("link", LINK, {"duration": 2.5, "flap": {"on": 0.2, "off": 0.1, "random": True}}),
    "ramp": ("link", LINK, {"duration": 2.5, "ramp": {"seconds": 2.0, "steps": None}}),
    "starved": ("quota", {"cpu": 0.2, "read_bps": 1 << 20}, {"duration": 2.2}),
    "readonly": ("disk", {"data": {"condition": "readonly"}}, {"duration": 2.0}),
    "paused": ("health", {"health": "paused"}, {"duration": 1.5, "start": 0.3}),
}


def now() -> float:
    return time.clock_gettime(time.CLOCK_MONOTONIC)


def eventually(holds: Callable[[], bool], patience: float = 240.0) -> bool:
    deadline = now() + patience
    while not holds() and now() < deadline:
        time.sleep(0.02)
    return holds()


@pytest.fixture
def agent(three_sites: Paths) -> Iterator[AgentClient]:
    with AgentClient(three_sites) as client:
        yield client


def arm(agent: AgentClient, layer: str, node: str, kind: str, body: Any, **times: Any) -> None:
    step = {"timeline": "run", "layer": layer, "node": node, "kind": kind}
    assert agent.call("timeline-arm", **step, body=body, times=times)["changed"]


def is_quiet(place: Paths) -> bool:
    """Whether an agent is there and has nothing more to do."""
    try:
        listed = channel.call(place.agent / testbed.AGENT_SOCKET, "timeline-list")
        leases = channel.call(place.agent / testbed.AGENT_SOCKET, "lease-list")
    except node_errors.AgentError:
        return False
    return not listed["timelines"] and not leases["leases"]


def pid(place: Paths, name: str) -> int | None:
    op = "ping" if name == testbed.AGENT_SOCKET else "status"
    try:
        return int(channel.call(place.agent / name, op)["pid"])
    except node_errors.AgentError:
        return None


def kill(place: Paths, name: str, number: int = signal.SIGKILL) -> int:
    """Kill the agent or the delay line and return who it was."""
    assert eventually(lambda: pid(place, name) is not None)
    first = pid(place, name)
    assert first is not None
    os.kill(first, number)
    return first


def is_another(place: Paths, name: str, first: int) -> bool:
    return pid(place, name) not in (None, first)


def test_every_kind_ends_on_time_though_nobody_is_there_to_end_it(three_sites: Paths) -> None:
    before = picture(three_sites)
    with AgentClient(three_sites) as agent:
        for layer, (kind, body, times) in STEPS.items():
            node = "edge-2" if kind == "health" else "edge-1"
            arm(agent, layer, node, kind, body, **times)
        assert agent.call("timeline-start", timeline="run", t0=now())["steps"] == len(STEPS)
    assert eventually(lambda: differences(before, picture(three_sites)) != [])

    assert eventually(lambda: is_quiet(three_sites))
    assert differences(before, picture(three_sites)) == []
    with AgentClient(three_sites) as agent:
        stream = agent.stream("events", since=0)
        told = [event for event in (next(stream) for _ in range(2 * len(STEPS)))]
    assert [event["error"] for event in told if event["event"] == "layer"] == [None] * len(
        [event for event in told if event["event"] == "layer"]
    )


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_killed_agent_is_started_again_and_goes_on(three_sites: Paths, seed: int) -> None:
    rng = random.Random(seed)
    before = picture(three_sites)
    with AgentClient(three_sites) as agent:
        for layer, (kind, body, times) in STEPS.items():
            node = "edge-2" if kind == "health" else "edge-1"
            arm(agent, layer, node, kind, body, seed=seed, **times)
        agent.call("timeline-start", timeline="run", t0=now() + 0.1)

    for _ in range(3):
        time.sleep(rng.uniform(0.05, 0.8))
        first = kill(three_sites, testbed.AGENT_SOCKET)
        assert eventually(lambda first=first: is_another(three_sites, "agent.sock", first))  # type: ignore[misc]

    assert eventually(lambda: is_quiet(three_sites)), seed
    assert differences(before, picture(three_sites)) == [], seed


def test_an_agent_that_was_killed_resumes_in_the_middle(three_sites: Paths) -> None:
    with AgentClient(three_sites) as agent:
        arm(agent, "slow", "edge-1", "link", LINK, duration=15.0)
        agent.call("timeline-start", timeline="run", t0=now())
        assert eventually(lambda: "5Mbit" in shaped(three_sites))
        ends = agent.call("timeline-list")["timelines"][0]["steps"][0]["ends"]

    first = kill(three_sites, testbed.AGENT_SOCKET)
    assert eventually(lambda: is_another(three_sites, testbed.AGENT_SOCKET, first))

    with AgentClient(three_sites) as agent:
        (step,) = agent.call("timeline-list")["timelines"][0]["steps"]
        assert (step["on"], step["next"], step["ends"]) == (True, ends, ends)
    assert "5Mbit" in shaped(three_sites)
    assert eventually(lambda: "5Mbit" not in shaped(three_sites))


def shaped(place: Paths) -> str:
    return on_node(place, "edge-1", "tc", "class", "show", "dev", "eth0")


def test_a_torn_journal_costs_nothing_but_its_last_line(three_sites: Paths) -> None:
    with AgentClient(three_sites) as agent:
        arm(agent, "slow", "edge-1", "link", LINK, duration=2.5)
        agent.call("timeline-start", timeline="run", t0=now())
        assert eventually(lambda: "5Mbit" in shaped(three_sites))
    with (three_sites.run / "journal.jsonl").open("a") as file:
        file.write('{"boot":"')

    first = kill(three_sites, testbed.AGENT_SOCKET)

    assert eventually(lambda: is_another(three_sites, testbed.AGENT_SOCKET, first))
    assert eventually(lambda: is_quiet(three_sites))
    assert "5Mbit" not in shaped(three_sites)


def test_a_layer_goes_with_its_lease_and_stays_while_it_is_renewed(
    three_sites: Paths, agent: AgentClient
) -> None:
    before = picture(three_sites)
    for layer, kind, body in (("slow", "link", LINK), ("small", "quota", {"cpu": 0.2})):
        arm(agent, layer, "edge-1", kind, body, lease=1.0)
    with AgentClient(three_sites) as listener:
        listener.call("events", renew=True)
        agent.call("timeline-start", timeline="run", t0=now())
        time.sleep(2.5)
        assert "5Mbit" in shaped(three_sites)

    assert eventually(lambda: is_quiet(three_sites))
    assert differences(before, picture(three_sites)) == []


def test_what_jobs_count_begins_a_layer(three_sites: Paths, agent: AgentClient) -> None:
    counting = (
        "import os, socket, time\n"
        "job, place = os.environ['PKGCTL_JOB'], os.environ['NOTIFY_SOCKET']\n"
        "s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)\n"
        "for n in range(1, 40):\n"
        "    s.sendto(f'PKGCTL_JOB={job}\\nCOUNT=requests:{5 * n}'.encode(), place)\n"
        "    time.sleep(0.02)\n"
    )
    arm(agent, "slow", "edge-1", "quota", {"cpu": 0.2}, when="requests > 300", duration=0.3)
    with AgentClient(three_sites) as listener:
        stream = listener.stream("events")
        agent.call("timeline-start", timeline="run", t0=now())
        for name in ("one", "two"):
            argv = [sys.executable, "-S", "-E", "-c", counting]
            agent.call("job-start", id=name, node="edge-2", argv=argv, ready="exec")
        layers = (event for event in stream if event["event"] == "layer")
        told = [next(layers)["action"] for _ in range(2)]

    assert told == ["on", "off"]


def test_the_health_of_a_node_is_told_and_begins_what_waits_for_it(
    three_sites: Paths, agent: AgentClient
) -> None:
    arm(agent, "down", "edge-2", "health", {"health": "crashed"}, duration=0.5)
    arm(agent, "after", "edge-1", "quota", {"cpu": 0.2}, when="node edge-2 down", duration=0.2)
    with AgentClient(three_sites) as listener:
        stream = listener.stream("events")
        agent.call("timeline-start", timeline="run", t0=now())
        told = [next(stream) for _ in range(6)]

    assert [each["health"] for each in told if each["event"] == "node"] == ["crashed", "running"]
    begun = [(each["layer"], each["action"]) for each in told if each["event"] == "layer"]
    assert sorted(begun) == [("after", "off"), ("after", "on"), ("down", "off"), ("down", "on")]


def test_a_slow_change_holds_up_nothing_else(three_sites: Paths, agent: AgentClient) -> None:
    stubborn = "trap '' TERM; echo ready; while :; do sleep 0.1; done"
    enter = [sys.executable, "-m", "pkgctl", "exec", "--name", three_sites.name, "edge-2", "--"]
    arm(agent, "off", "edge-2", "health", {"health": "stopped"}, duration=3.0)
    arm(agent, "slow", "edge-1", "link", LINK, start=0.5, duration=0.2)
    with (
        subprocess.Popen([*enter, "/bin/sh", "-c", stubborn], stdout=subprocess.PIPE) as mule,
        AgentClient(three_sites) as listener,
    ):
        assert mule.stdout is not None
        assert mule.stdout.readline() == b"ready\n"
        stream = listener.stream("events")
        agent.call("timeline-start", timeline="run", t0=now())
        layers = (event for event in stream if event["event"] == "layer")
        told = [next(layers) for _ in range(4)]

    # Stopping takes its grace of two seconds; the link changes in the meantime.
    assert [(each["layer"], each["action"]) for each in told] == [
        ("slow", "on"),
        ("slow", "off"),
        ("off", "on"),
        ("off", "off"),
    ]


def test_a_step_that_the_node_cannot_be_is_refused_when_it_is_armed(agent: AgentClient) -> None:
    step = {"timeline": "run", "node": "edge-1", "layer": "slow", "times": {}}
    for kind, body, words in (
        ("link", {"egress": {"nobody": {}}}, "no peer 'nobody'"),
        ("quota", {"cpu": -1}, "above zero"),
        ("weather", {}, "unknown kind 'weather'"),
        ("health", {"health": "fine"}, "no health"),
    ):
        with pytest.raises(TestbedError, match=words):
            agent.call("timeline-arm", **step, kind=kind, body=body)
    assert agent.call("timeline-list")["timelines"] == []


def test_the_agent_and_the_delay_line_start_one_another(three_sites: Paths) -> None:
    for name in (testbed.AGENT_SOCKET, delayclient.SOCKET) * 2:
        first = kill(three_sites, name)
        assert eventually(lambda name=name, first=first: is_another(three_sites, name, first))  # type: ignore[misc]


def test_an_agent_that_is_asked_to_end_does_so_at_once_and_cleanly(three_sites: Paths) -> None:
    first = kill(three_sites, testbed.AGENT_SOCKET, signal.SIGTERM)

    assert eventually(lambda: is_another(three_sites, testbed.AGENT_SOCKET, first))
    assert "Traceback" not in (three_sites.agent / "agent.log").read_text()


def test_a_testbed_goes_down_though_its_daemons_start_one_another(duo: Paths) -> None:
    for name in (testbed.AGENT_SOCKET, delayclient.SOCKET):
        kill(duo, name)

    down(duo)

    time.sleep(0.3)
    assert traces_of(duo.name) == []


def malformed(rng: random.Random, known: list[str]) -> bytes:
    """Return a line that is no request that anybody could mean."""
    junk: list[Callable[[], Any]] = [
        lambda: None,
        lambda: rng.choice([float("nan"), float("inf"), -1e400, 1e300, -(1 << 70), 0, -1]),
        lambda: "".join(rng.choices(string.printable, k=rng.randrange(40))),
        lambda: "x" * rng.choice([1000, 100_000]),
        lambda: [junk[0]()] * rng.randrange(5),
        lambda: {"".join(rng.choices("abkind", k=3)): rng.random()},
        lambda: rng.choice(["edge-9", "../edge-1", "a/b", "base", "*", ".", "\0", "\ud800"]),
    ]
    keys = ["node", "kind", "layer", "body", "times", "timeline", "t0", "seconds", "id", "argv"]
    keys += ["kinds", "since", "interval", "name", "cpu", "memory", "grace", "keep", "dry_run"]
    style = rng.randrange(4)
    if style == 0:
        return rng.randbytes(rng.randrange(200)).replace(b"\n", b"")
    if style == 1:
        return b"[" * rng.randrange(1, 5000) + b"{" * rng.randrange(50)
    request = {key: rng.choice(junk)() for key in rng.sample(keys, rng.randrange(8))}
    request["op"] = rng.choice(known)
    line = json.dumps(request).encode()
    return line if style == 2 else line[: rng.randrange(len(line))]


def resident(process: int) -> int:
    """Return a process's resident bytes."""
    pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def test_ten_thousand_malformed_requests_change_nothing(
    three_sites: Paths, agent: AgentClient
) -> None:
    with pytest.raises(TestbedError, match="known are ") as refusal:
        agent.call("nonsense")
    known = str(refusal.value).partition("known are ")[2].split(", ")
    before, process = picture(three_sites), agent.call("ping")["pid"]
    seed = 7
    rng = random.Random(seed)
    sizes = []
    for part in range(4):
        with socket.socket(socket.AF_UNIX) as raw, raw.makefile("rb") as lines:
            raw.settimeout(30)
            raw.connect(str(three_sites.agent / testbed.AGENT_SOCKET))
            for number in range(2500):
                line = malformed(rng, known)
                raw.sendall(line + b"\n")
                answer = json.loads(lines.readline())
                while "ok" not in answer:  # A stream that it happened to ask for.
                    answer = json.loads(lines.readline())
                words = answer.get("error", "")
                assert "\n" not in words and len(words) <= 500, (seed, part, number)
        sizes.append(resident(process))

    assert agent.call("ping")["pid"] == process
    assert agent.call("timeline-list")["timelines"] == []
    assert differences(before, picture(three_sites)) == []
    assert sizes[-1] - sizes[0] < 16 << 20, sizes
    assert "Traceback" not in (three_sites.agent / "agent.log").read_text()
