# SPDX-License-Identifier: GPL-3.0-or-later
"""What Kubernetes sees of a disturbance of its nodes' capacity and disks."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml

from pkgctl import topology
from pkgctl.local import removal, testbed
from pkgctl.nodeside import cgroups, channel, daemon
from tests.waiting import soon

from . import assets
from .roles import DATA, LEFT, Lab
from .schedulers import Instance
from .standin import pack

pytestmark = [pytest.mark.root, pytest.mark.kubernetes(*pack.NEEDS)]

SERVER, NODE = "cloud-1", "edge-1"
REPORTER = "pkgctl-node-reporter"
MIB = 1 << 20
WHOLE = {"pkgctl.dev/millicores": "1k", "pkgctl.dev/memory": str(256 * MIB)}
WELL = ("False", "DataDisksAreWell")
PARTS = ("allocatable", "capacity")
POD = """
apiVersion: v1
kind: Pod
metadata: {{name: {name}}}
spec:
  schedulerName: {scheduler}
  nodeSelector: {{kubernetes.io/hostname: edge-1}}
  automountServiceAccountToken: false
  terminationGracePeriodSeconds: 0
  containers:
  - name: web
    image: pkgctl.test/busy:1
    imagePullPolicy: Never
    command: [/busy, serve, "80"]
    resources: {resources}
"""
SHOWN = (
    r"{.status.allocatable.pkgctl\.dev/millicores} "
    r'{.status.conditions[?(@.type=="DataDiskProblem")].reason}{"\n"}'
)
# As K3s writes it, of the files that the stand-in has too.
OF_FILES = """\
clusters:
- cluster:
    server: {server}
    certificate-authority: {folder}/server-ca.crt
  name: local
users:
- name: user
  user:
    client-certificate: {folder}/client-kubelet.crt
    client-key: {folder}/client-kubelet.key
"""
ASK = """
import sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from ansible_collections.pkgctl.testbed.plugins.module_utils.nodeapi import OwnNode
print(OwnNode(Path(sys.argv[2]), sys.argv[3]).get()["metadata"]["name"])
"""
LOWERED = """\
name: lowered
question: What does Kubernetes notice of a node that has less?
topology: duo
verify: none
services:
  web:
    replicas: 1
    place: {on: cloud-1}
    resources: {cpu: 100m, memory: 40Mi}
    request: {cpu: 1ms, in: 100, out: 1000}
load:
  - {service: web, from: cloud-1, arrivals: {constant: 10/s}, duration: 35s}
perturbations:
  low: {node: edge-1, cpu: 0.3, start: 3s, duration: 15s}
  no-disk: {node: edge-1, disk: unmounted, start: 3s, duration: 15s}
measure: [latency]
"""


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    made = Lab(f"seen-{os.getpid()}", tmp_path_factory.mktemp("bundles"))
    try:
        testbed.up(topology.load("duo"), made.place)
        assert made.changed("install") == f"changed: {SERVER}, {NODE}"
        yield made
    finally:
        removal.down(made.place)


@pytest.fixture
def healed(lab: Lab) -> Iterator[Lab]:
    yield lab
    lab.said("heal")
    assert soon(lambda: (seen(lab), disks(lab)) == (WHOLE, WELL)), status(lab)


def status(lab: Lab, node: str = NODE) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(lab.kubectl("get", "node", node, "-o", "json"))["status"]
    return found


def seen(lab: Lab, node: str = NODE) -> dict[str, str]:
    """Return what Kubernetes gives of the node to pods, of what the testbed bounds."""
    found = status(lab, node)
    shown = [{key: each for key, each in found[part].items() if "pkgctl" in key} for part in PARTS]
    return shown[0] if shown[0] == shown[1] else {"capacity differs": str(shown)}


def disks(lab: Lab, node: str = NODE) -> tuple[str, ...]:
    found = [each for each in status(lab, node)["conditions"] if each["type"] == "DataDiskProblem"]
    return (found[0]["status"], found[0]["reason"]) if found else ()


def units(lab: Lab) -> dict[tuple[str, str], dict[str, Any]]:
    found = channel.call(lab.place.agent / "agent.sock", "unit-list")["units"]
    return {(each["node"], each["name"]): each for each in found}


def tell(lab: Lab, op: str, node: str, name: str) -> None:
    channel.call(lab.place.agent / "agent.sock", op, node=node, name=name)


def cpu_seconds(pid: int) -> float:
    """Return what a process of one thread has used since its start."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9


@contextmanager
def scheduler(lab: Lab, folder: Path) -> Iterator[Instance]:
    lab.kubectl("apply", "-f", "-", given=lab.said("cluster", "manifests"))
    kubeconfig = Path(lab.said("cluster", "kubeconfig", "--path"))
    made = Instance(kubeconfig, folder / "scheduler.txt")
    try:
        yield made
    finally:
        made.end()


@contextmanager
def history(lab: Lab, file: Path) -> Iterator[Callable[[], list[str]]]:
    """Have all that the API says of the node from now on, each thing once."""
    kubeconfig = lab.said("cluster", "kubeconfig", "--path")
    words = ["get", "node", NODE, "--watch", "-o", f"jsonpath={SHOWN}"]
    with file.open("wb") as out:
        process = subprocess.Popen(
            [assets.path("kubectl"), f"--kubeconfig={kubeconfig}", *words], stdout=out
        )
    try:
        assert soon(file.read_text)
        yield lambda: [line for line, _ in groupby(file.read_text().splitlines())]
    finally:
        process.terminate()
        process.wait(120)


def node_of(lab: Lab, pod: str) -> str:
    return lab.kubectl("get", "pod", pod, "-o", "jsonpath={.spec.nodeName}")


def refusals(lab: Lab, pod: str) -> list[str]:
    """Return why the pods whose name begins so were not bound."""
    found = json.loads(lab.kubectl("get", "events.events.k8s.io", "-o", "json"))["items"]
    failed = [each for each in found if each["reason"] == "FailedScheduling"]
    return [each["note"] for each in failed if each["regarding"]["name"].startswith(pod)]


def test_every_node_shows_all_that_it_has_as_soon_as_it_is_installed(lab: Lab):
    assert {node: seen(lab, node) for node in (SERVER, NODE)} == {SERVER: WHOLE, NODE: WHOLE}
    assert {disks(lab, node) for node in (SERVER, NODE)} == {WELL}
    assert {key for key, each in units(lab).items() if each["ready"]} == {
        *((SERVER, "k3s"), (NODE, "k3s-agent")),
        *((SERVER, REPORTER), (NODE, REPORTER)),
    }


def test_a_second_installation_changes_nothing(lab: Lab):
    before = {key: each["pid"] for key, each in units(lab).items()}

    assert lab.changed("install") == "nothing to change"
    assert {key: each["pid"] for key, each in units(lab).items()} == before


def manifest(name: str, scheduler: str, resources: dict[str, Any]) -> str:
    return POD.format(name=name, scheduler=scheduler, resources=json.dumps(resources))


def start(lab: Lab, name: str, scheduler: str, **resources: Any) -> None:
    lab.kubectl("apply", "-f", "-", given=manifest(name, scheduler, resources))


def start_kept(lab: Lab, name: str, scheduler: str, **resources: Any) -> None:
    """Have a pod that is replaced if kubelet, which learns of its node by itself, refuses it."""
    spec = yaml.safe_load(manifest(name, scheduler, resources))["spec"]
    template = {"metadata": {"labels": {"app": name}}, "spec": spec}
    kept = {
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "metadata": {"name": name},
        "spec": {"selector": {"matchLabels": {"app": name}}, "template": template},
    }
    lab.kubectl("apply", "-f", "-", given=json.dumps(kept))


def check_comes(lab: Lab, what: str, state: str = "condition=Ready") -> None:
    """It comes to be so; if not, what there is to say of the pods and of the node is told."""
    wait = ("wait", f"--for={state}", what, "--timeout=90s")
    if not soon(lambda: lab.attempt(*wait).returncode == 0):
        shown = ("get", "pods,events", "-o", "wide"), ("get", "pods", "-o", "yaml")
        told = [lab.kubectl(*words) for words in shown]
        raise AssertionError("\n".join([*told, str(seen(lab))]))


@pytest.mark.parametrize(
    ("words", "asked", "shown"),
    [
        (["cpu=0.2"], {"cpu": "300m", "memory": "16Mi"}, {**WHOLE, "pkgctl.dev/millicores": "200"}),
        (
            ["mem=96Mi"],
            {"cpu": "100m", "memory": "120Mi"},
            {**WHOLE, "pkgctl.dev/memory": str(96 * MIB)},
        ),
    ],
    ids=["cpu", "memory"],
)
def test_a_node_that_is_lowered_gets_no_pod_that_needs_more_until_it_is_healed(
    healed: Lab, tmp_path: Path, words, asked, shown
):
    lab = healed
    lab.said("perturb", f"node={NODE}", *words)
    assert soon(lambda: seen(lab) == shown), status(lab)

    with scheduler(lab, tmp_path) as ours:
        start(lab, "large", "pkgctl", requests=asked)
        try:
            assert soon(lambda: refusals(lab, "large")), ours.said()
            assert node_of(lab, "large") == ""
            lab.said("heal")
            assert soon(lambda: node_of(lab, "large") == NODE), ours.said()
            check_comes(lab, "pod/large")
        finally:
            lab.kubectl("delete", "pod", "large", "--wait=true")


def test_kube_scheduler_heeds_it_for_pods_that_ask_for_it(healed: Lab):
    lab = healed
    lab.said("perturb", f"node={NODE}", "cpu=0.2")
    assert soon(lambda: seen(lab) != WHOLE), status(lab)

    asked = {"pkgctl.dev/millicores": 300}
    start_kept(lab, "asking", "default-scheduler", requests=asked, limits=asked)
    start(lab, "silent", "default-scheduler", requests={"cpu": "300m"})
    try:
        assert soon(lambda: refusals(lab, "asking-"))
        assert "Insufficient pkgctl.dev/millicores" in refusals(lab, "asking-")[0]
        assert soon(lambda: node_of(lab, "silent") == NODE)
        bound = ("-o", "jsonpath={.items[*].spec.nodeName}")
        assert lab.kubectl("get", "pods", "-l", "app=asking", *bound) == ""
        lab.said("heal")
        check_comes(lab, "replicaset/asking", "jsonpath={.status.readyReplicas}=1")
    finally:
        lab.kubectl("delete", "replicaset/asking", "pod/silent", "--cascade=foreground")


def test_what_is_wrong_with_a_data_disk_is_a_condition_of_its_node(healed: Lab):
    lab = healed
    for words, reason in (
        (["disk=unmounted"], "DiskUnmounted"),
        (["disk=readonly"], "DiskReadOnly"),
        (["disk=detached"], "DiskDetached"),
        (["fill=99%"], "DiskFull"),
    ):
        lab.said("perturb", f"node={NODE}", *words)
        assert soon(lambda reason=reason: disks(lab) == ("True", reason)), status(lab)
        assert disks(lab, SERVER) == WELL
        lab.said("heal")
        assert soon(lambda: disks(lab) == WELL), status(lab)
    (ours,) = [each for each in status(lab)["conditions"] if each["type"] == "DataDiskProblem"]
    assert ours["message"] == "mounted, with room: data"
    ready = [each for each in status(lab)["conditions"] if each["type"] == "Ready"]
    assert ready[0]["status"] == "True"


def test_a_disk_that_somebody_else_unmounts_is_noticed_too(lab: Lab):
    lab.on(NODE, "umount /data")
    assert soon(lambda: disks(lab) == ("True", "DiskUnmounted")), status(lab)

    lab.said("heal")
    assert soon(lambda: disks(lab) == WELL), status(lab)


def test_a_layer_whose_lease_runs_out_is_taken_back_without_anybody(lab: Lab, tmp_path: Path):
    with history(lab, tmp_path / "history.txt") as said:
        lab.said("perturb", f"node={NODE}", "cpu=0.5", "disk=readonly", "--lease", "30s")
        assert soon(lambda: said()[-1:] == ["1k DataDisksAreWell"] != said()), said()

    assert said()[0] == "1k DataDisksAreWell"
    assert {each for line in said()[1:-1] for each in line.split()} >= {"500", "DiskReadOnly"}


def test_what_changes_while_the_api_is_away_is_told_when_it_is_back(healed: Lab):
    lab = healed
    before = {node: units(lab)[node, REPORTER]["pid"] for node in (SERVER, NODE)}
    tell(lab, "unit-stop", SERVER, "k3s")
    assert soon(lambda: units(lab)[SERVER, "k3s"]["status"] == "stopped")
    lab.said("perturb", "cpu=0.4")
    time.sleep(3)
    tell(lab, "unit-start", SERVER, "k3s")
    assert soon(lambda: units(lab)[SERVER, "k3s"]["ready"])

    lowered = {**WHOLE, "pkgctl.dev/millicores": "400"}
    assert soon(lambda: [seen(lab, node) for node in (SERVER, NODE)] == [lowered] * 2), status(lab)
    assert {node: units(lab)[node, REPORTER]["pid"] for node in (SERVER, NODE)} == before


def test_a_node_object_that_is_made_anew_is_told_all_again(lab: Lab):
    uid = lab.kubectl("get", "node", NODE, "-o", "jsonpath={.metadata.uid}")
    tell(lab, "unit-stop", NODE, "k3s-agent")
    assert soon(lambda: units(lab)[NODE, "k3s-agent"]["status"] == "stopped")
    lab.kubectl("delete", "node", NODE)
    tell(lab, "unit-start", NODE, "k3s-agent")

    assert soon(lambda: NODE in lab.ready())
    assert soon(lambda: (seen(lab), disks(lab)) == (WHOLE, WELL)), status(lab)
    assert lab.kubectl("get", "node", NODE, "-o", "jsonpath={.metadata.uid}") != uid


def test_credentials_in_files_are_read_as_well(lab: Lab):
    folder = f"{DATA}/agent"
    server = json.loads(lab.on(NODE, f"cat {folder}/kubelet.kubeconfig"))["clusters"][0]["cluster"]
    text = OF_FILES.format(server=server["server"], folder=folder)
    lab.on(NODE, f"cat > /tmp/kubeconfig <<'END'\n{text}END")

    words = ["/tmp/kubeconfig", NODE]
    python = ["python3", "-S", "-E", "-c", ASK, str(daemon.import_root())]
    assert lab.said("exec", NODE, "--", *python, *words) == NODE


def test_a_run_has_the_moments_in_which_kubernetes_noticed(lab: Lab, tmp_path: Path):
    (tmp_path / "lowered.yaml").write_text(LOWERED)

    done = lab.pkgctl(
        *("experiment", str(tmp_path / "lowered.yaml"), "--name", lab.name),
        *("--provider", "existing", "--results", str(tmp_path / "results")),
    )

    assert done.returncode == 0, done.stderr
    (file,) = tmp_path.rglob("events.parquet")
    events = pl.read_parquet(file).filter(pl.col("target") == NODE)
    on = events.filter(pl.col("kind") == "layer-on")["t"].min()
    off = events.filter(pl.col("kind") == "layer-off")["t"].max()
    rows = events.filter(pl.col("kind").str.starts_with("kubernetes-")).sort("t")
    found = {kind: (t, words) for kind, t, words in rows.select("kind", "t", "detail").iter_rows()}
    assert set(found) == {
        *("kubernetes-capacity-lowered", "kubernetes-capacity-raised"),
        *("kubernetes-disk-problem", "kubernetes-disk-well"),
    }
    for kind in ("capacity-lowered", "disk-problem"):
        assert on <= found[f"kubernetes-{kind}"][0] < off
    assert found["kubernetes-capacity-lowered"][1] == "cpu 300m, memory 256Mi"
    assert found["kubernetes-disk-problem"][1] == "data: unmounted"
    (page,) = tmp_path.rglob("report.html")
    assert f"Kubernetes: {NODE} capacity lowered" in page.read_text()


def test_reporting_costs_next_to_nothing(lab: Lab):
    pids = [units(lab)[node, REPORTER]["pid"] for node in (SERVER, NODE)]
    began, used = time.monotonic(), [cpu_seconds(pid) for pid in pids]
    time.sleep(30)
    seconds = time.monotonic() - began
    parts = [(cpu_seconds(pid) - was) / seconds for pid, was in zip(pids, used, strict=True)]

    assert 0 < max(parts) < 0.02


def test_it_ends_when_it_is_told_to_and_comes_back(lab: Lab):
    pid = units(lab)[NODE, REPORTER]["pid"]
    subprocess.run(["kill", "-TERM", str(pid)], check=True)

    assert soon(lambda: units(lab)[NODE, REPORTER]["ready"])
    assert soon(lambda: units(lab)[NODE, REPORTER]["pid"] not in (None, pid))
    assert seen(lab) == WHOLE


def test_a_reset_leaves_nothing_of_it(lab: Lab):
    assert lab.said("cluster", "reset") == f"changed: {SERVER}, {NODE}"

    assert units(lab) == {}
    assert {node: lab.on(node, LEFT) for node in (SERVER, NODE)} == {SERVER: "", NODE: ""}
    for node in (SERVER, NODE):
        assert not cgroups.group(f"{lab.place.cgroup}/system/{node}/unit-{REPORTER}").exists()
    assert list(lab.place.run.rglob(f"*{REPORTER}*")) == []
    assert lab.said("cluster", "reset") == "nothing to change"
