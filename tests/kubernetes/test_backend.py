# SPDX-License-Identifier: GPL-3.0-or-later
"""Jobs as pods, one by one, on two local nodes that are a cluster."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import yaml

from pkgctl.cluster import installing, runtime
from pkgctl.cluster.backend import PodBackend, Target
from pkgctl.cluster.client import connect
from pkgctl.cluster.manifests import experiment_manifests
from pkgctl.errors import Refused
from pkgctl.scheduling.backend import Event, JobState, NoticeEvent
from pkgctl.scheduling.job import Artifact, Job, JobClass
from pkgctl.scheduling.resources import Resources
from tests.local.conftest import pkgctl

from . import places
from .pair import AGENT, PATIENCE, SERVER, Cluster, cluster_in, eventually
from .standin import pack

pytestmark = [pytest.mark.root, pytest.mark.kubernetes(*pack.NEEDS)]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with cluster_in(tmp_path_factory.mktemp("pods")) as made:
        yield made


@pytest.fixture
def backend(cluster: Cluster) -> Iterator[PodBackend]:
    with closing(cluster.backend()) as made:
        yield made
        made.remove(list(made.jobs))


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

    until(backend, "web-0", lambda each: each.is_ready)
    assert cluster.pods() == ["web-0"]


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


def test_a_node_that_is_cut_off_is_noticed_and_its_replica_is_given_up(cluster, backend):
    start(backend, service("web-0"))
    until(backend, "web-0", lambda each: each.is_ready)
    heard: list[Event] = []
    name = cluster.place.name

    cut = pkgctl("perturb", f"node={AGENT}", "health=isolated", "--name", "cut", name=name)
    assert cut.returncode == 0, cut.stderr
    gone = backend.wait(
        lambda: backend.jobs["web-0"].has_ended, time.monotonic() + PATIENCE, heard.append
    )
    assert pkgctl("heal", name=name).returncode == 0
    back = backend.wait(
        lambda: notices(heard)[-1:] == [True], time.monotonic() + PATIENCE, heard.append
    )

    assert gone and back
    # On a busy machine it may be lost and found once more meanwhile.
    told = notices(heard)
    assert (told[0], told[-1]) == (False, True)
    state = backend.jobs["web-0"]
    assert state.lost and "node edge-1 is not ready" in state.error


def notices(heard: list[Event]) -> list[bool]:
    """Return what was said of the node that is cut off, ready or not."""
    told = [each for each in heard if isinstance(each, NoticeEvent)]
    return [each.is_ready for each in told if each.node == AGENT]
