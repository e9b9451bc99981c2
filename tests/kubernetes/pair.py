# SPDX-License-Identifier: GPL-3.0-or-later
"""Two local nodes that are a cluster for experiments, and what sees all that happens to its pods.

What stands in for K3s runs the cluster: a real API, real kubelets, real containers.
"""

from __future__ import annotations

import json
import subprocess
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from pkgctl.cluster import installing, podbodies, runtime
from pkgctl.cluster.backend import PodBackend, Target
from pkgctl.cluster.client import Api, connect
from pkgctl.cluster.informer import Change, Informer
from pkgctl.local import paths, removal
from tests.local.conftest import pkgctl
from tests.waiting import PATIENCE, soon

from . import places
from .standin import pack

SERVER, AGENT = "cloud-1", "edge-1"
ADDRESSES = {SERVER: "10.77.0.1", AGENT: "10.77.0.2"}
DATA = "/run/pkgctl/disks/k3s"
K3S = "/usr/local/bin/k3s"


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

    def has_namespace(self) -> bool:
        found = self.api.get("/api/v1/namespaces")["items"]
        return self.namespace.rpartition("/")[2] in {each["metadata"]["name"] for each in found}

    def backend(self) -> PodBackend:
        return PodBackend(self.place, Target(self.api, runtime.runtime()))

    def start(self, node: str) -> None:
        words = [K3S, "server" if node == SERVER else "agent"]
        log = self.folder / f"{node}.log"
        self.services[node] = places.Service(self.place, node, log, words)

    def experiment(self, text: str, *options: str) -> subprocess.CompletedProcess[str]:
        (self.folder / "it.yaml").write_text(text)
        words = ["--name", self.place.name, "--provider", "existing", "-o", "json", *options]
        return pkgctl("experiment", "it.yaml", *words, cwd=self.folder, timeout=900)


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


@contextmanager
def cluster_in(folder: Path) -> Iterator[Cluster]:
    """Have a cluster; its files are in a folder."""
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


def eventually(there: Callable[[], Any], what: str, timeout: float = PATIENCE) -> Any:
    """Return what is there in the end; to ask for it may fail until then."""
    found = soon(there, timeout)
    assert found, f"no {what}"
    return found


def ready_nodes(api: Api) -> set[str]:
    return {
        node["metadata"]["name"]
        for node in api.get("/api/v1/nodes")["items"]
        for each in node["status"].get("conditions", ())
        if each["type"] == "Ready" and each["status"] == "True"
    }


def table(folder: Path, name: str) -> pl.DataFrame:
    (file,) = folder.rglob(f"{name}.parquet")
    return pl.read_parquet(file)


class Witness:
    """Sees each pod of each job, whatever becomes of the API meanwhile.

    Attributes:
        pods: the uids of each job's pods.
        containers: the ids of each job's containers that did the work.
        restarts: how often any of them was started again.
    """

    def __init__(self, api: Api) -> None:
        self.pods: dict[str, set[str]] = defaultdict(set)
        self.containers: dict[str, set[str]] = defaultdict(set)
        self.restarts = 0
        self._informer = Informer(api, "/api/v1/pods", lambda raw: raw, self._take)

    def __enter__(self) -> Witness:
        self._informer.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._informer.stop()

    def _take(self, change: Change[Any]) -> None:
        raw = change.new or change.old
        notes = raw["metadata"].get("annotations") or {}
        if podbodies.TOKEN not in notes:
            return
        job = notes["pkgctl.dev/job"]
        self.pods[job].add(raw["metadata"]["uid"])
        for each in raw["status"].get("containerStatuses") or ():
            self.restarts += each["restartCount"]
            if each.get("containerID"):
                self.containers[job].add(each["containerID"])
