# SPDX-License-Identifier: GPL-3.0-or-later
"""A node that is a machine of its own, on a kernel with netem and control groups of version 2."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.subjects import Run
from tests.vm import bare
from tests.vm.bare import Machine

ROOT = Path(__file__).parents[2]
TOOLS = Path(sys.executable).parent
NAMES = ("edge-1", "edge-2")
LINK = {"rate": 20_000_000, "delay": 0.005, "jitter": 0.0, "loss": 0.0}
WITHIN = Path(__file__).with_name("within.py")
SLICE = "/sys/fs/cgroup/pkgctl.slice"


pytestmark = pytest.mark.vm("qemu", "image", "ssh")


@dataclass(frozen=True)
class Pair:
    """Two machines, and the inventory by which Ansible finds them."""

    machines: list[Machine]
    inventory: Path

    def play(self, *words: str) -> dict[str, int]:
        """Run site.yml, and return how many tasks changed each host."""
        done = subprocess.run(
            [TOOLS / "ansible-playbook", "-i", self.inventory, "site.yml", *words],
            cwd=ROOT / "ansible",
            env={**os.environ, "LC_ALL": "C.UTF-8", "COLUMNS": "400"},
            capture_output=True,
            text=True,
            timeout=900,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return Run(done.returncode, done.stdout, done.stderr).changed

    def within(self, what: str) -> dict[str, Any]:
        """Run a part of within.py on the first machine, and return what it prints."""
        script = WITHIN.read_text().replace("'", "'\\''")
        told = self.machines[0].ssh(f"python3 -S -c '{script}' {what}", timeout=600)
        found: dict[str, Any] = json.loads(told)
        return found


def variables(machine: Machine, machines: list[Machine]) -> dict[str, Any]:
    others = [each for each in machines if each is not machine]
    known = {
        "name": machine.name,
        "testbed": "bare",
        "interface": "data",
        "address": machine.address,
        "network": bare.NETWORK,
        "peers": {each.name: each.address for each in others},
        "access": None,
        "cgroup": "pkgctl.slice",
        "cpu": 1.0,
        "memory": 256 << 20,
        "pids": 512,
        "disks": {},
    }
    base = {way: {each.name: LINK for each in others} for way in ("egress", "ingress")}
    return {**machine.variables, "pkgctl_identity": known, "pkgctl_base": base}


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    folder = tmp_path_factory.mktemp("machines")
    base = bare.built()
    assert base is not None
    with bare.machines(folder / "vms", NAMES, base) as machines:
        hosts = {each.name: variables(each, machines) for each in machines}
        inventory = folder / "inventory.yml"
        inventory.write_text(json.dumps({"nodes": {"hosts": hosts}}))
        made = Pair(machines, inventory)
        assert set(made.play()) == set(NAMES)
        yield made


def test_a_second_run_of_the_playbook_changes_nothing(pair):
    assert pair.play() == dict.fromkeys(NAMES, 0)


def test_the_node_is_as_it_was_described(pair):
    first, second = pair.machines

    assert first.ssh(f"cat {SLICE}/cpu.max {SLICE}/memory.max {SLICE}/pids.max").split() == [
        *("100000", "100000", str(256 << 20), "512")
    ]
    assert "delay 5ms" in first.ssh("tc qdisc show dev data")
    told = first.ssh(f"ping -c 5 -i 0.3 -q {second.name}")
    assert f"({second.address})" in told
    shortest = float(re.findall(r"= ([\d.]+)/", told)[0])
    assert shortest >= 10.0


def test_every_quality_is_set_read_back_changed_in_place_and_healed_exactly(pair):
    found = pair.within("links")

    assert found["qualities"] > 10
    assert found["wrong"] == []


# Ping ends with the last answer, and may not see that one's double.
@pytest.mark.parametrize(("share", "least", "most"), [("1.0", 199, 200), ("0.5", 60, 140)])
def test_a_share_of_the_packets_arrives_twice(pair, share, least, most):
    first, second = pair.machines
    script = (
        "import sys; sys.path.insert(0, '/usr/local/lib/pkgctl')\n"
        "from ansible_collections.pkgctl.testbed.plugins.module_utils import identity, kinds\n"
        f"egress = {{'{second.name}': {{'duplicate': {share}}}}}\n"
        "for body in [{'egress': egress, 'ingress': {}}, None][BODY:][:1]:\n"
        "    kinds.set_layer(identity.load(), 'link', 'twice', body)\n"
    )
    try:
        first.ssh(f'python3 -S -c "{script.replace("BODY", "0")}"')
        told = first.ssh(f"ping -c 200 -i 0.02 -q {second.name}")
    finally:
        first.ssh(f'python3 -S -c "{script.replace("BODY", "1")}"')

    doubles = int(re.findall(r"\+(\d+) duplicates", told)[0])
    assert least <= doubles <= most


def test_what_systemd_does_leaves_the_limits_alone(pair):
    machine = pair.machines[0]
    shown = (
        f"cat {SLICE}/cpu.max {SLICE}/memory.max {SLICE}/pids.max {SLICE}/cgroup.subtree_control"
    )
    before = machine.ssh(shown)

    machine.ssh("systemctl daemon-reload; systemd-run -q --wait --slice=pkgctl-other.slice true")

    assert machine.ssh(shown) == before
    assert {"cpu", "io", "memory", "pids"} <= set(before.split())


def test_an_agent_that_is_killed_is_started_again_by_systemd(pair):
    machine = pair.machines[0]
    before = machine.ssh("systemctl show -p MainPID --value pkgctl-agent")

    machine.ssh("systemctl kill -s KILL pkgctl-agent")

    machine.ssh("for i in $(seq 60); do systemctl is-active -q pkgctl-agent && exit; sleep 1; done")
    assert machine.ssh("systemctl show -p MainPID --value pkgctl-agent") != before
    assert machine.ssh("pgrep -cf '[m]odule_utils.agent import'").strip() == "1"


def test_after_a_loss_of_power_the_node_is_what_it_was_asked_to_be(pair):
    machine = pair.machines[0]
    base = bare.built()
    assert base is not None
    pair.within("before")
    machine.ssh("sync")

    machine.pull_the_plug()
    machine.start(base)
    machine.wait()
    machine.ssh(
        "for i in $(seq 120); do systemctl is-active -q pkgctl-agent && exit; sleep 1; done"
    )
    found = pair.within("after")

    assert found["drift"] == []
    assert found["layers"] == {"link": ["base", "stays"], "quota": ["base", "goes-on"]}
    assert found["leases"] == {"stays": None, "goes-on": 3600.0}
    (job,) = [each for each in found["jobs"] if each["id"] == "sleeper"]
    assert (job["status"], job["lost"]) == ("failed", True)
    assert job["error"] == f"node {machine.name} was started again"
    assert job["stamps"]["started"] < job["stamps"]["finished"]
