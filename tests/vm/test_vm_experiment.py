# SPDX-License-Identifier: GPL-3.0-or-later
"""Jobs, the live view and a whole experiment on virtual machines of a host of the tests' own."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from tests import needs
from tests.vm.hypervisor import Hypervisor, hypervisor

pytestmark = pytest.mark.vm("pulumi", "libvirt", "qemu", "image", "ssh")

TOPOLOGY = """\
name: pair
sites: {cloud: {access: lan}, edge: {access: lan}}
kinds: {node: {cpu: 1, memory: 192Mi}}
nodes:
  - {name: cloud-1, site: cloud, kind: node, role: cloud}
  - {name: edge-1, site: edge, kind: node, role: edge}
links:
  - {from: cloud, to: edge, rate: 20mbit, delay: 10ms, symmetric: true}
"""
EXPERIMENT = """\
name: tiny
question: Does an experiment do on machines what it says?
topology: FOLDER/pair.yaml
seed: 3
verify: none
factors: {perturb: [none, slow]}
perturbations:
  slow: {src: edge-1, dst: cloud-1, delay: 1s, start: 1s, duration: 2s}
services:
  web:
    replicas: 1
    place: {on: cloud-1}
    resources: {cpu: 800m, memory: 48Mi}
    request: {cpu: 1ms, in: 100, out: 1000}
    slo: {latency: 500ms, at: 90%}
load:
  - {service: web, from: edge-1, arrivals: {constant: 5/s}, duration: 4s}
"""
# Emulated machines that share a busy one are slow to do anything.
PATIENCE = 1800.0


@dataclass
class Bench:
    """A testbed of virtual machines, and how pkgctl is run where it can reach them."""

    host: Hypervisor
    folder: Path
    environment: dict[str, str]

    def pkgctl(self, *words: str) -> subprocess.CompletedProcess[str]:
        return self.host.run(
            sys.executable,
            *("-m", "pkgctl", *words),
            environment=self.environment,
            timeout=PATIENCE,
        )

    def told(self, *words: str) -> Any:
        return json.loads(self.pkgctl(*words, "-o", "json").stdout)


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    with (
        hypervisor() as host,
        tempfile.TemporaryDirectory(prefix="pkgctl-state-") as state,
        tempfile.TemporaryDirectory(prefix="pkgctl-bench-") as folder,
    ):
        environment = {
            "PATH": needs.path(),
            "PKGCTL_STATE": state,
            "PKGCTL_TESTBED": f"x{uuid.uuid4().hex[:8]}",
            "PYTHONPATH": str(Path(__file__).parents[2]),
        }
        made = Bench(host, Path(folder), environment)
        (made.folder / "pair.yaml").write_text(TOPOLOGY)
        (made.folder / "tiny.yaml").write_text(EXPERIMENT.replace("FOLDER", folder))
        try:
            made.pkgctl("up", f"{folder}/pair.yaml", "--provider", "libvirt")
            yield made
        finally:
            made.pkgctl("down")


def test_a_job_runs_on_a_machine_and_its_steps_are_by_our_clock(bench):
    words = ("hello", "--batch", "--cpu", "0.9", "--cpu-seconds", "0.1", "--on", "node=edge-1")
    (job,) = bench.told("job", "run", *words, "--wait", "--timeout", "600s")
    (listed,) = bench.told("job", "list")

    assert (job["node"], listed["status"]) == ("edge-1", "finished")
    # What came first has the smaller stamp, whichever machine stamped it.
    moments = [
        listed["stamps"][step] for step in ("submitted", "decided", "started", "ready", "finished")
    ]
    assert moments == sorted(moments)
    assert bench.told("job", "rm", "hello") == ["hello-0"]
    assert bench.told("job", "list") == []


def test_the_live_view_shows_what_machines_use_and_what_is_asked_of_their_links(bench):
    picture = bench.told("top", "--once")

    assert {node["name"]: node["health"] for node in picture["nodes"]} == {
        "cloud-1": "running",
        "edge-1": "running",
    }
    assert all(node["memory"] is not None for node in picture["nodes"])
    assert {(link["src"], link["dst"]) for link in picture["links"]} == {
        ("cloud-1", "edge-1"),
        ("edge-1", "cloud-1"),
    }


def test_an_experiment_loads_disturbs_measures_and_leaves_the_machines_as_they_were(bench):
    results = bench.folder / "results"
    bench.told("experiment", f"{bench.folder}/tiny.yaml", "--results", f"{results}")
    (results,) = results.iterdir()
    record = json.loads((results / "run.json").read_text())

    states = [run["status"] for cell in record["cells"] for run in cell["runs"]]
    assert states == ["done", "done"]
    assert set(record["clocks"]) == {"cloud-1", "edge-1"}
    assert all(0.0 < clock["bound"] < 1.0 for clock in record["clocks"].values())
    requests = pl.concat(
        pl.read_parquet(path) for path in sorted(results.glob("cells/*/requests.parquet"))
    )
    assert requests.group_by("cell").len()["len"].to_list() == [20, 20]
    bound = max(clock["bound"] for clock in record["clocks"].values())
    events = pl.read_parquet(results / "events.parquet").filter(pl.col("name") == "slow")
    switched = events.filter(pl.col("kind").is_in(["layer-on", "layer-off"]))
    assert sorted(switched["planned"].round(0).unique()) == [1.0, 3.0]
    # The bound is that of one moment; answers of a starved machine come late, and it grows.
    assert (switched["planned"] - switched["planned"].round(0)).abs().max() <= 6 * bound + 0.03
    assert _latency(requests, "slow", 1.5, 2.5) > _latency(requests, "none", 1.5, 2.5) + 0.8
    assert bench.told("status")["layers"] == []
    assert bench.told("job", "list") == []


def _latency(requests: pl.DataFrame, perturb: str, start: float, end: float) -> float:
    """Return the median latency of what was to be sent between two times."""
    chosen = requests.filter(
        pl.col("cell").str.contains(perturb) & pl.col("intended").is_between(start, end)
    )
    return float((chosen["done"] - chosen["intended"]).median())
