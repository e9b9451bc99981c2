# SPDX-License-Identifier: GPL-3.0-or-later
"""The program by the real `pulumi` command, against a libvirt host of its own."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests import needs

from .hypervisor import Hypervisor
from .leavings import NOTHING, left

ROOT = Path(__file__).parents[2]
PROJECT = "pkgctl-testbed"
TESTBED = "trial"
# Machines of this image run and do nothing: enough for all but the nodes themselves.
EMPTY_MIB = 32
NODES = """\
name: pair
sites: {{here: {{access: lan}}}}
kinds:
  server:
    {{role: cloud, cpu: 500m, memory: {memory}, disks: {{data: {{size: {disk}, mount: /data}}}}}}
  device: {{role: edge, cpu: 250m, memory: 64Mi}}
nodes:
  - {{name: server, site: here, kind: server}}
  - {{name: device, site: here, kind: device}}
links: [{{from: server, to: device, rate: {rate}, delay: 20ms, symmetric: true}}]
"""

pytestmark = pytest.mark.vm("libvirt", "qemu", "pulumi", "image", "ssh")


@dataclass
class Stack:
    """A stack of the program in a folder of its own."""

    host: Hypervisor
    folder: Path
    config: dict[str, Any] = field(default_factory=dict)

    @property
    def state(self) -> Path:
        return self.folder / "state" / TESTBED

    @property
    def environment(self) -> Mapping[str, str]:
        return {
            "PATH": needs.path(),
            "PKGCTL_STATE": str(self.folder / "state"),
            "PULUMI_BACKEND_URL": f"file://{self.folder / 'backend'}",
            "PULUMI_CONFIG_PASSPHRASE": "of a test",
            "PULUMI_SKIP_UPDATE_CHECK": "true",
            "LIBVIRT_DEFAULT_URI": "qemu:///system",
        }

    def begin(self, **config: Any) -> None:
        (self.folder / "backend").mkdir()
        program = self.folder / "program"
        shutil.copytree(ROOT / "pulumi", program, ignore=shutil.ignore_patterns("__pycache__"))
        project = yaml.safe_load((program / "Pulumi.yaml").read_text())
        project["runtime"]["options"]["virtualenv"] = sys.prefix
        (program / "Pulumi.yaml").write_text(yaml.safe_dump(project))
        self.pulumi("stack", "init", "lab")
        self.configure(**config)

    def configure(self, **config: Any) -> None:
        self.config |= config
        path = self.folder / "program" / "Pulumi.lab.yaml"
        known = yaml.safe_load(path.read_text()) if path.exists() else {}
        wanted = {f"{PROJECT}:{key}": value for key, value in self.config.items()}
        path.write_text(yaml.safe_dump({**known, "config": wanted}))

    def topology(self, memory: str = "64Mi", disk: str = "16Mi", rate: str = "5mbit") -> None:
        path = self.folder / "pair.yaml"
        path.write_text(NODES.format(memory=memory, disk=disk, rate=rate))
        self.configure(topology=str(path))

    def command(self, *words: str) -> list[str]:
        return ["pulumi", "-C", str(self.folder / "program"), "--non-interactive", *words]

    def pulumi(
        self, *words: str, check: bool = True, timeout: float = 580.0
    ) -> subprocess.CompletedProcess[str]:
        return self.host.run(
            *self.command(*words), environment=self.environment, check=check, timeout=timeout
        )

    def up(self, **options: Any) -> subprocess.CompletedProcess[str]:
        return self.pulumi("up", "--yes", "--skip-preview", "--suppress-outputs", **options)

    def changes(self, *words: str) -> dict[str, int]:
        """Return how many resources a preview would treat in which way."""
        return json.loads(self.pulumi("preview", "--json", *words).stdout)["changeSummary"]

    def outputs(self) -> dict[str, Any]:
        return json.loads(self.pulumi("stack", "output", "--json").stdout)

    def destroy(self) -> None:
        self.pulumi("destroy", "--yes", "--skip-preview")


@pytest.fixture
def stack(host, tmp_path) -> Iterator[Stack]:
    """A stack whose machines are there and do nothing; destroyed whatever happens."""
    disk = tmp_path / "empty.qcow2"
    command = ["qemu-img", "create", "-q", "-f", "qcow2", str(disk), f"{EMPTY_MIB}M"]
    subprocess.run(command, check=True)
    found = Stack(host, tmp_path)
    found.begin(
        provider="libvirt",
        testbed=TESTBED,
        hosts=[{"name": "here", "uri": "qemu:///system"}],
        image=str(disk),
        settle=False,
        system_memory=64,
    )
    found.topology()
    yield found
    found.pulumi("cancel", "--yes", check=False)
    found.pulumi("destroy", "--yes", "--skip-preview", check=False)


def domain(stack: Stack, node: str) -> str:
    return stack.host.virsh("domuuid", f"pkgctl.{TESTBED}.{node}")


def test_a_stack_comes_up_does_not_change_and_goes(stack):
    began = time.monotonic()
    stack.up()
    took = time.monotonic() - began

    assert set(stack.changes()) == {"same"}
    domains = {f"pkgctl.{TESTBED}.{node}" for node in ("device", "server")}
    assert set(stack.host.virsh("list", "--name").split()) == domains
    stack.pulumi("refresh", "--yes", "--skip-preview")
    assert set(stack.changes()) == {"same"}
    began = time.monotonic()
    stack.destroy()
    # Nobody waits for machines that hear of no power button. On a busy machine both take longer.
    assert time.monotonic() - began < 30 + took
    assert left(stack.host) == NOTHING
    assert not stack.state.exists()


def test_secrets_are_in_files_of_their_owner_and_in_no_state(stack):
    stack.up()

    said = stack.pulumi("stack", "export").stdout + json.dumps(stack.outputs())
    assert "PRIVATE" not in said
    private = (stack.state / "id_ed25519").read_text().splitlines()[1]
    assert private not in said
    for path in (stack.state / "id_ed25519", *(stack.state / "seeds").iterdir()):
        assert path.stat().st_mode & 0o077 == 0


def test_more_memory_makes_another_machine_of_the_same_disks(stack):
    stack.up()
    before = domain(stack, "server")

    stack.topology(memory="96Mi")

    assert stack.changes()["replace"] == 1
    other = domain(stack, "device")
    stack.up()
    assert domain(stack, "server") != before
    assert domain(stack, "device") == other


def test_another_disk_is_refused_in_the_preview_until_it_is_allowed(stack):
    stack.up()
    before = left(stack.host)
    stack.topology(disk="32Mi")

    refused = stack.pulumi("preview", check=False)

    assert refused.returncode != 0
    assert "server's data (16Mi on here → 32Mi on here)" in refused.stdout + refused.stderr
    assert stack.up(check=False).returncode != 0
    assert left(stack.host) == before
    stack.configure(replace_disks=True)
    stack.up()
    volume = f"/var/lib/libvirt/images/pkgctl.{TESTBED}/server.disk.data"
    assert "32.00 MiB" in stack.host.virsh("vol-info", volume)


def test_what_was_killed_can_be_gone_on_with_and_leaves_nothing(stack):
    process = subprocess.Popen(
        [*stack.host.enter, *stack.command("up", "--yes", "--skip-preview")],
        env={**os.environ, **stack.environment},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    deadline = time.monotonic() + 240
    while f"pkgctl.{TESTBED}." not in stack.host.virsh("list", "--all"):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    time.sleep(3)  # the plugins end what they have begun
    stack.pulumi("cancel", "--yes")

    stack.up()

    assert set(stack.changes()) == {"same"}
    stack.destroy()
    assert left(stack.host) == NOTHING


def test_a_machine_that_somebody_removed_comes_back_after_a_refresh(stack):
    stack.up()
    stack.host.virsh("destroy", f"pkgctl.{TESTBED}.device")
    stack.host.virsh("undefine", f"pkgctl.{TESTBED}.device")

    stack.pulumi("refresh", "--yes", "--skip-preview")
    assert stack.changes()["create"] == 1
    stack.up()

    assert domain(stack, "device")


def test_what_no_state_knows_goes_with_the_stack(stack):
    stack.up()
    orphan = stack.folder / "orphan.xml"
    orphan.write_text(f"<network><name>pkgctl.{TESTBED}.orphan</name></network>")
    stack.host.virsh("net-define", str(orphan))

    assert stack.changes()["update"] == 1
    stack.destroy()

    assert left(stack.host) == NOTHING


def test_nodes_answer_and_are_settled(stack):
    stack.configure(image="", settle=True, system_memory=256)

    stack.up()

    assert set(stack.changes()) == {"same"}
    record = json.loads((stack.state / "state.json").read_text())
    known = record["access"]
    ssh = ["ssh", "-o", "BatchMode=yes", "-o", f"UserKnownHostsFile={known['known_hosts']}"]
    ssh += ["-o", "StrictHostKeyChecking=yes", "-o", "HostKeyAlias=server", "-i", known["key"]]
    server = f"root@{record['nodes']['server']['host']}"
    peer = record["nodes"]["device"]["address"]
    said = stack.host.run(*ssh, server, f"ping -c 3 -q {peer}; findmnt -n /data").stdout
    assert " 0% packet loss" in said
    assert float(said.split("= ")[1].split("/")[0]) >= 39.0
    assert "/dev/vdc" in said

    play = ["env", "-C", ROOT / "ansible", f"{sys.prefix}/bin/ansible-playbook", "perturb.yml"]
    own = {**stack.environment, "PKGCTL_TESTBED": TESTBED}
    stack.host.run(*play, "-e", "bw=3mbit", environment=own)
    classes = "for each in /sys/class/net/*; do tc class show dev ${each##*/}; done"
    assert "rate 3Mbit" in stack.host.run(*ssh, server, classes).stdout

    stack.topology(rate="8mbit")
    assert stack.changes()["update"] == 2  # the record, and the nodes
