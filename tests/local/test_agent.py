# SPDX-License-Identifier: GPL-3.0-or-later
"""The agent runs jobs inside nodes, samples them, fires timelines, and survives being killed."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pkgctl import project
from pkgctl.errors import TestbedError
from pkgctl.local.agent import AgentClient
from pkgctl.local.paths import Paths
from pkgctl.nodeside import cgroups

from .conftest import on_node

pytestmark = pytest.mark.root
PYTHON = [sys.executable, "-S", "-E"]
MIB = 1 << 20


@pytest.fixture
def agent(three_sites: Paths) -> Iterator[AgentClient]:
    client = AgentClient(three_sites)
    try:
        yield client
    finally:
        client.close()


def program(name: str, *words: str) -> list[str]:
    return [*PYTHON, str(project.programs() / f"{name}.py"), *words]


def job(agent: AgentClient, name: str) -> dict[str, Any]:
    return next(each for each in agent.call("job-list")["jobs"] if each["id"] == name)


def wait_for(agent: AgentClient, name: str, *statuses: str) -> dict[str, Any]:
    deadline = time.monotonic() + 240
    while (found := job(agent, name))["status"] not in statuses:
        assert time.monotonic() < deadline, f"{name} stays {found['status']}: {found['error']}"
        time.sleep(0.02)
    return found


def eventually(holds: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 240
    while not holds() and time.monotonic() < deadline:
        time.sleep(0.02)
    return holds()


def sleeper(seconds: float = 60) -> list[str]:
    return ["/bin/sleep", str(seconds)]


def start_registry(agent: AgentClient) -> None:
    argv = program("registry", "--port", "5000")
    agent.call("job-start", id="registry", node="cloud-1", argv=argv, outside=True)
    wait_for(agent, "registry", "running")


def artifact(size: int) -> dict[str, Any]:
    url = f"http://cloud-1:5000/artifacts/web?bytes={size}"
    return {"name": "web", "bytes": size, "url": url}


def test_a_job_is_stamped_through_its_life(agent: AgentClient) -> None:
    agent.call("job-start", id="crunch", node="edge-1", argv=["/bin/true"], ready="exec")

    done = wait_for(agent, "crunch", "finished")

    steps = ["submitted", "decided", "started", "ready", "finished"]
    assert [done["stamps"][step] for step in steps] == sorted(
        done["stamps"][step] for step in steps
    )
    assert done["exit"] == 0


def test_a_job_runs_in_its_node_under_its_limits(agent: AgentClient, three_sites: Paths) -> None:
    argv = ["/bin/sh", "-c", "hostname; exec sleep 60"]
    limits = {"cpu": 0.1, "memory": 32 * MIB}
    agent.call("job-start", id="web", node="edge-4", argv=argv, ready="exec", **limits)

    own = cgroups.group(f"{three_sites.cgroup}/nodes/edge-4").child("job-web")
    assert own.cpu() == pytest.approx(0.1)
    assert own.memory() == 32 * MIB
    log = three_sites.run / "logs" / "web.log"
    assert eventually(lambda: log.exists() and log.read_text() == "edge-4\n")


def test_a_resize_changes_the_limits_and_not_the_process(agent: AgentClient) -> None:
    agent.call("job-start", id="web", node="edge-4", argv=sleeper(), ready="exec", cpu=0.1)
    first = job(agent, "web")["pid"]

    agent.call("job-resize", id="web", cpu=0.3, memory=64 * MIB)

    after = job(agent, "web")
    assert (after["pid"], after["cpu"], after["memory"]) == (first, 0.3, 64 * MIB)


def test_a_cold_start_fetches_its_artifact_over_the_link_and_a_warm_one_does_not(
    agent: AgentClient,
) -> None:
    start_registry(agent)
    serve = {"node": "edge-2", "artifact": artifact(MIB), "cpu": 0.2, "memory": 64 * MIB}
    for name, port in (("cold", "8080"), ("warm", "8081")):
        argv = program("service", "--port", port, "--memory", str(MIB))
        agent.call("job-start", id=name, argv=argv, **serve)
        wait_for(agent, name, "running")

    cold, warm = job(agent, "cold"), job(agent, "warm")
    pulled = {
        each["id"]: each["stamps"]["artifact"] - each["stamps"]["decided"] for each in (cold, warm)
    }
    assert (cold["cached"], warm["cached"]) == (False, True)
    # 1 MiB over 20 mbit takes 0.44 s at least.
    assert pulled["cold"] > 0.44
    assert pulled["warm"] < 0.1
    assert agent.call("artifact-drop", node="edge-2", name="web")["dropped"] == ["web"]
    assert agent.call("artifact-list", node="edge-2")["artifacts"] == []


def test_two_jobs_that_need_the_same_artifact_fetch_it_once(agent: AgentClient) -> None:
    start_registry(agent)
    for name in ("one", "two"):
        agent.call(
            "job-start",
            id=name,
            node="edge-1",
            argv=["/bin/true"],
            artifact=artifact(MIB),
            ready="exec",
        )

    for name in ("one", "two"):
        wait_for(agent, name, "finished")

    stamps = [job(agent, name)["stamps"]["artifact"] for name in ("one", "two")]
    assert stamps[1] == pytest.approx(stamps[0], abs=0.05)


def test_a_fetch_that_is_called_off_is_taken_up_by_who_else_waits(agent: AgentClient) -> None:
    start_registry(agent)
    for name in ("first", "second"):
        agent.call(
            "job-start",
            id=name,
            node="edge-1",
            argv=["/bin/true"],
            artifact=artifact(2 * MIB),
            ready="exec",
        )

    agent.call("job-stop", id="first")

    assert wait_for(agent, "first", "stopped", "finished")["status"] == "stopped"
    assert wait_for(agent, "second", "finished", "failed")["status"] == "finished"


def test_a_job_whose_artifact_cannot_be_had_fails_in_words(agent: AgentClient) -> None:
    agent.call(
        "job-start",
        id="web",
        node="edge-1",
        argv=["/bin/true"],
        artifact=artifact(MIB),
        ready="exec",
    )

    assert "fetch.py" in wait_for(agent, "web", "failed")["error"]


def test_a_failing_job_says_its_last_words(agent: AgentClient) -> None:
    argv = ["/bin/sh", "-c", "echo it broke; exit 3"]
    agent.call("job-start", id="bad", node="edge-1", argv=argv, ready="exec")

    failed = wait_for(agent, "bad", "failed")

    assert (failed["exit"], failed["error"]) == (3, "ended with status 3: it broke")


def test_a_stop_asks_first_and_kills_when_its_grace_is_over(agent: AgentClient) -> None:
    stubborn = ["/bin/sh", "-c", 'trap "" TERM; while :; do sleep 1; done']
    agent.call("job-start", id="mule", node="edge-1", argv=stubborn, ready="exec")
    time.sleep(0.2)

    agent.call("job-stop", id="mule", grace=0.3)

    assert wait_for(agent, "mule", "stopped")["stamps"]["finished"] > 0


def test_jobs_go_on_when_the_agent_is_killed(three_sites: Paths) -> None:
    with AgentClient(three_sites) as agent:
        agent.call("job-start", id="long", node="edge-1", argv=sleeper(), ready="exec")
        argv = ["/bin/sh", "-c", "sleep 1; exit 4"]
        agent.call("job-start", id="short", node="edge-1", argv=argv, ready="exec")
        first, pid = job(agent, "long")["pid"], agent.call("ping")["pid"]
        os.kill(pid, signal.SIGKILL)
    time.sleep(1.3)

    with AgentClient(three_sites) as agent:
        assert agent.call("ping")["pid"] != pid
        assert (job(agent, "long")["status"], job(agent, "long")["pid"]) == ("running", first)
        assert (job(agent, "short")["status"], job(agent, "short")["exit"]) == ("failed", 4)
        agent.call("job-remove", id="long")
    assert not Path(f"/proc/{first}/exe").exists()


def test_samples_show_what_a_job_uses(agent: AgentClient, three_sites: Paths) -> None:
    burn = ["/bin/sh", "-c", "while :; do :; done"]
    agent.call("job-start", id="burn", node="edge-4", argv=burn, ready="exec", cpu=0.2)
    with AgentClient(three_sites) as other:
        stream = other.stream("samples", interval=0.2)
        shots = [next(stream) for _ in range(6)]

    def used(shot: dict[str, Any], key: str, owner: str | None) -> float:
        rows = (row for row in shot["rows"] if (row["node"], row["job"]) == ("edge-4", owner))
        return float(next(rows)[key])

    seconds = shots[-1]["mono"] - shots[0]["mono"]
    for owner in (None, "burn"):
        spent = used(shots[-1], "cpu_seconds", owner) - used(shots[0], "cpu_seconds", owner)
        assert spent / seconds == pytest.approx(0.2, abs=0.07)
    assert used(shots[-1], "throttled_seconds", "burn") > 0


def test_a_timeline_happens_on_time_and_undoes_itself(
    agent: AgentClient, three_sites: Paths
) -> None:
    step = {"kind": "link", "layer": "slow", "times": {"start": 0.3, "duration": 0.4}}
    body = {"egress": {"cloud-1": {"rate": 5_000_000}}}
    arm = {"timeline": "run", "node": "edge-1", "body": body, **step}
    assert agent.call("timeline-arm", **arm)["changed"] is True
    assert agent.call("timeline-arm", **arm)["changed"] is False
    with AgentClient(three_sites) as other:
        stream = other.stream("events")
        begun = time.clock_gettime(time.CLOCK_MONOTONIC)
        agent.call("timeline-start", timeline="run", t0=begun)
        on, off = (next(stream) for _ in range(2))

    assert [(each["action"], each["error"]) for each in (on, off)] == [("on", None), ("off", None)]
    assert on["planned"] == pytest.approx(begun + 0.3)
    assert off["planned"] == pytest.approx(begun + 0.7)
    assert all(each["planned"] <= each["actual"] for each in (on, off))
    assert "5Mbit" not in on_node(three_sites, "edge-1", "tc", "class", "show", "dev", "eth0")


@pytest.mark.parametrize(
    ("op", "fields", "words"),
    [
        ("nonsense", {}, "unknown request; known are ping"),
        ("job-start", {"id": "x", "node": "edge-9", "argv": ["/bin/true"]}, "no node 'edge-9'"),
        ("job-start", {"id": "a/b", "node": "edge-1", "argv": ["/bin/true"]}, "no name of a job"),
        ("job-start", {"id": "x", "node": "edge-1", "argv": []}, "argv"),
        ("job-start", {"id": "x", "node": "edge-1", "argv": ["true"], "cpu": -1}, "above zero"),
        ("job-stop", {"id": "nobody"}, "no job 'nobody'"),
        ("job-start", {"id": "x", "wrong": 1}, "bad request"),
        ("timeline-arm", {"timeline": "t"}, "bad request"),
    ],
)
def test_a_bad_request_is_answered_in_words(
    agent: AgentClient, op: str, fields: dict[str, Any], words: str
) -> None:
    with pytest.raises(TestbedError, match=words):
        agent.call(op, **fields)
    assert agent.call("ping")["ok"]


def test_two_jobs_of_one_name_are_refused(agent: AgentClient) -> None:
    agent.call("job-start", id="x", node="edge-1", argv=sleeper(), ready="exec")

    with pytest.raises(TestbedError, match="job x is there already, on edge-1"):
        agent.call("job-start", id="x", node="edge-2", argv=sleeper(), ready="exec")


def test_healing_calls_off_what_was_still_to_come(agent: AgentClient, three_sites: Paths) -> None:
    body = {"egress": {"cloud-1": {"rate": 5_000_000}}}
    arm = {"timeline": "run", "node": "edge-1", "kind": "link", "layer": "slow", "body": body}
    agent.call("timeline-arm", times={"start": 0.4}, **arm)
    agent.call("timeline-start", timeline="run", t0=time.clock_gettime(time.CLOCK_MONOTONIC))
    healed = {"node": "edge-1", "layer": None, "kinds": ["link"]}

    assert agent.call("timeline-cancel", dry_run=True, **healed)["steps"] == 1
    assert agent.call("timeline-cancel", **healed)["steps"] == 1
    assert agent.call("timeline-cancel", **healed)["steps"] == 0

    time.sleep(0.6)
    assert "5Mbit" not in on_node(three_sites, "edge-1", "tc", "class", "show", "dev", "eth0")
