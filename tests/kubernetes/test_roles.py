# SPDX-License-Identifier: GPL-3.0-or-later
"""The roles of K3s end to end on local nodes, with the stand-in: installed, upgraded, taken off."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pkgctl import topology
from pkgctl.local import paths, removal, testbed
from pkgctl.nodeside import cgroups, channel

from . import assets
from .standin import pack

pytestmark = [pytest.mark.root, pytest.mark.kubernetes(*pack.NEEDS)]

NEXT = "v1.34.4+k3s2"
NODES = ("cloud-1", "edge-1")
POD = """
apiVersion: v1
kind: Pod
metadata: {{name: web-{node}}}
spec:
  nodeName: {node}
  automountServiceAccountToken: false
  terminationGracePeriodSeconds: 0
  containers:
  - name: web
    image: pkgctl.test/busy:1
    imagePullPolicy: Never
    command: [/busy, serve, "80"]
    resources: {{limits: {{cpu: 50m, memory: 16Mi}}}}
"""
# All that K3s or a container could have left on a node.
LEFT = r"""
ls -d /etc/rancher /var/lib/rancher /var/lib/kubelet /var/lib/cni /run/k3s /run/flannel \
  /run/pkgctl/disks/k3s /usr/local/bin/k3s /run/netns/cni-* 2>/dev/null
ip -o link show | grep -E 'cni0|flannel|veth' || true
grep -E 'k3s|kubelet|netns/cni|/proc/sys/' /proc/self/mounts || true
nft list ruleset | grep -E 'KUBE-|CNI-|FLANNEL' || true
"""


class Lab:
    """A testbed with a cluster, and bundles of two releases."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name, self.folder = name, folder
        self.place = paths.paths(name)
        self.bundles = {version: self._bundle(version) for version in (pack.VERSION, NEXT)}

    def _bundle(self, version: str) -> Path:
        target = self.folder / version
        done = self.pkgctl(
            *("cluster", "bundle", version, "--from", str(pack.cached(version))),
            *("--to", str(target)),
        )
        assert done.returncode == 0, done.stderr
        return target

    def pkgctl(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "pkgctl", *words],
            capture_output=True,
            text=True,
            timeout=400,
            check=False,
            # A kubeconfig of the user's own must not lead the roles astray.
            env={**os.environ, "PKGCTL_TESTBED": self.name, "KUBECONFIG": "/nowhere"},
        )

    def cluster(self, command: str, version: str = pack.VERSION, *words: str):
        return self.pkgctl("cluster", command, "--bundle", str(self.bundles[version]), *words)

    def on(self, node: str, script: str) -> str:
        done = self.pkgctl("exec", node, "--", "sh", "-c", script)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def kubectl(self, *words: str, given: str | None = None) -> str:
        config = self.pkgctl("cluster", "kubeconfig", "--path")
        assert config.returncode == 0, config.stderr
        done = subprocess.run(
            [assets.path("kubectl"), f"--kubeconfig={config.stdout.strip()}", *words],
            input=given,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def nodes(self) -> dict[str, dict[str, str]]:
        done = self.pkgctl("cluster", "status", "-o", "json")
        assert done.returncode == 0, done.stderr
        return {each["node"]: each for each in json.loads(done.stdout)["nodes"]}

    def pods(self) -> dict[str, tuple[str, str, int]]:
        """Return each pod's address, its container's id and how often that was started again."""
        found = json.loads(self.kubectl("get", "pods", "-o", "json"))["items"]
        return {
            pod["metadata"]["name"]: (
                pod["status"].get("podIP", ""),
                pod["status"]["containerStatuses"][0]["containerID"],
                pod["status"]["containerStatuses"][0]["restartCount"],
            )
            for pod in found
        }

    def started(self) -> dict[str, int]:
        """Return the process of each node's service."""
        units = channel.call(self.place.agent / "agent.sock", "unit-list")["units"]
        return {each["node"]: each["pid"] for each in units}


def changed(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    made = Lab(f"roles-{os.getpid()}", tmp_path_factory.mktemp("bundles"))
    before = settings()
    try:
        testbed.up(topology.load("duo"), made.place)
        assert changed(made.cluster("install")) == "changed: cloud-1, edge-1"
        yield made
    finally:
        removal.down(made.place)
    assert settings() == before


def settings() -> list[str]:
    """Return what a kubelet would set for the whole machine."""
    names = ("vm/overcommit_memory", "kernel/panic", "kernel/panic_on_oops")
    return [Path("/proc/sys", name).read_text() for name in names]


@pytest.fixture(scope="module")
def pods(lab: Lab) -> dict[str, tuple[str, str, int]]:
    for node in NODES:
        lab.kubectl("apply", "-f", "-", given=POD.format(node=node))
    lab.kubectl("wait", "--for=condition=Ready", "pod", "--all", "--timeout=90s")
    return lab.pods()


def test_all_nodes_are_ready_with_what_the_topology_gives_them(lab: Lab):
    nodes = lab.nodes()

    assert {name: (each["ready"], each["role"]) for name, each in nodes.items()} == {
        "cloud-1": ("yes", "server"),
        "edge-1": ("yes", "agent"),
    }
    assert {each["version"] for each in nodes.values()} == {pack.VERSION}
    assert {each["site"] for each in nodes.values()} == {"cloud", "edge"}
    assert {(each["cpu"], each["memory"]) for each in nodes.values()} == {("1", "256Mi")}


def test_a_second_run_changes_nothing(lab: Lab):
    before = lab.started()

    assert changed(lab.cluster("install")) == "nothing to change"
    assert lab.started() == before


def test_pods_reach_one_another_and_count_against_their_nodes(lab: Lab, pods):
    addresses = {name: address for name, (address, _, _) in pods.items()}

    said = lab.on("cloud-1", f"curl -s -m 20 http://{addresses['web-edge-1']}/")
    assert "web-edge-1" in said
    url = f"http://{addresses['web-edge-1']}/"
    said = lab.kubectl("exec", "web-cloud-1", "--", "/busy", "fetch", url)
    assert "web-edge-1" in said
    own = cgroups.group(f"{lab.place.cgroup}/nodes/edge-1/kubepods")
    pids = [pid for group in own.descend() for pid in group.processes()]
    names = [Path(f"/proc/{pid}/cmdline").read_bytes() for pid in pids]
    assert any(name.startswith(b"/busy\0serve") for name in names)


def test_no_secret_is_where_others_can_read_it(lab: Lab):
    folder = lab.place.run / "k3s"
    secrets = [(folder / name).read_text().strip() for name in ("token", "agent-token")]
    assert all(len(each) >= 32 for each in secrets)
    lines = b"\n".join(
        path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if path.exists()
    ).decode(errors="replace")
    said = "".join(path.read_text() for path in lab.place.run.glob("logs/**/*.log"))
    open_to_all = lab.on(
        "cloud-1", "grep -rlE '" + "|".join(secrets) + "' /etc/rancher /run/k3s 2>/dev/null || true"
    ).split()

    assert not any(secret in lines or secret in said for secret in secrets)
    assert {oct(path.stat().st_mode & 0o777) for path in folder.iterdir()} == {"0o600"}
    assert open_to_all
    for path in open_to_all:
        assert lab.on("cloud-1", f"stat -c %a {path}").strip() == "600"


def test_what_is_wrong_fails_before_any_service_is_touched(lab: Lab, tmp_path: Path):
    before = lab.started()
    archive = next((lab.bundles[NEXT] / "amd64").glob("*.tar*"))
    broken = shutil.copytree(lab.bundles[NEXT], tmp_path / "broken")
    (broken / "amd64" / archive.name).write_bytes(b"x" * archive.stat().st_size)
    lacking = shutil.copytree(lab.bundles[NEXT], tmp_path / "lacking")
    (lacking / "amd64" / archive.name).unlink()

    for bundle, named in ((broken, "sha256"), (lacking, archive.name)):
        done = lab.pkgctl("cluster", "upgrade", "--bundle", str(bundle))
        assert (done.returncode, done.stdout) == (1, "")
        assert named in done.stderr and done.stderr.count("\n") == 1

    older = lab.cluster("install", NEXT, "-e", "k3s_version=v1.33.0+k3s1")
    assert older.returncode == 1 and "v1.33.0+k3s1" in older.stderr
    assert lab.started() == before
    assert {each["version"] for each in lab.nodes().values()} == {pack.VERSION}


def test_an_upgrade_keeps_pods_running(lab: Lab, pods):
    before = lab.started()

    assert changed(lab.cluster("upgrade", NEXT)) == "changed: cloud-1, edge-1"

    assert {each["version"] for each in lab.nodes().values()} == {NEXT}
    assert all(lab.started()[node] != before[node] for node in NODES)
    assert lab.pods() == pods
    assert lab.on("edge-1", "ls /run/pkgctl/disks/k3s/bin").split() == [f"k3s-{NEXT}"]

    before = lab.started()
    back = lab.cluster("upgrade", pack.VERSION)
    assert back.returncode == 1 and f"a node has {NEXT}" in back.stderr
    assert lab.started() == before


def test_a_node_made_anew_is_let_in_under_its_old_name(lab: Lab):
    uid = lab.kubectl("get", "node", "edge-1", "-o", "jsonpath={.metadata.uid}")
    done = lab.pkgctl("cluster", "reset", "--node", "edge-1")
    assert changed(done) == "changed: edge-1"
    assert set(lab.nodes()) == {"cloud-1"}

    assert "edge-1" in changed(lab.cluster("install", NEXT))

    assert lab.nodes()["edge-1"]["ready"] == "yes"
    assert lab.kubectl("get", "node", "edge-1", "-o", "jsonpath={.metadata.uid}") != uid


def test_a_taken_port_is_named_and_a_reset_leaves_nothing(lab: Lab):
    done = lab.pkgctl("cluster", "reset")
    assert changed(done) == "changed: cloud-1, edge-1"
    assert {node: lab.on(node, LEFT) for node in NODES} == dict.fromkeys(NODES, "")
    assert not (lab.place.run / "k3s").exists()
    assert changed(lab.pkgctl("cluster", "reset")) == "nothing to change"

    with testbed.inside(lab.place, "cloud-1"):
        taken = socket.create_server(("0.0.0.0", 6443))
    with taken:
        done = lab.cluster("install")
    assert done.returncode == 1 and "port 6443/tcp is taken by" in done.stderr
    assert {node: lab.on(node, LEFT) for node in NODES} == dict.fromkeys(NODES, "")
