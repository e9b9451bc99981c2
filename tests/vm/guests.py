# SPDX-License-Identifier: GPL-3.0-or-later
"""A testbed of virtual machines made by hand: domains of a libvirt host of the test's own.

What Pulumi makes, in few lines: two bridges, machines with the image and a seed, and the record.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pkgctl import nodeplan
from pkgctl.image import Image
from tests.conformance.subjects import Run

from . import bare
from .hypervisor import Hypervisor, hypervisor

ROOT = Path(__file__).parents[2]
TOOLS = Path(sys.executable).parent
TESTBED = "lab"
DISK = 64 << 20
_XML = """
<domain type='qemu'>
  <name>{domain}</name>
  <memory unit='MiB'>{memory}</memory>
  <vcpu>{vcpus}</vcpu>
  <os>
    <type arch='x86_64' machine='pc'>hvm</type>
    <kernel>{kernel}</kernel><initrd>{initrd}</initrd><cmdline>{cmdline}</cmdline>
  </os>
  <features><acpi/></features>
  <cpu mode='maximum'/>
  <devices>
    {disks}
    <interface type='bridge'><source bridge='mgmt0'/><mac address='{mgmt}'/><model type='virtio'/>
    </interface>
    <interface type='bridge'><source bridge='data0'/><mac address='{data}'/><model type='virtio'/>
    </interface>
    <serial type='file'><source path='{folder}/console.log'/></serial>
  </devices>
</domain>
"""
_DISK = """<disk type='file' device='disk'><driver name='qemu' type='{form}' cache='unsafe'/>
    <source file='{path}'/><target dev='{target}' bus='virtio'/><serial>{target}</serial></disk>"""


@dataclass(frozen=True)
class Size:
    """What a machine has, and which part of it is the node's.

    Attributes:
        vcpus: its processors.
        memory: its memory in MiB.
        cpu: the node's cores.
        share: the node's memory in MiB.
    """

    vcpus: int = 1
    memory: int = 512
    cpu: float = 1.0
    share: int = 256


@dataclass
class Guest(bare.Machine):
    """A machine that libvirt runs."""

    size: Size = Size()

    @property
    def domain(self) -> str:
        """Its domain's name."""
        return f"pkgctl.{TESTBED}.{self.name}"

    @property
    def host(self) -> str:
        """Its address on the management network."""
        return f"192.168.177.{10 + self.number}"

    def _seed(self, host: str) -> dict[str, str]:
        parts = super()._seed(host)
        network = parts["network-config"].replace("10.0.2.15/24", f"{self.host}/24")
        return {**parts, "network-config": network}

    def xml(self, image: Image) -> str:
        """Return what libvirt is told of it."""
        files = [("disk.qcow2", "qcow2"), ("seed.iso", "raw")]
        files += [(f"data{position}.raw", "raw") for position in range(len(self.disks))]
        disks = [
            _DISK.format(form=form, path=self.folder / file, target=f"vd{letter}")
            for letter, (file, form) in zip("abcdefgh", files, strict=False)
        ]
        return _XML.format(
            domain=self.domain,
            memory=self.size.memory,
            vcpus=self.size.vcpus,
            kernel=image.kernel,
            initrd=image.initrd,
            cmdline=" ".join(image.cmdline),
            disks="".join(disks),
            mgmt=self._hardware("mgmt"),
            data=self._hardware("data"),
            folder=self.folder,
        )


@dataclass(frozen=True)
class Bed:
    """A testbed of virtual machines.

    Attributes:
        host: the libvirt host on which they are.
        root: the folder of all such testbeds on the controller.
        guests: the machines.
    """

    host: Hypervisor
    root: Path
    guests: Sequence[Guest]

    @property
    def folder(self) -> Path:
        """The testbed's own folder on the controller."""
        return self.root / TESTBED

    def tool(self, tool: str, *arguments: str, timeout: float = 600.0) -> Run:
        """Run a tool of the environment beside the libvirt host."""
        done = subprocess.run(
            # Whoever enters other mounts is at their root.
            [*self.host.enter, "env", "-C", str(ROOT / "ansible"), str(TOOLS / tool), *arguments],
            env={
                **{"PATH": os.environ["PATH"], "HOME": str(self.root), "LC_ALL": "C.UTF-8"},
                **{"PKGCTL_STATE": str(self.root), "PKGCTL_TESTBED": TESTBED, "COLUMNS": "400"},
            },
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        return Run(done.returncode, done.stdout, done.stderr)

    def play(self, line: str) -> Run:
        """Run ansible-playbook with arguments as a user types them; it must succeed."""
        run = self.tool("ansible-playbook", *line.split())
        assert run.status == 0, run.output + run.errors
        return run

    def ssh(self, name: str, script: str, *, timeout: float = 240.0, check: bool = True) -> str:
        """Return what a script prints on a machine, reached without Ansible."""
        guest = next(each for each in self.guests if each.name == name)
        words = ["ssh", *guest.ssh_arguments.split(), f"root@{guest.host}", script]
        return self.host.run(*words, timeout=timeout, check=check).stdout

    def state(self, name: str) -> str:
        """Return what libvirt's own command says of a machine."""
        return self.host.virsh("domstate", f"pkgctl.{TESTBED}.{name}")


@contextlib.contextmanager
def running(
    names: Sequence[str], image: Image, sizes: Mapping[str, Size] | None = None
) -> Iterator[Bed]:
    """Have machines that run, and are not yet nodes, while the block runs.

    Args:
        names: theirs, which begin with their sites.
        image: what they run.
        sizes: those of machines that are not of the usual one.
    """
    with tempfile.TemporaryDirectory(prefix="pkgctl-vm-") as made, hypervisor() as host:
        root = Path(made)
        for bridge, address in (("mgmt0", "192.168.177.1/24"), ("data0", None)):
            host.run("ip", "link", "add", bridge, "type", "bridge")
            if address is not None:
                host.run("ip", "address", "add", address, "dev", bridge)
            host.run("ip", "link", "set", bridge, "up")
        bare.make_key(root / "key")
        guests = [
            Guest(
                *(name, number, root / name, 22, 0),
                disks=(DISK,),
                size=(sizes or {}).get(name, Size()),
            )
            for number, name in enumerate(names, 1)
        ]
        for guest in guests:
            guest.make(image)
            path = guest.folder / "domain.xml"
            path.write_text(guest.xml(image))
            host.virsh("define", str(path))
            host.virsh("start", guest.domain)
        bed = Bed(host, root, guests)
        _record(bed)
        for guest in guests:
            _wait(bed, guest)
        yield bed


def _wait(bed: Bed, guest: Guest) -> None:
    deadline = time.monotonic() + bare.BOOT_SECONDS
    while True:
        with contextlib.suppress(subprocess.TimeoutExpired):
            if "up" in bed.ssh(guest.name, "echo up", timeout=90.0, check=False):
                return
        assert time.monotonic() < deadline, (guest.folder / "console.log").read_text()[-2000:]
        time.sleep(1.0)


def _record(bed: Bed) -> None:
    """Write what the testbed is, with the keys and the machines' own."""
    folder = bed.folder
    folder.mkdir(mode=0o700)
    shutil.copy(bed.root / "key", folder / "id_ed25519")
    known = "".join((guest.folder / "known_hosts").read_text() for guest in bed.guests)
    (folder / "known_hosts").write_text(known)
    shaped = {"rate": 20_000_000, "delay": 0.0, "jitter": 0.0, "loss": 0.0}
    record = {
        "format": 1,
        "testbed": TESTBED,
        "provider": "libvirt",
        "topology": {"name": "hand-made"},
        "registry": bed.guests[0].name,
        "nodes": {guest.name: _described(bed, guest) for guest in bed.guests},
        "links": {
            one.name: {other.name: shaped for other in bed.guests if other is not one}
            for one in bed.guests
        },
        "access": {
            "user": "root",
            "port": 22,
            "key": str(folder / "id_ed25519"),
            "known_hosts": str(folder / "known_hosts"),
        },
        "hypervisors": {"here": {"uri": bed.host.uri, "type": "qemu"}},
    }
    (folder / "state.json").write_text(json.dumps(record))


def _described(bed: Bed, guest: Guest) -> dict[str, object]:
    site = guest.name.rpartition("-")[0]
    return {
        "site": site,
        "kind": "small",
        "role": site,
        "labels": {},
        "address": guest.address,
        "address6": nodeplan.second(guest.address),
        "interface": "data",
        "cpu": guest.size.cpu,
        "memory": guest.size.share << 20,
        "pids": 512,
        "access_up": None,
        "access_down": None,
        "disks": {"data": {"size": DISK, "mount": "/data"}},
        "cgroup": "pkgctl.slice",
        "directory": "/run/pkgctl",
        "host": guest.host,
        "domain": guest.domain,
        "uri": bed.host.uri,
        "hypervisor": "here",
        "console": str(guest.folder / "console.log"),
    }
