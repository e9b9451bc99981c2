# SPDX-License-Identifier: GPL-3.0-or-later
"""Whole experiments and jobs by hand on testbeds of their own, through the command line."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from pkgctl.local import paths
from pkgctl.nodeside import cgroups

from .conftest import pkgctl, traces_of

pytestmark = pytest.mark.root

PATIENCE = 240.0
TINY = """\
name: tiny
question: Does an experiment do what it says?
topology: duo
seed: 3
verify: none
services:
  web:
    replicas: 1
    place: {on: cloud-1}
    resources: {cpu: 200m, memory: 32Mi}
    request: {cpu: 1ms, in: 100, out: 1000}
    slo: {latency: 40ms, at: 90%}
load:
  - {service: web, from: edge-1, arrivals: {constant: 40/s}, duration: 2s}
"""
DISTURBED = """\
factors: {perturb: [none, slow]}
perturbations:
  slow: {src: edge-1, dst: cloud-1, delay: 60ms, start: 500ms, duration: 1s}
"""
QUEUE = """\
name: queue
question: Do jobs run to their end?
topology: duo
verify: none
jobs:
  crunch:
    from: edge-1
    arrivals: {at: [0s, 100ms, 200ms, 300ms]}
    duration: 1s
    work: 50ms
    in: 10Ki
    out: 10Ki
    artifact: 100Ki
    resources: {cpu: 400m, memory: 32Mi}
"""


class Lab:
    """Runs experiments in a folder of their own, on a testbed of their own."""

    def __init__(self, folder: Path, place: paths.Paths) -> None:
        self.folder = folder
        self.place = place

    def words(self, text: str, *options: str) -> list[str]:
        (self.folder / "it.yaml").write_text(text)
        return ["experiment", "it.yaml", "--name", self.place.name, "-o", "json", *options]

    def run(self, text: str, *options: str) -> subprocess.CompletedProcess[str]:
        return pkgctl(*self.words(text, *options), cwd=self.folder)

    @contextlib.contextmanager
    def begun(self, text: str, *options: str) -> Iterator[subprocess.Popen[str]]:
        """Run an experiment while the block lasts; it is killed if it still runs then."""
        command = [sys.executable, "-m", "pkgctl", *self.words(text, *options)]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        with subprocess.Popen(command, cwd=self.folder, text=True, **pipes) as process:
            try:
                yield process
            finally:
                process.kill()

    @property
    def results(self) -> Path:
        (found,) = (self.folder / "results").iterdir()
        return found

    @property
    def record(self) -> dict[str, Any]:
        return json.loads((self.results / "run.json").read_text())

    @property
    def states(self) -> list[str]:
        return [run["status"] for cell in self.record["cells"] for run in cell["runs"]]

    def has_measured(self) -> bool:
        found = list(self.folder.glob("results/*/run.json"))
        return bool(found) and "done" in self.states

    def table(self, name: str) -> pl.DataFrame:
        return pl.concat(
            pl.read_parquet(path) for path in sorted(self.results.glob(f"cells/*/{name}.parquet"))
        )

    def layers(self) -> list[str]:
        nodes = json.loads(pkgctl("status", "-o", "json", name=self.place.name).stdout)["nodes"]
        return [layer for node in nodes.values() for layer in node["layers"]]

    def jobs(self) -> list[dict[str, Any]]:
        return json.loads(pkgctl("job", "list", "-o", "json", name=self.place.name).stdout)


@pytest.fixture
def lab(tmp_path: Path, place: paths.Paths) -> Lab:
    return Lab(tmp_path, place)


def await_that(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_an_experiment_writes_its_report_and_takes_its_testbed_down(lab):
    done = lab.run(TINY.replace("verify: none", "verify: all") + DISTURBED)

    assert done.returncode == 0, done.stderr
    assert lab.states == ["done", "done"]
    assert (lab.results / "report.html").stat().st_size > 10_000
    for name in ("experiment.yaml", "topology.yaml", "links.parquet", "events.parquet"):
        assert (lab.results / name).is_file(), name
    links = pl.read_parquet(lab.results / "links.parquet")
    assert links["verdict"].to_list() == ["pass", "pass"]
    assert set(links["verdict_rtt"]) == {"pass"}
    assert lab.table("requests").group_by("cell").len()["len"].to_list() == [80, 80]
    assert set(lab.table("requests")["status"]) == {"ok"}
    assert traces_of(lab.place.name) == []


def test_a_disturbance_is_felt_while_it_lasts_and_nowhere_else(lab):
    done = lab.run(TINY + DISTURBED)

    assert done.returncode == 0, done.stderr
    events = pl.read_parquet(lab.results / "events.parquet").sort("t")
    assert set(events["cell"]) == {"perturb=slow"}
    assert set(events["kind"]) == {"layer-on", "layer-off"}
    waits = lab.table("requests").with_columns(wait=pl.col("done") - pl.col("intended"))
    on, off = (events.filter(kind=kind)["t"] for kind in ("layer-on", "layer-off"))
    inside = (pl.col("intended") > on.max()) & (pl.col("intended") < off.min() - 0.2)
    median = {
        (cell, when): part["wait"].median()
        for cell in ("perturb=none", "perturb=slow")
        for when, part in (
            ("during", waits.filter(inside, cell=cell)),
            ("before", waits.filter(pl.col("intended") < 0.45, cell=cell)),
        )
    }
    assert median["perturb=slow", "during"] > 0.120
    for undisturbed in (("perturb=none", "during"), ("perturb=slow", "before")):
        assert median[undisturbed] < 0.060


def test_a_disturbance_waits_for_so_many_requests_and_its_window_is_when_it_came(lab):
    words = "src: edge-1, dst: cloud-1, delay: 60ms, when: requests > 20, duration: 500ms"
    text = TINY + f"factors: {{perturb: [none, slow]}}\nperturbations:\n  slow: {{{words}}}\n"

    done = lab.run(text)

    assert done.returncode == 0, done.stderr
    events = pl.read_parquet(lab.results / "events.parquet").sort("t")
    assert set(events["kind"]) == {"layer-on", "layer-off"}
    finished = lab.table("requests").filter(cell="perturb=slow")["done"].sort()
    assert events["t"][0] >= finished[20] - 0.001
    first, second = (cell["runs"][0]["windows"] for cell in lab.record["cells"])
    assert [window["active"] for window in (*first, *second)] == [False, True]
    assert (first[0]["start"], first[0]["end"]) == (second[0]["start"], second[0]["end"])
    assert second[0]["start"] == pytest.approx(events["t"][0])
    times = events.select(
        mono=(pl.col("mono") - pl.col("planned_mono")) - (pl.col("t") - pl.col("planned")),
        wall=(pl.col("wall") - pl.col("planned_wall")) - (pl.col("t") - pl.col("planned")),
    )
    assert times.to_series(0).abs().max() < 1e-6
    assert times.to_series(1).abs().max() < 1e-5


def test_ctrl_c_keeps_what_was_measured_and_resume_does_the_rest(lab):
    with lab.begun(TINY + DISTURBED, "--repeats", "2") as begun:
        await_that(lab.has_measured)
        begun.send_signal(signal.SIGINT)
        _, errors = begun.communicate(timeout=PATIENCE)

    assert begun.returncode == 130, errors
    assert f"--resume results/{lab.results.name}" in errors
    assert lab.record["status"] == "interrupted"
    assert (lab.results / "report.html").is_file()
    assert traces_of(lab.place.name) == []
    kept = {path: path.stat().st_mtime_ns for path in lab.results.glob("cells/*/requests.parquet")}
    assert 1 <= len(kept) < 4

    done = lab.run(TINY + DISTURBED, "--repeats", "2", "--resume")

    assert done.returncode == 0, done.stderr
    assert lab.states == ["done"] * 4
    assert all(path.stat().st_mtime_ns == kept[path] for path in kept)
    again = lab.run(TINY + DISTURBED, "--repeats", "2", "--resume", "--set", "seed=4")
    assert again.returncode == 2
    assert "changed since" in again.stderr


def test_ctrl_c_in_the_middle_of_a_disturbance_leaves_a_testbed_as_it_was_found(lab):
    assert pkgctl("up", "duo", name=lab.place.name).returncode == 0
    text = TINY.replace("duration: 2s", "duration: 9s")
    text += DISTURBED.replace("duration: 1s", "duration: 8s").replace("none, slow", "slow")

    with lab.begun(text) as begun:
        await_that(lambda: "slow" in lab.layers())
        begun.send_signal(signal.SIGTERM)
        _, errors = begun.communicate(timeout=PATIENCE)

    assert begun.returncode == 130, errors
    assert lab.layers() == []
    assert [job["id"] for job in lab.jobs() if job["labels"].get("kind") != "store"] == []


def test_a_killed_experiment_can_be_gone_on_with_on_the_testbed_that_it_left(lab):
    with lab.begun(TINY + DISTURBED):
        await_that(lab.has_measured)
    await_that(lambda: lab.layers() == [])
    before = lab.states.count("done")

    done = lab.run(TINY + DISTURBED, "--resume")

    assert done.returncode == 0, done.stderr
    assert before >= 1
    assert lab.states == ["done", "done"]
    assert lab.record["status"] == "complete"


def test_jobs_arrive_run_to_their_end_and_are_stamped(lab):
    done = lab.run(QUEUE)

    assert done.returncode == 0, done.stderr
    jobs = lab.table("jobs").sort("job")
    assert jobs["status"].to_list() == ["finished"] * 4
    assert jobs["submitted"].round(1).to_list() == [0.0, 0.1, 0.2, 0.3]
    steps = jobs.select("submitted", "decided", "artifact", "started", "ready", "finished")
    for row in steps.iter_rows():
        assert list(row) == sorted(row)
    assert not jobs["cached"].all()


def test_prefetched_artifacts_are_there_before_the_first_job(lab):
    done = lab.run(QUEUE + "provision: prefetched\n")

    assert done.returncode == 0, done.stderr
    assert lab.table("jobs")["cached"].all()


def test_a_service_is_scaled_up_and_down_while_the_load_runs(lab):
    steps = "    scale: [{at: 500ms, replicas: 3}, {at: 1500ms, replicas: 1}]\n"

    done = lab.run(TINY.replace("    request:", f"{steps}    request:"))

    assert done.returncode == 0, done.stderr
    events = pl.read_parquet(lab.results / "events.parquet")
    assert events["detail"].to_list() == ["1 → 3", "3 → 1"]
    jobs = lab.table("jobs").sort("job")
    assert jobs["phase"].to_list() == ["deploy", "scale", "scale"]
    assert jobs["status"].to_list() == ["running", "stopped", "stopped"]
    requests = lab.table("requests")
    assert set(requests["status"]) == {"ok"}
    assert set(requests["replica"]) == {"web-0", "web-1", "web-2"}


def test_a_run_that_fails_is_recorded_and_the_others_go_on(lab):
    text = TINY.replace("memory: 32Mi", 'memory: "${memory}"') + "factors: {memory: [1Mi, 32Mi]}\n"

    done = lab.run(text)

    assert done.returncode == 1
    assert lab.states == ["failed", "done"]
    reasons = [run.get("error", "") for cell in lab.record["cells"] for run in cell["runs"]]
    assert reasons[0].startswith("no replica of web became ready")
    assert lab.record["status"] == "failed"
    assert traces_of(lab.place.name) == []


def test_a_testbed_with_another_topology_or_in_use_is_not_touched(lab):
    assert pkgctl("up", "three-sites", name=lab.place.name).returncode == 0

    other = lab.run(TINY)
    assert other.returncode == 2
    assert "is up with topology three-sites" in other.stderr

    words = ("job", "run", "mine", "--service", "--wait")
    assert pkgctl(*words, name=lab.place.name).returncode == 0
    busy = lab.run(TINY.replace("duo", "three-sites"))
    assert busy.returncode == 2
    assert "mine-0" in busy.stderr
    assert "mine-0" in [job["id"] for job in lab.jobs()]


def test_the_life_of_a_service_by_hand(three_sites):
    def job(*words: str) -> Any:
        done = pkgctl("job", *words, "-o", "json", name=three_sites.name)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    options = ("--cpu", "100m", "--memory", "40Mi", "--artifact", "1Mi", "--on", "site=edge-a")
    first = job("run", "web", "--service", "--replicas", "2", *options, "--wait")
    assert [each["status"] for each in first] == ["running", "running"]
    assert {each["node"] for each in first} <= {"edge-1", "edge-2", "edge-3"}
    assert list(first[0]["overheads"]) == ["decided", "artifact", "started", "ready"]

    more = job("scale", "web", "4", "--wait")
    assert [each["id"] for each in more] == ["web-2", "web-3"]
    assert job("scale", "web", "1") == []
    assert [each["id"] for each in job("list") if "wish" in each["labels"]] == ["web-0"]

    (resized,) = job("resize", "web-0", "--cpu", "0.25")
    assert (resized["cpu"], resized["status"]) == (0.25, "running")
    assert resized["stamps"] == next(each["stamps"] for each in first if each["id"] == "web-0")

    assert job("rm", "web") == ["web-0"]


def test_a_batch_job_by_hand_ends_and_its_output_can_be_read(duo):
    words = ("job", "run", "crunch", "--batch", "--cpu-seconds", "0.05", "--wait", "-o", "json")

    done = pkgctl(*words, name=duo.name)

    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)[0]["status"] == "finished"
    assert pkgctl("job", "logs", "crunch-0", name=duo.name).stdout == ""


JOB_ERRORS = {
    "no room": ("run web --service --cpu 9", 1, "no place for web-0: 0/2 nodes: 2 lack cpu"),
    "no such choice": ("run web --service --on site=mars", 2, "no node has the site 'mars'"),
    "no such scheduler": ("run web --service --scheduler nearer", 2, "did you mean nearest?"),
    "too little memory": ("run web --service --memory 1Mi --wait", 1, "web-0: "),
    "no such job": ("logs web-9", 2, "no job 'web-9'"),
    "no such service": ("scale web 3", 2, "no service 'web'"),
    "nothing to change": ("resize web-0", 2, "give --cpu or --memory"),
}


def test_what_cannot_be_done_with_jobs_is_said_in_one_line(duo):
    for name, (words, status, expected) in JOB_ERRORS.items():
        done = pkgctl("job", *words.split(), name=duo.name)
        assert done.returncode == status, (name, done.stderr)
        assert expected in done.stderr, name
        assert len(done.stderr.splitlines()) == 1, name
        if "--wait" in words:
            pkgctl("job", "rm", "web", name=duo.name)


def test_a_name_that_is_taken_is_refused_until_its_jobs_are_removed(duo):
    assert pkgctl("job", "run", "web", "--service", name=duo.name).returncode == 0

    twice = pkgctl("job", "run", "web", "--service", name=duo.name)

    assert twice.returncode == 2
    assert "scale or rm it" in twice.stderr


def test_a_perturbation_by_hand_comes_and_goes(duo):
    def layers() -> set[str]:
        nodes = json.loads(pkgctl("status", "-o", "json", name=duo.name).stdout)["nodes"]
        return {layer for node in nodes.values() for layer in node["layers"]}

    words = ("perturb", "src=edge-1", "bw=5mbit", "--name", "slow", "-o", "json")
    first = json.loads(pkgctl(*words, name=duo.name).stdout)
    again = json.loads(pkgctl(*words, name=duo.name).stdout)
    assert (set(first["changed"]), again["changed"]) == ({"edge-1", "cloud-1"}, [])
    assert layers() == {"slow"}

    seen = json.loads(pkgctl("heal", "--dry-run", "-o", "json", name=duo.name).stdout)
    assert set(seen["changed"]) == {"edge-1", "cloud-1"}
    assert layers() == {"slow"}

    assert pkgctl("heal", "slow", name=duo.name).returncode == 0
    assert layers() == set()


def test_nothing_is_left_when_everything_is_killed_and_the_testbed_taken_down(lab):
    with lab.begun(TINY + DISTURBED, "--repeats", "4") as running:
        await_that(lab.has_measured)
        # In the middle of the next run: jobs, load generators, perhaps a playbook.
        time.sleep(1.0)
        running.kill()
        for pid in processes_of(lab.place.name, "agent"):
            os.kill(pid, signal.SIGKILL)
    assert traces_of(lab.place.name) != []

    assert pkgctl("down", name=lab.place.name).returncode == 0

    assert traces_of(lab.place.name) == []
    assert "done" in lab.states


def processes_of(testbed: str, part: str) -> list[int]:
    return cgroups.group(f"pkgctl/{testbed}/{part}").processes()
