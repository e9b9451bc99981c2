# SPDX-License-Identifier: GPL-3.0-or-later
"""Two virtual machines as a cluster of K3s: how that is asked for, and all that it can leave there.

The release is what tests/kubernetes/roles.py takes: the stand-in's, or K3s itself.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from typing import Any

import pytest

from pkgctl import image
from pkgctl.errors import PkgctlError
from tests.conformance.subjects import Run
from tests.kubernetes import assets
from tests.kubernetes.roles import Releases, pod

from .guests import Bed, Size, running

SERVER, AGENT = "cloud-1", "edge-1"
SIZES = {
    SERVER: Size(vcpus=2, memory=1536, cpu=1.0, share=512),
    AGENT: Size(vcpus=1, memory=768, cpu=0.9, share=256),
}
SERVICES = {SERVER: "k3s", AGENT: "k3s-agent"}
# Emulated machines that share a busy one are slow to do anything.
PATIENCE = 1800.0
# What the API does for the sake of many clients, and what it works out at its start for them.
SETTINGS = {
    "kube-apiserver-arg": [
        "watch-cache=false",
        "enable-priority-and-fairness=false",
        "feature-gates=SizeBasedListCostEstimate=false",
    ]
}
# Where the pods' processes are, and what bounds the groups that they are in.
PODS = r"""
for file in $(find /sys/fs/cgroup -name cgroup.procs); do
    for pid in $(cat "$file"); do
        case "$(tr '\0' ' ' 2>/dev/null </proc/$pid/cmdline)" in
        "/busy "*) echo "${file%/*} $(cat "${file%/*}/cpu.max" "${file%/*}/memory.max" | xargs)" ;;
        esac
    done
done
"""
# All on a node that K3s or a container could have left there, and what is there in any case.
THERE = r"""
ls -d /var/log/pods /var/log/containers 2>/dev/null
ls -d /run/k3s /run/flannel /run/netns/* /run/systemd/transient/* 2>/dev/null
find /etc /opt /root /usr /var -xdev \
    -path /var/lib/pkgctl -prune -o -path /var/log -prune -o -path /var/lib/systemd -prune \
    -o -path /var/tmp -prune -o -path /root/.ansible -prune -o -name __pycache__ -prune -o -print \
    2>/dev/null
cut -d' ' -f2 /proc/self/mounts | sed 's/^/mount /'
ls /sys/class/net | sed 's/^/link /'
find /sys/fs/cgroup -type d -name '*kubepods*' -o -type d -name 'cri-*' | sed 's/^/group /'
systemctl list-units --all --plain --no-legend | cut -d' ' -f1 \
    | grep -E 'k3s|kubepods|cri-containerd|rancher|flannel' | sed 's/^/unit /'
nft list ruleset | grep -E 'KUBE-|CNI-|FLANNEL' | sed 's/^/rule /'
ps -eo args= | grep -E '[k]3s|[k]ube|[c]ontainerd|/[b]usy|/[p]ause' | sed 's/^/process /'
true
"""


class Cluster:
    """Machines that become a cluster, a server and an agent."""

    def __init__(self, bed: Bed) -> None:
        """Take note of what is on each machine before."""
        self.bed = bed
        self.releases = Releases(bed.root / "releases")
        self._before = {node: _there(bed, node) for node in SERVICES}

    def ansible(self, playbook: str, *words: str) -> Run:
        """Return how a playbook ended."""
        raise NotImplementedError

    def kubeconfig(self) -> str:
        """Return which file leads to the API."""
        raise NotImplementedError

    def install(self) -> dict[str, int]:
        """Make the machines a cluster, and return how many tasks changed each."""
        return self.play("k3s/site.yml", 0)

    def play(self, playbook: str, number: int) -> dict[str, int]:
        """Play one of K3s with a release, and return how many tasks changed each machine."""
        told = self.bed.root / "told.json"
        asked = {
            "airgap_dir": str(self.releases.bundle(number)),
            "k3s_patience": int(PATIENCE),
            "server_config_yaml": json.dumps(SETTINGS),
        }
        told.write_text(json.dumps(asked))
        done = self.ansible(playbook, "-e", f"@{told}")
        assert done.status == 0, done.output + done.errors
        return done.changed

    def kubectl(self, *words: str) -> str:
        """Return what kubectl prints; it must succeed."""
        command = (assets.path("kubectl"), f"--kubeconfig={self.kubeconfig()}", *words)
        return self.bed.host.run(*command, timeout=PATIENCE).stdout

    def run(self, node: str, *words: str) -> None:
        """Have a pod on a node that runs some words of the program in the image."""
        path = self.bed.root / f"{node}.yaml"
        path.write_text(pod(node, *words, cpu="800m", memory="32Mi"))
        self.kubectl("apply", "-f", str(path))

    def pod(self, node: str) -> dict[str, Any]:
        """Return what the API says of the pod on a node."""
        found: dict[str, Any] = json.loads(self.kubectl("get", "pod", f"web-{node}", "-o", "json"))
        return found["status"]

    def address(self, node: str) -> str:
        """Return the address of the pod on a node, once it is ready."""
        self.kubectl("wait", "--for=condition=Ready", "pod", f"web-{node}", "--timeout=1500s")
        return str(self.pod(node)["podIP"])

    def fetched(self, node: str, other: str) -> str:
        """Return what the pod on a node gets from that on another."""
        url = f"http://{self.address(other)}/"
        return self.kubectl("exec", f"web-{node}", "--", "/busy", "fetch", url)

    def containers(self) -> dict[str, str]:
        """Return the container of each node's pod, and how often it started again."""
        pods = {node: self.pod(node)["containerStatuses"][0] for node in SERVICES}
        return {node: f"{pod['containerID']} {pod['restartCount']}" for node, pod in pods.items()}

    def groups(self, node: str) -> list[list[str]]:
        """Return the control group of each pod's process on a node, and its limits."""
        return [line.split() for line in self.bed.ssh(node, PODS).splitlines()]

    def services(self) -> dict[str, list[str]]:
        """Return of each machine's service whether it is enabled and active, and its process."""
        asked = "systemctl is-enabled {0}; systemctl is-active {0}; systemctl show -p MainPID {0}"
        return {
            node: self.bed.ssh(node, asked.format(name)).split() for node, name in SERVICES.items()
        }

    def left(self) -> dict[str, set[str]]:
        """Return what is on each machine that was not there before."""
        return {node: _there(self.bed, node) - self._before[node] for node in SERVICES}


def _there(bed: Bed, node: str) -> set[str]:
    """Return what is on a node, a line each."""
    return set(bed.ssh(node, THERE, timeout=PATIENCE).splitlines())


@contextlib.contextmanager
def machines() -> Iterator[Bed]:
    """Have the machines that can be a cluster while the block runs."""
    try:
        found = image.find("")
    except PkgctlError as error:
        pytest.skip(f"needs an image: {error}")
    with running((SERVER, AGENT), found, SIZES) as bed:
        yield bed
