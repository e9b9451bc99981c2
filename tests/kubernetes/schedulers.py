# SPDX-License-Identifier: GPL-3.0-or-later
"""Our scheduler as a process of its own, pods for it, and a witness of where they went."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from pkgctl.cluster.client import Api
from pkgctl.cluster.manifests import scheduler_manifests
from pkgctl.cluster.pods import read
from pkgctl.errors import ClusterError

from .controlplane import ControlPlane

ROOT = Path(__file__).parents[2]
BOUND_BY = "pkgctl.dev/bound-by"
LEASE = "/apis/coordination.k8s.io/v1/namespaces/pkgctl/leases/pkgctl-scheduler"


# As a part of a larger program, which is not to be killed when it sleeps for long.
PART = """
import sys
from pathlib import Path
from pkgctl.cluster.client import connect
from pkgctl.cluster.scheduler import Options, PodScheduler
say = lambda text: print(text, flush=True)
PodScheduler(connect(Path(sys.argv[1])), Options(), say).run()
"""


class Instance:
    """One scheduler, and what it said."""

    def __init__(self, kubeconfig: Path, log: Path, *options: str, is_part: bool = False) -> None:
        self.log = log
        tool = ["-m", "pkgctl", "cluster", "scheduler", "--kubeconfig", str(kubeconfig), *options]
        words = ["-c", PART, str(kubeconfig)] if is_part else tool
        with log.open("wb") as out:
            self.process = subprocess.Popen(
                [sys.executable, *words],
                cwd=ROOT,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
                stdout=out,
                stderr=out,
            )

    def said(self) -> str:
        return self.log.read_text()

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def end(self) -> int:
        """Stop it in good order; one that was stopped by a signal goes on first."""
        if self.process.poll() is None:
            self.signal(signal.SIGCONT)
            self.signal(signal.SIGTERM)
        try:
            return self.process.wait(120)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


class Desk:
    """A namespace with pods for our scheduler, on one control plane."""

    def __init__(self, plane: ControlPlane, api: Api, namespace: str, account: Path) -> None:
        self.plane, self.api, self.namespace, self.account = plane, api, namespace, account
        self.path = f"/api/v1/namespaces/{namespace}/pods"
        self._started: list[Instance] = []

    def scheduler(
        self, *options: str, kubeconfig: Path | None = None, is_part: bool = False
    ) -> Instance:
        log = self.plane.folder / f"scheduler-{self.namespace}-{len(self._started)}.txt"
        made = Instance(kubeconfig or self.account, log, *options, is_part=is_part)
        self._started.append(made)
        return made

    def make(self, count: int, name: str = "pod", **wishes: Any) -> list[str]:
        names = [f"{name}-{number}" for number in range(count)]
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda each: self.api.post(self.path, pod(each, **wishes)), names))
        return names

    def pods(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.api.get(self.path)["items"]
        return found

    def node_of(self, name: str) -> str:
        return str(self.api.get(f"{self.path}/{name}")["spec"].get("nodeName", ""))

    def bound(self) -> dict[str, str]:
        """Return the node of each pod that has one."""
        named = {each["metadata"]["name"]: each["spec"].get("nodeName", "") for each in self.pods()}
        return {name: node for name, node in named.items() if node}

    def wait_bound(self, count: int, timeout: float = 240) -> dict[str, str]:
        found: dict[str, str] = self.wait_for(
            lambda: (there := self.bound()) if len(self.bound()) >= count else None,
            f"{count} pods to be bound",
            timeout,
        )
        return found

    def wait_for(self, there: Callable[[], Any], what: str, timeout: float = 240) -> Any:
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            with suppress(ClusterError):
                if found := there():
                    return found
            time.sleep(0.1)
        raise AssertionError(f"waited {timeout} s for {what}\n{self.said()}")

    def said(self) -> str:
        return "\n".join(f"--- {each.log.name}\n{each.said()}" for each in self._started)

    def events(self, name: str, reason: str) -> list[str]:
        """Return the notes of a pod's Events of one kind."""
        found = self.api.get(f"/apis/events.k8s.io/v1/namespaces/{self.namespace}/events")["items"]
        return [
            each["note"]
            for each in found
            if (each["regarding"]["name"], each["reason"]) == (name, reason)
        ]

    def holder(self) -> str:
        """Return who has the lease, empty if nobody."""
        with suppress(ClusterError):
            return str(self.api.get(LEASE)["spec"].get("holderIdentity", ""))
        return ""

    def close(self) -> None:
        for each in self._started:
            each.end()
        self.api.delete(self.path, {"gracePeriodSeconds": 0})
        self.wait_for(lambda: not self.pods(), "the pods to be gone")


@contextmanager
def desk(plane: ControlPlane, api: Api, namespace: str, account: Path) -> Iterator[Desk]:
    """Make a namespace, and leave neither pods nor processes."""
    api.post("/api/v1/namespaces", {"metadata": {"name": namespace}})
    made = Desk(plane, api, namespace, account)
    try:
        yield made
    finally:
        made.close()


def admit(plane: ControlPlane) -> Path:
    """Make what the scheduler needs, and return the kubeconfig of its account."""
    import yaml

    plane.kubectl("apply", "-f", "-", given=yaml.safe_dump_all(scheduler_manifests()))
    return plane.service_account("pkgctl-scheduler", "pkgctl")


def pod(
    name: str,
    cpu: str = "100m",
    *,
    scheduler: str = "pkgctl",
    asked: dict[str, str] | None = None,
    ports: Sequence[int] = (),
    annotations: dict[str, str] | None = None,
    **spec: Any,
) -> dict[str, Any]:
    main = {
        "name": "main",
        "image": "nothing/is-pulled:1",
        "resources": {"requests": {"cpu": cpu, "memory": "64Mi", **(asked or {})}},
        "ports": [{"containerPort": port, "hostPort": port} for port in ports],
    }
    if asked:  # what is not CPU or memory must be bounded by as much
        main["resources"]["limits"] = dict(asked)
    return {
        "metadata": {"name": name, "annotations": annotations or {}},
        "spec": {"schedulerName": scheduler, "containers": [main], **spec},
    }


class Witness:
    """Watches pods that are still to come: every node that each was ever said to be on."""

    def __init__(self, api: Api, path: str) -> None:
        self.nodes: dict[str, set[str]] = defaultdict(set)
        version = api.get(path)["metadata"]["resourceVersion"]
        self._stream = api.watch(path, version, 600)
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def _look(self) -> None:
        with suppress(ClusterError):  # an API that is gone; what was seen stays
            for event in self._stream:
                seen = event["object"]
                if event["type"] in ("ADDED", "MODIFIED") and seen["spec"].get("nodeName"):
                    self.nodes[seen["metadata"]["uid"]].add(seen["spec"]["nodeName"])

    def wait(self, count: int) -> None:
        """Return at the very moment in which so many pods have a node."""
        end = time.monotonic() + 240
        while len(self.nodes) < count:
            assert time.monotonic() < end, f"{len(self.nodes)} pods were bound of {count}"
            time.sleep(0.002)

    def stop(self) -> dict[str, set[str]]:
        self._stream.stop()
        self._thread.join(60)
        return self.nodes


def overfull(api: Api) -> dict[str, int]:
    """Return the nodes whose pods ask for more CPU than there is, by how many millicores."""
    taken: Counter[str] = Counter()
    for each in map(read, api.get("/api/v1/pods")["items"]):
        taken[each.node] += each.asked.millicores
    there = {
        node["metadata"]["name"]: int(node["status"]["allocatable"]["cpu"]) * 1000
        for node in api.get("/api/v1/nodes")["items"]
    }
    return {name: used - there[name] for name, used in taken.items() if name and used > there[name]}
