# SPDX-License-Identifier: GPL-3.0-or-later
"""`pkgctl up --provider libvirt` against a libvirt host of its own: machines that do nothing.

Whether real nodes work is asked elsewhere; here it is what is made, found, repaired and removed.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from .hypervisor import Hypervisor
from .leavings import NOTHING, left

pytestmark = pytest.mark.vm("libvirt", "qemu", "pulumi", "ssh")

ROOT = Path(__file__).parents[2]
TESTBED = "lab"
NEIGHBOUR = "lab-2"
EMPTY_MIB = 32
NODES = """\
name: pair
sites: {{here: {{access: lan}}}}
kinds:
  server: {{role: cloud, cpu: 500m, memory: 64Mi, disks: {{data: {{size: 16Mi, mount: /data}}}}}}
  device: {{role: edge, cpu: 250m, memory: {memory}}}
nodes:
  - {{name: server, site: here, kind: server}}
  - {{name: device, site: here, kind: device}}
links: [{{from: server, to: device, rate: 5mbit, delay: 20ms, symmetric: true}}]
"""


@dataclass(frozen=True)
class Lab:
    """A user with a libvirt host: what is asked of pkgctl, and what the host has then."""

    host: Hypervisor
    folder: Path

    @property
    def state(self) -> Path:
        return self.folder / "state"

    @property
    def environment(self) -> dict[str, str]:
        return {"PKGCTL_STATE": str(self.state), "PULUMI_CONFIG_PASSPHRASE": "not ours"}

    def topology(self, memory: str = "64Mi") -> str:
        path = self.folder / "pair.yaml"
        path.write_text(NODES.format(memory=memory))
        return str(path)

    def up_words(self, testbed: str = TESTBED) -> list[str]:
        image = ["--image", str(self.folder / "empty.qcow2")]
        quick = ["--set", "settle=false", "--set", "system_memory=64"]
        return ["up", self.topology(), "--provider", "libvirt", "--name", testbed, *image, *quick]

    def command(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "pkgctl", *words]

    def pkgctl(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        # The host has mounts of its own, in which this folder is the same.
        entered = ["env", "-C", str(ROOT), *self.command(*words)]
        return self.host.run(*entered, environment=self.environment, check=check)

    def up(self, *more: str, testbed: str = TESTBED) -> dict:
        return json.loads(self.pkgctl(*self.up_words(testbed), "-o", "json", *more).stdout)

    @contextlib.contextmanager
    def started(self, until: str) -> Iterator[subprocess.Popen[str]]:
        """Have an `up` that has said something already."""
        process = subprocess.Popen(
            [*self.host.enter, "env", "-C", str(ROOT), *self.command(*self.up_words())],
            env={**os.environ, **self.environment},
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        assert process.stdout is not None
        with process:
            assert any(line.startswith(until) for line in process.stdout), "it never said it"
            yield process

    def child(self, parent: subprocess.Popen[str]) -> int:
        """Return pkgctl's own process; the one that entered the host waits for it."""
        return int(Path(f"/proc/{parent.pid}/task/{parent.pid}/children").read_text().split()[0])


@pytest.fixture
def lab(host, tmp_path) -> Iterator[Lab]:
    disk = tmp_path / "empty.qcow2"
    create = ["qemu-img", "create", "-q", "-f", "qcow2", str(disk), f"{EMPTY_MIB}M"]
    subprocess.run(create, check=True)
    found = Lab(host, tmp_path)
    yield found
    # Not all: local testbeds of this machine are somebody else's.
    found.pkgctl("down", "--name", TESTBED, "--host", "qemu:///system")


def test_a_testbed_comes_up_does_not_change_and_goes(lab):
    first = lab.up()

    assert {"+ domain server", "+ domain device"} <= set(first["changes"])
    assert lab.up()["changed"] is False
    record = json.loads((lab.state / TESTBED / "state.json").read_text())
    assert record["provider"] == "libvirt"
    shown = json.loads(lab.pkgctl("status", "--name", TESTBED, "-o", "json").stdout)
    assert {node["domain"] for node in shown["nodes"].values()} == {"running"}
    assert set(shown["silent"]) == {"server", "device"}
    lab.pkgctl("down", "--name", TESTBED)
    assert left(lab.host) == NOTHING
    assert not lab.state.exists()


def test_a_look_ahead_makes_nothing(lab):
    shown = lab.pkgctl(*lab.up_words(), "--dry-run")

    assert "+ domain server" in shown.stdout and "would change" in shown.stdout
    assert left(lab.host) == NOTHING and not lab.state.exists()


def test_nothing_secret_is_for_others_to_read(lab):
    lab.up()

    folder = lab.state / TESTBED
    assert folder.stat().st_mode & 0o077 == 0
    for path in (folder / "pulumi" / "passphrase", folder / "id_ed25519"):
        assert path.stat().st_mode & 0o077 == 0
    private = (folder / "id_ed25519").read_text().splitlines()[1]
    kept = [path for path in (folder / "pulumi").rglob("*") if path.is_file()]
    assert kept and not any(private.encode() in path.read_bytes() for path in kept)


def test_a_machine_that_somebody_removed_is_made_again_and_told_of(lab):
    lab.up()
    for word in ("destroy", "undefine"):
        lab.host.virsh(word, f"pkgctl.{TESTBED}.device")

    shown = lab.pkgctl(*lab.up_words())

    assert "found: domain device is gone\n" in shown.stdout
    assert "+ domain device" in shown.stdout
    assert "found:" not in lab.pkgctl(*lab.up_words()).stdout


def test_an_up_that_was_killed_is_gone_on_with(lab):
    with lab.started("+ pool") as process:
        os.kill(lab.child(process), signal.SIGKILL)

    shown = lab.pkgctl(*lab.up_words())

    assert f"testbed {TESTBED} is up" in shown.stdout
    assert lab.up()["changed"] is False
    assert len(lab.host.virsh("list", "--name").split()) == 2


def test_an_up_that_was_killed_leaves_nothing_after_down(lab):
    with lab.started("+ volume") as process:
        os.kill(lab.child(process), signal.SIGKILL)

    lab.pkgctl("down", "--name", TESTBED)

    assert left(lab.host) == NOTHING
    assert not lab.state.exists()


def test_an_interrupted_up_ends_in_order(lab):
    with lab.started("+ pool") as process:
        os.kill(lab.child(process), signal.SIGINT)

    assert process.returncode == 130
    locks = lab.state / TESTBED / "pulumi" / "backend" / ".pulumi" / "locks"
    assert list(locks.rglob("*.json")) == []
    lab.pkgctl("down", "--name", TESTBED)
    assert left(lab.host) == NOTHING


def test_down_touches_no_neighbour(lab):
    lab.up()
    foreign = lab.folder / "foreign.xml"
    foreign.write_text(f"<network><name>pkgctl.{NEIGHBOUR}.data</name></network>")
    lab.host.virsh("net-define", str(foreign))

    lab.pkgctl("down", "--name", TESTBED)

    found = left(lab.host)
    assert found["networks"].split()[0] == f"pkgctl.{NEIGHBOUR}.data"
    assert found["domains"] == found["pools"] == ""
    lab.pkgctl("down", "--name", NEIGHBOUR, "--host", "qemu:///system")
    assert left(lab.host) == NOTHING


def test_a_host_that_cannot_be_reached_is_told_before_anything_is_made(lab):
    nowhere = "qemu+unix:///system?socket=/nowhere"

    refused = lab.pkgctl(*lab.up_words(), "--host", nowhere, check=False)

    assert refused.returncode == 3
    assert f"the libvirt host {nowhere}" in refused.stderr and refused.stderr.count("\n") == 1
    assert not lab.state.exists()
