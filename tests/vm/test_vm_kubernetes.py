# SPDX-License-Identifier: GPL-3.0-or-later
"""The roles of K3s on virtual machines: by systemd, in control groups of version 2."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest

from tests.conformance.subjects import Run
from tests.kubernetes.standin import pack
from tests.waiting import soon

from .clusters import AGENT, PATIENCE, SERVER, SERVICES, Cluster, machines

pytestmark = [
    pytest.mark.vm("libvirt", "qemu", "image", "ssh"),
    pytest.mark.kubernetes(*pack.NEEDS),
]

SLICE = "/sys/fs/cgroup/pkgctl.slice"


class Lab(Cluster):
    """A testbed of machines, whose commands make it a cluster."""

    def pkgctl(self, *words: str) -> str:
        """Return what a command of ours prints; it must succeed."""
        done = self.bed.tool("pkgctl", *words, timeout=PATIENCE)
        assert done.status == 0, done.errors
        return done.output.strip()

    def ansible(self, playbook: str, *words: str) -> Run:
        return self.bed.tool("ansible-playbook", playbook, *words, timeout=2 * PATIENCE)

    def kubeconfig(self) -> str:
        return self.pkgctl("cluster", "kubeconfig", "--path")

    def nodes(self) -> dict[str, dict[str, str]]:
        """Return the rows of the cluster's nodes."""
        found = json.loads(self.pkgctl("cluster", "status", "-o", "json"))
        return {each["node"]: each for each in found["nodes"]}


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with machines() as bed:
        bed.play("site.yml")
        made = Lab(bed)
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
    for enabled, active, _ in lab.services().values():
        assert (enabled, active) == ("enabled", "active")


def test_a_second_run_changes_nothing(lab: Lab) -> None:
    before = lab.services()

    assert lab.install() == dict.fromkeys(SERVICES, 0)

    assert lab.services() == before


def test_pods_reach_one_another_and_are_bounded_below_their_nodes_slice(lab: Lab) -> None:
    for node in SERVICES:
        lab.run(node, "serve", "80")
    for node in SERVICES:
        lab.address(node)

    for node, other in ((SERVER, AGENT), (AGENT, SERVER)):
        assert f"web-{other}" in lab.fetched(node, other)
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
        assert soon(lambda: lab.nodes()[AGENT]["ready"] == "no", PATIENCE, 2.0)
    finally:
        lab.bed.play("heal.yml")

    assert soon(lambda: lab.nodes()[AGENT]["ready"] == "yes", PATIENCE, 2.0)
    assert soon(lambda: lab.pod(AGENT)["containerStatuses"][0]["restartCount"] >= 1, PATIENCE, 2.0)
    assert lab.address(AGENT)
    assert lab.pod(AGENT)["containerStatuses"][0]["containerID"] != before
    ((group, *_),) = lab.groups(AGENT)
    assert group.startswith(f"{SLICE}/pkgctl-kubepods.slice/")
    assert lab.install() == dict.fromkeys(SERVICES, 0)


def test_an_upgrade_keeps_pods_running(lab: Lab) -> None:
    before = lab.containers()

    assert all(lab.play("k3s/upgrade.yml", 1).values())

    assert {each["version"] for each in lab.nodes().values()} == {lab.releases.version(1)}
    assert lab.containers() == before
    for node in SERVICES:
        assert len(lab.groups(node)) == 1


def test_a_reset_leaves_nothing(lab: Lab) -> None:
    assert lab.pkgctl("cluster", "reset") == f"changed: {SERVER}, {AGENT}"

    assert lab.left() == {SERVER: set(), AGENT: set()}
    assert not (lab.bed.folder / "k3s").exists()
    assert lab.pkgctl("cluster", "reset") == "nothing to change"
