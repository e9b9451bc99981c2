# SPDX-License-Identifier: GPL-3.0-or-later
"""The roles of K3s on virtual machines: by systemd, in control groups of version 2.

The release is what tests/kubernetes/roles.py takes: the stand-in's, or K3s itself.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from pkgctl import image
from pkgctl.errors import PkgctlError
from tests.kubernetes import assets
from tests.kubernetes.roles import Releases, pod
from tests.kubernetes.standin import pack

from .guests import Bed, Size, running

pytestmark = [
    pytest.mark.vm("libvirt", "qemu", "image", "ssh"),
    pytest.mark.kubernetes(*pack.NEEDS),
]

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
SLICE = "/sys/fs/cgroup/pkgctl.slice"
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


@dataclass(frozen=True)
class Lab:
    """Machines that are a cluster, and what was on them before."""

    bed: Bed
    releases: Releases
    before: dict[str, set[str]]

    def pkgctl(self, *words: str) -> str:
        """Return what a command of ours prints; it must succeed."""
        done = self.bed.tool("pkgctl", *words, timeout=PATIENCE)
        assert done.status == 0, done.errors
        return done.output.strip()

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
        words = (playbook, "-e", f"@{told}")
        done = self.bed.tool("ansible-playbook", *words, timeout=2 * PATIENCE)
        assert done.status == 0, done.output + done.errors
        return done.changed

    def kubectl(self, *words: str) -> str:
        config = self.pkgctl("cluster", "kubeconfig", "--path")
        command = (assets.path("kubectl"), f"--kubeconfig={config}", *words)
        return self.bed.host.run(*command, timeout=PATIENCE).stdout

    def nodes(self) -> dict[str, dict[str, str]]:
        """Return the rows of the cluster's nodes."""
        found = json.loads(self.pkgctl("cluster", "status", "-o", "json"))
        return {each["node"]: each for each in found["nodes"]}

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
        self.kubectl("wait", "--for=condition=Ready", "pod", f"web-{node}", "--timeout=600s")
        return str(self.pod(node)["podIP"])

    def groups(self, node: str) -> list[list[str]]:
        """Return the control group of each pod's process on a node, and its limits."""
        return [line.split() for line in self.bed.ssh(node, PODS).splitlines()]


def there(bed: Bed, node: str) -> set[str]:
    """Return what is on a node, a line each."""
    return set(bed.ssh(node, THERE, timeout=300).splitlines())


def eventually(holds: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + PATIENCE
    while not holds() and time.monotonic() < deadline:
        time.sleep(2.0)
    return holds()


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    try:
        found = image.find("")
    except PkgctlError as error:
        pytest.skip(f"needs an image: {error}")
    with running((SERVER, AGENT), found, SIZES) as bed:
        bed.play("site.yml")
        releases = Releases(bed.root / "releases")
        made = Lab(bed, releases, {node: there(bed, node) for node in SERVICES})
        changed = made.install()
        assert all(changed[node] for node in SERVICES)
        yield made


def test_all_machines_are_nodes_kept_by_their_systemd(lab: Lab) -> None:
    nodes = lab.nodes()

    assert {name: (each["ready"], each["role"]) for name, each in nodes.items()} == {
        SERVER: ("yes", "server"),
        AGENT: ("yes", "agent"),
    }
    assert {each["version"] for each in nodes.values()} == {lab.releases.version()}
    assert {(each["cpu"], each["memory"]) for each in nodes.values()} == {
        ("1", "512Mi"),
        ("0.9", "256Mi"),
    }
    for node, service in SERVICES.items():
        asked = f"systemctl is-enabled {service}; systemctl is-active {service}"
        assert lab.bed.ssh(node, asked).split() == ["enabled", "active"]


def test_a_second_run_changes_nothing(lab: Lab) -> None:
    asked = "systemctl show -p MainPID --value {}"
    before = {node: lab.bed.ssh(node, asked.format(name)) for node, name in SERVICES.items()}

    assert lab.install() == dict.fromkeys(SERVICES, 0)

    now = {node: lab.bed.ssh(node, asked.format(name)) for node, name in SERVICES.items()}
    assert now == before


def test_pods_reach_one_another_and_are_bounded_below_their_nodes_slice(lab: Lab) -> None:
    for node in SERVICES:
        lab.run(node, "serve", "80")
    addresses = {node: lab.address(node) for node in SERVICES}

    for node, other in ((SERVER, AGENT), (AGENT, SERVER)):
        url = f"http://{addresses[other]}/"
        fetched = lab.kubectl("exec", f"web-{node}", "--", "/busy", "fetch", url)
        assert f"web-{other}" in fetched
        ((group, *limits),) = lab.groups(node)
        assert group.startswith(f"{SLICE}/pkgctl-kubepods.slice/")
        assert limits == ["80000", "100000", str(32 << 20)]


def test_a_layer_on_the_node_lowers_what_its_pods_get(lab: Lab) -> None:
    lab.kubectl("delete", "pod", f"web-{AGENT}", "--wait")
    lab.run(AGENT, "burn", "100000")
    lab.address(AGENT)
    try:
        assert cores(lab) > 0.4

        lab.bed.play(f"perturb.yml -e node={AGENT} -e cpu=0.2 -e name=starved")

        assert lab.bed.ssh(AGENT, f"cat {SLICE}/cpu.max") == "20000 100000\n"
        assert cores(lab) < 0.25
    finally:
        lab.bed.play("heal.yml")
        lab.kubectl("delete", "pod", f"web-{AGENT}", "--wait")
    assert lab.bed.ssh(AGENT, f"cat {SLICE}/cpu.max") == "90000 100000\n"


def cores(lab: Lab) -> float:
    """Return how many cores the agent's pods use, by the clock of its machine."""
    read = f"cat /proc/uptime; grep usage_usec {SLICE}/pkgctl-kubepods.slice/cpu.stat"
    shown = lab.bed.ssh(AGENT, f"{read}; sleep 20; {read}")
    numbers = [float(each) for each in re.findall(r"^(?:usage_usec )?([\d.]+)", shown, re.M)]
    began, used, ended, now = numbers
    return (now - used) / 1e6 / (ended - began)


def test_a_machine_that_lost_power_is_a_node_again_by_itself(lab: Lab) -> None:
    lab.run(AGENT, "serve", "80")
    lab.address(AGENT)
    before = lab.pod(AGENT)["containerStatuses"][0]["containerID"]
    crash = f"perturb.yml -e node={AGENT} -e health=crashed -e name=outage"
    try:
        assert lab.bed.play(crash).changed == {AGENT: 1}
        assert lab.bed.state(AGENT) == "shut off"
        assert eventually(lambda: lab.nodes()[AGENT]["ready"] == "no")
    finally:
        lab.bed.play("heal.yml")

    assert eventually(lambda: lab.nodes()[AGENT]["ready"] == "yes")
    assert eventually(lambda: lab.pod(AGENT)["containerStatuses"][0]["restartCount"] == 1)
    assert lab.address(AGENT)
    assert lab.pod(AGENT)["containerStatuses"][0]["containerID"] != before
    ((group, *_),) = lab.groups(AGENT)
    assert group.startswith(f"{SLICE}/pkgctl-kubepods.slice/")
    assert lab.install() == dict.fromkeys(SERVICES, 0)


def test_an_upgrade_keeps_pods_running(lab: Lab) -> None:
    def containers() -> dict[str, str]:
        pods = {node: lab.pod(node)["containerStatuses"][0] for node in SERVICES}
        return {node: f"{pod['containerID']} {pod['restartCount']}" for node, pod in pods.items()}

    before = containers()

    assert all(lab.play("k3s/upgrade.yml", 1).values())

    assert {each["version"] for each in lab.nodes().values()} == {lab.releases.version(1)}
    assert containers() == before
    for node in SERVICES:
        assert len(lab.groups(node)) == 1


def test_a_reset_leaves_nothing(lab: Lab) -> None:
    assert lab.pkgctl("cluster", "reset") == f"changed: {SERVER}, {AGENT}"

    assert {node: there(lab.bed, node) - lab.before[node] for node in SERVICES} == {
        SERVER: set(),
        AGENT: set(),
    }
    assert not (lab.bed.folder / "k3s").exists()
    assert lab.pkgctl("cluster", "reset") == "nothing to change"
