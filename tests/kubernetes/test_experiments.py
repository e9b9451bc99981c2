# SPDX-License-Identifier: GPL-3.0-or-later
"""Experiments whose services and jobs are pods, while their cluster is well and while it ails."""

from __future__ import annotations

import asyncio
import json
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import polars as pl
import pytest
import yaml

from pkgctl.cluster import installing

from .pair import AGENT, SERVER, Cluster, Witness, cluster_in, eventually, table
from .standin import pack

pytestmark = [pytest.mark.root, pytest.mark.kubernetes(*pack.NEEDS)]
TINY = """\
name: tiny
question: Does an experiment do the same with pods?
topology: {topology}
seed: 3
verify: none
services:
  web:
    replicas: 1
    place: {{on: edge-1, scheduler: {scheduler}}}
    resources: {{cpu: 200m, memory: 64Mi}}
    artifact: 100Ki
    request: {{cpu: 1ms, in: 100, out: 1000}}
    slo: {{latency: 100ms, at: 90%}}
load:
  - {{service: web, from: cloud-1, arrivals: {{constant: 20/s}}, duration: 3s}}
jobs:
  crunch:
    from: cloud-1
    place: {{scheduler: {scheduler}}}
    arrivals: {{at: [0s, 500ms]}}
    duration: 1s
    work: 200ms
    in: 10Ki
    out: 10Ki
    resources: {{cpu: 400m, memory: 64Mi}}
"""
# What is asked for while the API ails: replicas, and jobs.
AILING = """\
name: ailing
question: What of a run is left when the API ails?
topology: {topology}
verify: none
drain: 180s  # it ends as soon as all jobs have
services:
  web:
    replicas: 1
    place: {{on: edge-1}}
    scale: [{{at: {at}s, replicas: 3}}]
    resources: {{cpu: 200m, memory: 64Mi}}
    request: {{cpu: 1ms, in: 100, out: 1000}}
load:
  - {{service: web, from: edge-1, arrivals: {{constant: 20/s}}, duration: {seconds}s}}
jobs:
  crunch:
    from: edge-1
    place: {{on: edge-1}}
    arrivals: {{at: [{at}s, {later}s]}}
    duration: {seconds}s
    work: 1s
    in: 10Ki
    out: 10Ki
    resources: {{cpu: 200m, memory: 64Mi}}
{more}
"""
# The way of the nodes to the API is slow too.
SLOW_LINK = """\
perturbations:
  slow: {node: cloud-1, delay: 500ms, start: 0s}
"""
DELAY = 0.5
ALL = ("web-0", "web-1", "web-2", "crunch-0", "crunch-1")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with cluster_in(tmp_path_factory.mktemp("pods")) as made:
        yield made


def test_an_experiment_runs_with_pods_as_it_does_without(cluster):
    text = TINY.format(topology=cluster.folder / "pair.yaml", scheduler="least-allocated")

    done = cluster.experiment(text)

    assert done.returncode == 0, done.stderr
    folder = cluster.folder / json.loads(done.stdout)["run"]
    requests, jobs = table(folder, "requests"), table(folder, "jobs")
    assert requests.height == 60 and set(requests["status"]) == {"ok"}
    assert set(requests["node"]) == {AGENT}
    statuses = dict(jobs.select("job", "status").iter_rows())
    assert statuses == {"web-0": "running", "crunch-0": "finished", "crunch-1": "finished"}
    web = jobs.row(by_predicate=pl.col("job") == "web-0", named=True)
    assert web["decided"] <= web["artifact"] <= web["started"] <= web["ready"] <= web["first_byte"]
    samples = table(folder, "samples")
    assert 0.03 < used(samples, "web-0") < 3.0
    assert samples.filter(pl.col("job") == "web-0")["memory_bytes"].max() > 48 << 20
    record = json.loads((folder / "run.json").read_text())
    assert record["cluster"]["kubernetes"].startswith("v1.34")
    assert cluster.pods() == []
    eventually(lambda: not cluster.has_namespace(), "end of the namespace")


def used(samples: pl.DataFrame, job: str) -> float:
    """Return the CPU seconds that a job used while it was sampled."""
    mine = samples.filter(pl.col("job") == job)["cpu_seconds"]
    return mine.max() - mine.min()


def test_an_experiment_runs_with_kube_scheduler(cluster):
    text = TINY.format(topology=cluster.folder / "pair.yaml", scheduler="kube-scheduler")

    done = cluster.experiment(text)

    assert done.returncode == 0, done.stderr
    folder = cluster.folder / json.loads(done.stdout)["run"]
    jobs = table(folder, "jobs")
    assert set(jobs["node"]) <= {SERVER, AGENT} and jobs["node"].null_count() == 0


@dataclass
class Ended:
    """An experiment that has ended, and what was seen of its pods."""

    done: subprocess.CompletedProcess[str]
    folder: Path
    seen: Witness

    @property
    def t0(self) -> float:
        record = json.loads((self.folder / "run.json").read_text())
        return float(record["cells"][0]["runs"][0]["t0_mono"])


def ailing(
    cluster: Cluster,
    at: int,
    seconds: int,
    act: Callable[[Witness], None],
    *options: str,
    more: str = "",
) -> Ended:
    """Run an experiment, and do something to the cluster as soon as its load has begun."""
    text = AILING.format(
        topology=cluster.folder / "pair.yaml", at=at, later=at + 2, seconds=seconds, more=more
    )
    eventually(lambda: cluster.pods() == [], "end of an earlier experiment's pods")
    with Witness(cluster.api) as seen, ThreadPoolExecutor(1) as pool:
        running = pool.submit(cluster.experiment, text, *options)
        eventually(lambda: running.done() or is_loaded(cluster), "load", timeout=180)
        act(seen)
        done = running.result()
    assert done.returncode == 0, done.stderr + done.stdout
    return Ended(done, cluster.folder / json.loads(done.stdout)["run"], seen)


def is_loaded(cluster: Cluster) -> bool:
    """Return whether a request of an experiment has been answered."""
    said = cluster.place.node(AGENT) / "load" / "out.jsonl"
    return said.exists() and said.stat().st_size > 0


def is_whole(ended: Ended, seconds: int) -> None:
    """Whatever was asked for was done, once, and each request was answered."""
    requests, jobs = table(ended.folder, "requests"), table(ended.folder, "jobs")
    assert requests.height == seconds * 20
    assert dict(requests["status"].value_counts().iter_rows()) == {"ok": seconds * 20}
    statuses = {name: "running" if "web" in name else "finished" for name in ALL}
    assert dict(jobs.select("job", "status").iter_rows()) == statuses
    assert jobs.height == len(ALL)
    for name in ALL:
        assert len(ended.seen.pods[name]) == 1, (name, ended.seen.pods)
        assert len(ended.seen.containers[name]) == 1, (name, ended.seen.containers)
    assert set(ended.seen.pods) == set(ALL) and ended.seen.restarts == 0


def test_an_experiment_goes_on_while_the_api_is_gone(cluster):
    gone: list[float] = []

    def act(_: Witness) -> None:
        cluster.services[SERVER].stop()
        gone.append(time.monotonic())
        time.sleep(30.0)
        gone.append(time.monotonic())
        cluster.start(SERVER)

    ended = ailing(cluster, 25, 60, act)

    is_whole(ended, 60)
    since, until = (moment - ended.t0 for moment in gone)
    jobs = {each["job"]: each for each in table(ended.folder, "jobs").to_dicts()}
    for name in ("web-1", "web-2", "crunch-0", "crunch-1"):
        late = jobs[name]
        # Decided without the API, and carried out as soon as it was there again.
        assert since < late["submitted"] <= late["decided"] < until < late["started"], (name, gone)
    assert cluster.pods() == []


def test_an_experiment_goes_on_while_the_api_restarts(cluster):
    def act(seen: Witness) -> None:
        eventually(lambda: "web-1" in seen.pods, "pod of the second replica")
        cluster.services[SERVER].stop()
        cluster.start(SERVER)

    ended = ailing(cluster, 4, 30, act)

    is_whole(ended, 30)


def test_an_experiment_goes_on_while_the_api_is_slow(cluster, tmp_path):
    with delayed(installing.kubeconfig(cluster.place), tmp_path, DELAY) as slow:
        options = ("--kubeconfig", str(slow))
        ended = ailing(cluster, 4, 30, lambda _: None, *options, more=SLOW_LINK)

    is_whole(ended, 30)
    late = {each["job"]: each for each in table(ended.folder, "jobs").to_dicts()}["web-1"]
    # A pod is made and bound by requests that each take twice that, and the watch tells by once.
    assert late["started"] - late["decided"] > 5 * DELAY


@contextmanager
def delayed(kubeconfig: Path, folder: Path, seconds: float) -> Iterator[Path]:
    """Have another way to a cluster, on which each direction takes longer."""
    config = yaml.safe_load(kubeconfig.read_text())
    there = urlsplit(config["clusters"][0]["cluster"]["server"])
    proxy = Proxy(there.hostname or "", there.port or 0, seconds)
    thread = threading.Thread(target=lambda: asyncio.run(proxy.serve()))
    thread.start()
    try:
        assert proxy.started.wait(10)
        config["clusters"][0]["cluster"]["server"] = f"https://127.0.0.1:{proxy.port}"
        installing.write_private(folder / "config", yaml.safe_dump(config))
        yield folder / "config"
    finally:
        proxy.loop.call_soon_threadsafe(proxy.over.set)
        thread.join(10)


class Proxy:
    """Passes connections on, and all that goes over them some seconds later."""

    def __init__(self, host: str, port: int, seconds: float) -> None:
        self.started = threading.Event()
        self._there, self._seconds = (host, port), seconds

    async def serve(self) -> None:
        self.loop, self.over = asyncio.get_running_loop(), asyncio.Event()
        server = await asyncio.start_server(self._pass_on, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        self.started.set()
        async with server:
            await self.over.wait()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far = await asyncio.open_connection(*self._there)
        try:
            await asyncio.gather(self._copy(reader, far[1]), self._copy(far[0], writer))
        finally:
            far[1].close()
            writer.close()

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(1 << 16):
                self.loop.call_later(self._seconds, writer.write, data)
        await asyncio.sleep(self._seconds)
        writer.close()


def test_a_cluster_that_is_not_the_testbed_is_refused(cluster, tmp_path):
    text = TINY.format(topology=cluster.folder / "pair.yaml", scheduler="least-allocated")
    nothing = tmp_path / "none.yaml"

    done = cluster.experiment(text, "--kubeconfig", str(nothing))

    assert done.returncode == 2 and str(nothing) in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
