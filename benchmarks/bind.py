#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""How many pods a second our scheduler binds, beside kube-scheduler doing the same.

One control plane (etcd, kube-apiserver) and its fake nodes (kwok) serve all, in turn, in one run.
Pods are made first and a scheduler is started then; its rate is taken from the first binding to
the last, as a watch sees them, so starting costs nobody anything. kube-scheduler runs twice: with
its default settings, which bound its client to 50 requests a second, and without that bound. Ours
sends its Events behind the bindings. Needs what `./run test kubernetes` needs. Prints one JSON
object.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from pkgctl.cluster.client import Api, connect  # noqa: E402
from pkgctl.cluster.manifests import scheduler_manifests  # noqa: E402
from tests.kubernetes import assets, controlplane  # noqa: E402

PODS = "/api/v1/namespaces/default/pods"
UNBOUND = {"qps": 5000, "burst": 5000}
OURS, THEIRS, THEIRS_UNBOUND = "pkgctl", "kube-scheduler", "kube-scheduler_unbound"
PATIENCE = 300.0


def pod(number: int, scheduler: str) -> dict[str, Any]:
    """Return a small pod."""
    asked = {"requests": {"cpu": "100m", "memory": "128Mi"}}
    return {
        "metadata": {"name": f"bench-{number}", "labels": {"app": "bench"}},
        "spec": {
            "schedulerName": scheduler,
            "containers": [{"name": "main", "image": "none", "resources": asked}],
        },
    }


def make_pods(api: Api, count: int, scheduler: str) -> None:
    """Make the pods that wait."""
    with ThreadPoolExecutor(4) as pool:
        made = [pool.submit(api.post, PODS, pod(each, scheduler)) for each in range(count)]
        for each in made:
            each.result()


def remove_pods(api: Api) -> None:
    """Delete all pods, and wait until none is left."""
    api.delete(PODS, {"gracePeriodSeconds": 0}, within=PATIENCE)
    while api.get(PODS, limit=1)["items"]:
        time.sleep(0.2)


def bindings(api: Api, count: int) -> tuple[list[float], Counter[str]]:
    """Return when each pod was seen on a node for the first time, and how many each node has."""
    query = {"fieldSelector": "spec.nodeName!="}
    version = api.get(PODS, limit=1, **query)["metadata"]["resourceVersion"]
    times: list[float] = []
    nodes: Counter[str] = Counter()
    for event in api.watch(PODS, version, PATIENCE, **query):
        if event["type"] == "ADDED":
            times.append(time.monotonic())
            nodes[event["object"]["spec"]["nodeName"]] += 1
            if len(times) == count:
                break
    return times, nodes


def processor(pid: int) -> float:
    """Return the processor seconds of a process so far."""
    ticks = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK")


@contextmanager
def running(command: list[str], log: Path) -> Iterator[int]:
    """Run a scheduler, and return its process id."""
    with log.open("ab") as out:
        process = subprocess.Popen(command, cwd=ROOT, stdout=out, stderr=out)
    try:
        yield process.pid
    finally:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(20)
        process.kill()
        process.wait()


def measure(
    api: Api, plane: controlplane.ControlPlane, command: list[str], count: int, scheduler: str
) -> dict[str, float]:
    """Return what one scheduler does with so many waiting pods."""
    make_pods(api, count, scheduler)
    others = plane.processes()
    with ThreadPoolExecutor(1) as pool:
        seen = pool.submit(bindings, api, count)
        time.sleep(2.0)  # the watch stands, and what making pods has left to do is done
        before = {name: processor(pid) for name, pid in others.items()}
        begun = time.monotonic()
        with running(command, plane.folder / "bench.log") as pid:
            times, nodes = seen.result(PATIENCE)
            spent = {name: processor(other) - before[name] for name, other in others.items()}
            own = processor(pid)
    remove_pods(api)
    assert sum(nodes.values()) == count
    return {
        "pods_per_second": (count - 1) / (times[-1] - times[0]),
        "seconds_from_start_to_last": times[-1] - begun,
        "most_pods_on_a_node": max(nodes.values()),
        "own_cpu_ms_per_pod": own / count * 1e3,
        **{f"{name}_cpu_ms_per_pod": used / count * 1e3 for name, used in spent.items()},
    }


def commands(plane: controlplane.ControlPlane) -> Mapping[str, tuple[list[str], str]]:
    """Return how each scheduler is started, and the name that its pods bear."""
    plane.kubectl("apply", "-f", "-", given=yaml.safe_dump_all(scheduler_manifests()))
    account = plane.service_account("pkgctl-scheduler", "pkgctl")
    kube = str(assets.path("kube-scheduler"))
    theirs = str(plane.folder / "scheduler.yaml")
    head = {"apiVersion": "kubescheduler.config.k8s.io/v1", "kind": "KubeSchedulerConfiguration"}
    config = plane.folder / "unbound.yaml"
    connection = {"kubeconfig": theirs, **UNBOUND}
    election = {"leaderElect": False}
    config.write_text(
        json.dumps({**head, "clientConnection": connection, "leaderElection": election})
    )
    plain = [f"--kubeconfig={theirs}", "--leader-elect=false"]
    return {
        OURS: (
            [sys.executable, "-m", "pkgctl", "cluster", "scheduler", f"--kubeconfig={account}"],
            "pkgctl",
        ),
        THEIRS: ([kube, *plain, "--secure-port=0"], "default-scheduler"),
        THEIRS_UNBOUND: ([kube, f"--config={config}", "--secure-port=0"], "default-scheduler"),
    }


def summary(rounds: list[dict[str, dict[str, float]]]) -> dict[str, Any]:
    """Return the medians of each, and the ratios."""
    middle: Callable[[str, str], float] = lambda who, what: statistics.median(  # noqa: E731
        each[who][what] for each in rounds
    )
    result: dict[str, Any] = {
        who: {what: round(middle(who, what), 2) for what in found}
        for who, found in rounds[0].items()
    }
    for other in (THEIRS, THEIRS_UNBOUND):
        if other in result:
            ratio = middle(OURS, "pods_per_second") / middle(other, "pods_per_second")
            result[f"times_as_many_as_{other}"] = round(ratio, 2)
    return result


def main() -> None:
    """Time all, in turn, and print the medians and their ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nodes", type=int, default=500)
    parser.add_argument("--pods", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="+", help="leave out the others")
    arguments = parser.parse_args()
    with controlplane.control_plane(fake_nodes=arguments.nodes) as plane:
        api = connect(plane.kubeconfig)
        ways = {
            name: way
            for name, way in commands(plane).items()
            if not arguments.only or name in arguments.only
        }
        rounds = []
        for _ in range(arguments.rounds):
            rounds.append(
                {
                    name: measure(api, plane, command, arguments.pods, scheduler)
                    for name, (command, scheduler) in ways.items()
                }
            )
            print(json.dumps(rounds[-1]), file=sys.stderr)
    sizes = {"nodes": arguments.nodes, "pods": arguments.pods, "rounds": arguments.rounds}
    ours = {"summary": summary(rounds)} if OURS in ways else {}
    print(json.dumps({**sizes, **ours.get("summary", {}), "each_round": rounds}, indent=2))


if __name__ == "__main__":
    main()
