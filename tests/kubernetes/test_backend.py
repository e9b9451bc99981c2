# SPDX-License-Identifier: GPL-3.0-or-later
"""Experiments whose services and jobs are pods, on two local nodes that are a cluster.

What stands in for K3s runs the cluster: a real API, real kubelets, real containers.
"""

from __future__ import annotations

import json
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml

from pkgctl.cluster import installing, runtime
from pkgctl.cluster.backend import PodBackend, Target
from pkgctl.cluster.client import Api, connect
from pkgctl.cluster.manifests import experiment_manifests
from pkgctl.errors import Refused
from pkgctl.local import paths, removal
from pkgctl.scheduling.backend import Event, JobState, NoticeEvent
from pkgctl.scheduling.job import Artifact, Job, JobClass
from pkgctl.scheduling.resources import Resources
from tests.local.conftest import pkgctl

from . import places
from .standin import pack

pytestmark = [pytest.mark.root, pytest.mark.kubernetes(*pack.NEEDS)]
SERVER, AGENT = "cloud-1", "edge-1"
ADDRESSES = {SERVER: "10.77.0.1", AGENT: "10.77.0.2"}
DATA = "/run/pkgctl/disks/k3s"
K3S = "/usr/local/bin/k3s"
PATIENCE = 90.0
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
GONE = """\
name: gone
question: What of a run is left when the API is gone for half a minute?
topology: {topology}
verify: none
services:
  web:
    replicas: 1
    place: {{on: edge-1}}
    scale: [{{at: 15s, replicas: 2}}]
    resources: {{cpu: 200m, memory: 64Mi}}
    request: {{cpu: 1ms, in: 100, out: 1000}}
load:
  - {{service: web, from: cloud-1, arrivals: {{constant: 20/s}}, duration: 130s}}
"""


@dataclass
class Cluster:
    """Two nodes, what runs on them, and the way to their API."""

    place: paths.Paths
    folder: Path
    services: dict[str, places.Service]

    @property
    def api(self) -> Api:
        return connect(installing.kubeconfig(self.place))

    @property
    def namespace(self) -> str:
        return f"/api/v1/namespaces/pkgctl-{self.place.name}"

    def pod(self, name: str) -> Any:
        return self.api.get(f"{self.namespace}/pods/{name}")

    def listed(self) -> list[Any]:
        return list(self.api.get(f"{self.namespace}/pods")["items"])

    def pods(self) -> list[str]:
        return [each["metadata"]["name"] for each in self.listed()]

    def backend(self) -> PodBackend:
        return PodBackend(self.place, Target(self.api, runtime.runtime()))

    def start(self, node: str) -> None:
        words = [K3S, "server" if node == SERVER else "agent"]
        log = self.folder / f"{node}.log"
        self.services[node] = places.Service(self.place, node, log, words)

    def experiment(self, text: str, *options: str) -> subprocess.CompletedProcess[str]:
        (self.folder / "it.yaml").write_text(text)
        words = ["--name", self.place.name, "--provider", "existing", "-o", "json", *options]
        return pkgctl("experiment", "it.yaml", *words, cwd=self.folder, timeout=300)


def settings(place: paths.Paths, node: str) -> dict[str, Any]:
    own = {
        "data-dir": DATA,
        "node-name": node,
        "node-ip": ADDRESSES[node],
        "flannel-iface": "eth0",
        "kubelet-arg": [f"cgroup-root=/pkgctl/{place.name}/nodes/{node}"],
        "token": "a-token-of-tests",
    }
    url = f"https://{ADDRESSES[SERVER]}:6443"
    return own if node == SERVER else {**own, "server": url}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("pods")
    release, image = pack.cached(), runtime.image()
    here = paths.paths(f"t{uuid.uuid4().hex[:10]}")
    made = Cluster(here, folder, {})
    try:
        places.up(here, folder)
        for node in (SERVER, AGENT):
            on = lambda *words, node=node, **more: places.on(here, node, *words, **more)  # noqa: E731
            on("mkdir", "-p", f"{DATA}/agent/images", "/etc/rancher/k3s")
            on("cp", str(release / "k3s-airgap-images-amd64.tar"), f"{DATA}/agent/images/")
            on("cp", str(image.archive), f"{DATA}/agent/images/")
            on("ln", "-s", str(release / "k3s"), K3S)
            write = "umask 077; cat > /etc/rancher/k3s/config.yaml"
            on("sh", "-c", write, given=json.dumps(settings(here, node)))
        for node in (SERVER, AGENT):
            made.start(node)
            made.services[node].wait_for("NOTIFIED READY=1")
        text = places.on(here, SERVER, "cat", "/etc/rancher/k3s/k3s.yaml")
        installing.write_private(installing.kubeconfig_path(here), text)
        eventually(lambda: ready_nodes(made.api) == {SERVER, AGENT}, "two nodes that are Ready")
        yield made
    finally:
        removal.down(here)
        for service in made.services.values():
            service.over()


@pytest.fixture
def backend(cluster: Cluster) -> Iterator[PodBackend]:
    with closing(cluster.backend()) as made:
        yield made
        made.remove(list(made.jobs))


def eventually(there: Callable[[], Any], what: str, timeout: float = PATIENCE) -> Any:
    end = time.monotonic() + timeout
    while not (found := there()):
        assert time.monotonic() < end, f"no {what}"
        time.sleep(0.2)
    return found


def ready_nodes(api: Api) -> set[str]:
    return {
        node["metadata"]["name"]
        for node in api.get("/api/v1/nodes")["items"]
        for each in node["status"].get("conditions", ())
        if each["type"] == "Ready" and each["status"] == "True"
    }


def service(name: str, **more: Any) -> Job:
    return Job(id=name, job_class=JobClass.LATENCY, resources=Resources(0.2, 64 << 20), **more)


def start(backend: PodBackend, job: Job, node: str = AGENT) -> None:
    now = time.monotonic()
    labels = {"service": "web", "owner": "experiment"}
    backend.start(job, node, submitted=now, decided=now, labels=labels)


def until(
    backend: PodBackend, name: str, holds: Callable[[JobState], bool], timeout: float = PATIENCE
) -> JobState:
    heard: list[Event] = []

    def is_done() -> bool:
        return holds(backend.jobs[name]) or backend.jobs[name].has_ended

    backend.wait(is_done, time.monotonic() + timeout, heard.append)
    assert holds(backend.jobs[name]), (backend.jobs[name], heard)
    return backend.jobs[name]


def table(folder: Path, name: str) -> pl.DataFrame:
    (file,) = folder.rglob(f"{name}.parquet")
    return pl.read_parquet(file)


def test_a_replica_is_bound_by_us_and_stamped_step_by_step(cluster, backend):
    job = service("web-0", artifact=Artifact("model", 50_000))
    backend.prepare([job])

    start(backend, job)
    state = until(backend, "web-0", lambda each: each.is_ready)

    steps = ["submitted", "decided", "bound", "artifact", "started", "ready"]
    moments = [state.stamps[step] for step in steps]
    assert moments == sorted(moments) and not state.cached
    pod = cluster.pod("web-0")
    assert pod["spec"]["nodeName"] == AGENT and pod["status"]["qosClass"] == "Guaranteed"
    assert pod["spec"]["schedulerName"] == "pkgctl-experiment"
    where = backend.endpoint("web-0")
    assert where["host"] == pod["status"]["podIP"]
    url = f"http://{where['host']}:{where['port']}/healthz"
    fetch = f"import urllib.request; print(urllib.request.urlopen('{url}').status)"
    assert places.on(cluster.place, SERVER, "python3", "-c", fetch) == "200\n"
    (view,) = [each for each in backend.view().nodes if each.name == AGENT]
    assert "model" in view.artifacts and "web-0" in {each.id for each in view.jobs}
    events = f"/apis/events.k8s.io/v1/namespaces/pkgctl-{cluster.place.name}/events"
    said = eventually(
        lambda: [e for e in cluster.api.get(events)["items"] if e["reason"] == "Scheduled"],
        "an Event of the decision",
    )
    assert said[0]["reportingController"] == "pkgctl-experiment"

    start(backend, service("web-1", artifact=Artifact("model", 50_000)))
    assert until(backend, "web-1", lambda each: each.is_ready).cached
    backend.remove(["web-0", "web-1"])
    backend.drop_artifacts()
    start(backend, service("web-2", artifact=Artifact("model", 50_000)))
    assert not until(backend, "web-2", lambda each: each.is_ready).cached


def test_a_replica_is_resized_without_a_restart_and_stops_when_it_is_told(cluster, backend):
    start(backend, service("web-0"))
    until(backend, "web-0", lambda each: each.is_ready)

    backend.resize("web-0", Resources(cpu=0.4))
    state = until(backend, "web-0", lambda each: each.cpu == 0.4)
    assert state.labels["restarts"] == 0 and state.is_ready
    backend.stop("web-0", grace=1.0)
    assert until(backend, "web-0", lambda each: each.has_ended).status == "stopped"


def test_one_is_evicted_for_another(backend):
    start(backend, service("web-0"))
    until(backend, "web-0", lambda each: each.is_ready)

    backend.displace("web-0")

    state = until(backend, "web-0", lambda each: each.has_ended)
    assert (state.status, state.lost) == ("stopped", False)


def test_one_that_kubernetes_deletes_is_lost(cluster, backend):
    start(backend, service("web-0"))
    until(backend, "web-0", lambda each: each.is_ready)

    cluster.api.delete(f"{cluster.namespace}/pods/web-0")

    state = until(backend, "web-0", lambda each: each.has_ended)
    assert (state.status, state.lost) == ("failed", True)


@pytest.mark.parametrize(
    ("options", "status", "error"),
    [
        (["--cpu", "0.2"], "finished", None),
        (
            ["--cpu", "0.2", "--memory", str(200 << 20)],
            "failed",
            "it ran out of memory (OOMKilled)",
        ),
        (["--cpu", "no-number"], "failed", "could not convert string to float: 'no-number'"),
    ],
)
def test_a_job_ends_as_its_program_does(backend, monkeypatch, options, status, error):
    monkeypatch.setattr(backend, "_words", lambda *_: ("batch", options))

    start(backend, Job(id="crunch-0", resources=Resources(0.5, 64 << 20), work=1.0))

    state = until(backend, "crunch-0", lambda each: each.has_ended)
    assert state.status == status
    assert (error or "") in (state.error or "") and bool(state.error) is bool(error)
    if status == "failed" and "memory" not in str(error):
        assert str(error) in backend.output("crunch-0")


def test_kube_scheduler_decides_where_a_job_may_run(backend):
    start(backend, service("web-0", nodes=frozenset({SERVER})), node="")

    state = until(backend, "web-0", lambda each: each.is_ready)

    assert state.node == SERVER
    assert state.stamps["decided"] == state.stamps["bound"]


def test_nothing_of_a_session_that_was_killed_is_left_to_the_next(cluster):
    first = cluster.backend()
    start(first, service("web-0"))
    until(first, "web-0", lambda each: each.is_ready)

    with closing(cluster.backend()) as second:
        second.prepare([])
        assert cluster.pods() == []
    first.close()


def test_whatever_is_left_goes_with_its_owner(cluster):
    with closing(cluster.backend()) as made:
        start(made, service("web-0"))
        until(made, "web-0", lambda each: each.is_ready)

    eventually(lambda: cluster.pods() == [], "empty namespace")


def test_the_api_may_be_gone_while_a_replica_starts_and_it_starts_once(cluster, backend):
    assert cluster.services[SERVER].stop() == 0
    start(backend, service("web-0"))
    time.sleep(5.0)
    assert backend.jobs["web-0"].status == "starting"

    cluster.start(SERVER)

    until(backend, "web-0", lambda each: each.is_ready, timeout=180)
    assert cluster.pods() == ["web-0"]


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
    record = json.loads((folder / "run.json").read_text())
    assert record["cluster"]["kubernetes"].startswith("v1.34")
    assert cluster.pods() == []


def test_an_experiment_runs_with_kube_scheduler(cluster):
    text = TINY.format(topology=cluster.folder / "pair.yaml", scheduler="kube-scheduler")

    done = cluster.experiment(text)

    assert done.returncode == 0, done.stderr
    folder = cluster.folder / json.loads(done.stdout)["run"]
    jobs = table(folder, "jobs")
    assert set(jobs["node"]) <= {SERVER, AGENT} and jobs["node"].null_count() == 0


def test_an_experiment_goes_on_while_the_api_is_gone(cluster):
    text = GONE.format(topology=cluster.folder / "pair.yaml")
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(cluster.experiment, text)
        eventually(lambda: running.done() or _serves(cluster, "web-0"), "replica")
        # Its first replica serves, and by then the load has begun; the second is not asked for yet.
        time.sleep(8.0)
        cluster.services[SERVER].stop()
        time.sleep(30.0)
        cluster.start(SERVER)
        done = running.result()

    folder = cluster.folder / json.loads(done.stdout)["run"]
    assert done.returncode == 0, done.stderr + (folder / "run.json").read_text()[-3000:]
    requests, jobs = table(folder, "requests"), table(folder, "jobs")
    assert requests.height == 130 * 20 and set(requests["status"]) == {"ok"}
    assert dict(jobs.select("job", "status").iter_rows()) == {
        "web-0": "running",
        "web-1": "running",
    }
    late = jobs.row(by_predicate=pl.col("job") == "web-1", named=True)
    assert late["decided"] - late["submitted"] < 1.0 < late["started"] - late["decided"]
    assert cluster.pods() == []


def _serves(cluster: Cluster, name: str) -> bool:
    found = {each["metadata"]["name"]: each for each in cluster.listed()}
    conditions = found.get(name, {}).get("status", {}).get("conditions", ())
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)


def test_the_rights_that_are_printed_are_what_it_takes(cluster, tmp_path):
    found = experiment_manifests(cluster.place.name)
    given = json.dumps({"apiVersion": "v1", "kind": "List", "items": found})
    places.kubectl(cluster.place, SERVER, "apply", "-f", "-", given=given)
    api = connect(_account(cluster, tmp_path / "config"))

    with closing(PodBackend(cluster.place, Target(api, runtime.runtime()))) as backend:
        start(backend, service("web-0"))
        until(backend, "web-0", lambda each: each.is_ready)
        backend.resize("web-0", Resources(cpu=0.3))
        until(backend, "web-0", lambda each: each.cpu == 0.3)
        assert backend.output("web-0") == ""
        backend.displace("web-0")
        assert until(backend, "web-0", lambda each: each.has_ended).status == "stopped"
        backend.remove(["web-0"])
    for path in ("/api/v1/secrets", "/api/v1/namespaces/kube-system/configmaps"):
        with pytest.raises(Refused, match="cannot list"):
            api.get(path)


def _account(cluster: Cluster, path: Path) -> Path:
    """Write the kubeconfig of the account that experiments have."""
    account = f"{cluster.namespace}/serviceaccounts/pkgctl-experiment/token"
    wish = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
    config = yaml.safe_load(installing.kubeconfig(cluster.place).read_text())
    config["users"][0]["user"] = {"token": cluster.api.post(account, wish)["status"]["token"]}
    installing.write_private(path, yaml.safe_dump(config))
    return path


def test_a_cluster_that_is_not_the_testbed_is_refused(cluster, tmp_path):
    text = TINY.format(topology=cluster.folder / "pair.yaml", scheduler="least-allocated")
    nothing = tmp_path / "none.yaml"

    done = cluster.experiment(text, "--kubeconfig", str(nothing))

    assert done.returncode == 2 and str(nothing) in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_a_node_that_is_cut_off_is_noticed_and_its_replica_is_given_up(cluster, backend):
    start(backend, service("web-0"))
    until(backend, "web-0", lambda each: each.is_ready)
    heard: list[Event] = []
    name = cluster.place.name

    cut = pkgctl("perturb", f"node={AGENT}", "health=isolated", "--name", "cut", name=name)
    assert cut.returncode == 0, cut.stderr
    gone = backend.wait(
        lambda: backend.jobs["web-0"].has_ended, time.monotonic() + 120, heard.append
    )
    assert pkgctl("heal", name=name).returncode == 0
    back = backend.wait(
        lambda: notices(heard)[-1:] == [True], time.monotonic() + PATIENCE, heard.append
    )

    assert gone and back
    assert notices(heard) == [False, True]
    state = backend.jobs["web-0"]
    assert state.lost and "node edge-1 is not ready" in state.error


def notices(heard: list[Event]) -> list[bool]:
    return [each.is_ready for each in heard if isinstance(each, NoticeEvent)]
