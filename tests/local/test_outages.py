# SPDX-License-Identifier: GPL-3.0-or-later
"""Nodes that go down under playbooks and experiments, and what these make of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import polars as pl
import pytest

from pkgctl.local import paths

from .conftest import on_node, pkgctl
from .test_experiment import Lab

pytestmark = pytest.mark.root

TOOLS = Path(sys.executable).parent
ANSIBLE = Path(__file__).parents[2] / "ansible"
OUTAGE = """\
name: outage
question: What does a crash cost?
topology: duo
seed: 3
verify: none
services:
  web:
    replicas: 1
    place: {on: PLACE, scheduler: round-robin}
    resources: {cpu: 200m, memory: 32Mi}
    request: {cpu: 1ms, in: 100, out: 1000}
load:
  - {service: web, from: edge-1, arrivals: {constant: 40/s}, duration: 5s, timeout: 500ms}
perturbations:
  boom: {node: cloud-1, health: crashed, start: 500ms, duration: 1500ms}
"""


def ansible(place: paths.Paths, *words: str) -> subprocess.Popen[str]:
    """Begin an ad-hoc task on the edge node."""
    return subprocess.Popen(
        [str(TOOLS / "ansible"), "edge-1", *words],
        cwd=ANSIBLE,
        env={**os.environ, "PKGCTL_TESTBED": place.name},
        stdout=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("word", ["paused", "crashed"])
def test_tasks_find_a_node_that_is_down_unreachable_and_healing_does_not(
    duo: paths.Paths, word: str
) -> None:
    done = pkgctl("perturb", "node=edge-1", f"health={word}", "name=it", name=duo.name)
    assert done.returncode == 0, done.stderr

    for words in (["-m", "ping"], ["-m", "command", "-a", "true", "-e", "pkgctl_limits=false"]):
        with ansible(duo, *words) as task:
            said, _ = task.communicate(timeout=240)
        assert "UNREACHABLE" in said
        assert f"node edge-1 is {word}" in said

    done = pkgctl("heal", "it", name=duo.name)
    assert done.returncode == 0, done.stderr
    with ansible(duo, "-m", "ping") as task:
        assert "pong" in task.communicate(timeout=240)[0]


def test_a_task_whose_node_crashes_under_it_is_unreachable(duo: paths.Paths) -> None:
    with ansible(duo, "-m", "command", "-a", "sleep 1000") as task:
        deadline = time.monotonic() + 240
        while "sleep 1000" not in on_node(duo, "edge-1", "ps", "-eo", "args"):
            assert time.monotonic() < deadline
        done = pkgctl("perturb", "node=edge-1", "health=crashed", "name=it", name=duo.name)
        assert done.returncode == 0, done.stderr
        said, _ = task.communicate(timeout=240)

    assert "UNREACHABLE" in said


def test_jobs_are_not_placed_on_a_node_that_is_down(duo: paths.Paths) -> None:
    pkgctl("perturb", "node=edge-1", "health=stopped", "name=it", name=duo.name)

    started = pkgctl("job", "run", "web", "--service", "--replicas", "2", name=duo.name)

    assert started.returncode == 0, started.stderr
    jobs = json.loads(pkgctl("job", "list", "-o", "json", name=duo.name).stdout)
    assert {job["node"] for job in jobs} == {"cloud-1"}
    refused = pkgctl("job", "run", "x", "--batch", "--on", "node=edge-1", name=duo.name)
    assert "not ready" in refused.stdout + refused.stderr


@pytest.fixture
def lab(place: paths.Paths, tmp_path: Path) -> Lab:
    return Lab(tmp_path, place)


def test_a_replica_whose_node_crashes_is_replaced_elsewhere(lab: Lab) -> None:
    done = lab.run(OUTAGE.replace("PLACE", "[cloud-1, edge-1]"))

    assert done.returncode == 0, done.stderr
    first, second = (
        lab.table("jobs").filter(pl.col("service") == "web").sort("submitted").to_dicts()
    )
    assert (first["node"], first["status"], first["phase"]) == ("cloud-1", "failed", "deploy")
    assert (second["node"], second["status"], second["phase"]) == ("edge-1", "running", "replace")
    kinds = set(pl.read_parquet(lab.results / "events.parquet")["kind"])
    assert kinds == {"layer-on", "node-lost", "replace", "node-back", "layer-off"}
    answered = lab.table("requests").filter(pl.col("status") == "ok")["node"].to_list()
    assert {"cloud-1", "edge-1"} == set(answered)


def test_without_another_node_requests_fail_until_the_crashed_one_is_back(lab: Lab) -> None:
    done = lab.run(OUTAGE.replace("PLACE", "cloud-1"))

    assert done.returncode == 0, done.stderr
    jobs = lab.table("jobs").filter(pl.col("service") == "web").sort("submitted").to_dicts()
    assert [(job["node"], job["phase"]) for job in jobs] == [
        ("cloud-1", "deploy"),
        ("cloud-1", "replace"),
    ]
    (back,) = pl.read_parquet(lab.results / "events.parquet").filter(kind="layer-off")["t"]
    assert jobs[1]["started"] >= back
    during = pl.col("intended").is_between(0.6, back - 0.6)
    assert set(lab.table("requests").filter(during)["status"]) == {"timeout"}
    missed = pl.read_parquet(lab.results / "metrics.parquet").filter(metric="miss_share")
    assert missed.filter(phase="during")["mean"].item() > 0.5
    after = lab.table("requests").filter(pl.col("intended") > back, status="ok")
    assert after.height > 0
