# SPDX-License-Identifier: GPL-3.0-or-later
"""Virtual machines without libvirt: QEMU, a seed, SSH; for tests of what runs inside nodes.

Each has the network cards of a testbed's nodes: mgmt to this machine's loopback, and data to the
others' data cards, over multicast that does not leave this machine.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import shlex
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pycdlib

from pkgctl import image, nodeplan
from pkgctl.errors import PkgctlError
from pkgctl.image import Image

BOOT_SECONDS = 600
NETWORK = "10.77.0.0/16"


def built() -> Image | None:
    """Return the newest image that was built, if there is any."""
    try:
        return image.find("")
    except PkgctlError:
        return None


@dataclass
class Machine:
    """A virtual machine and the way to it."""

    name: str
    number: int
    folder: Path
    port: int
    wire: int
    memory: int = 512
    disks: Sequence[int] = ()
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def address(self) -> str:
        """Its address on the data network."""
        return f"10.77.0.{self.number}"

    @property
    def key(self) -> Path:
        """The private key that opens it."""
        return self.folder.parent / "key"

    def ssh(self, script: str, *, timeout: float = 240.0, check: bool = True) -> str:
        """Return what a script of the shell prints there."""
        done = subprocess.run(
            [*self._ssh(), script], capture_output=True, text=True, timeout=timeout, check=False
        )
        assert done.returncode == 0 or not check, f"{script}: {done.stdout}{done.stderr}"
        return done.stdout

    def _ssh(self) -> list[str]:
        return ["ssh", *shlex.split(self.ssh_arguments), "-p", str(self.port), "root@127.0.0.1"]

    @property
    def ssh_arguments(self) -> str:
        """What ssh is told to know the machine by its key."""
        known = self.folder / "known_hosts"
        return (
            f"-i {self.key} -o UserKnownHostsFile={known} -o HostKeyAlias={self.name}"
            " -o StrictHostKeyChecking=yes -o BatchMode=yes -o ConnectTimeout=60"
        )

    @property
    def variables(self) -> dict[str, Any]:
        """What Ansible is told to reach it."""
        return {
            "ansible_connection": "ssh",
            "ansible_host": "127.0.0.1",
            "ansible_port": self.port,
            "ansible_timeout": 120,
            "ansible_user": "root",
            "ansible_ssh_private_key_file": str(self.key),
            "ansible_python_interpreter": "/usr/bin/python3",
            "ansible_ssh_common_args": self.ssh_arguments.partition(" -o ")[2].join(["-o ", ""]),
        }

    def make(self, base: Image) -> None:
        """Make its disks and its seed."""
        self.folder.mkdir()
        command = ["qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2"]
        overlay = str(self.folder / "disk.qcow2")
        subprocess.run([*command, "-b", str(base.disk), overlay, "3G"], check=True)
        for position, size in enumerate(self.disks):
            with (self.folder / f"data{position}.raw").open("wb") as file:
                file.truncate(size)
        make_key(self.folder / "host")
        host = (self.folder / "host.pub").read_text()
        (self.folder / "known_hosts").write_text(f"{self.name} {host}")
        write_seed(self.folder / "seed.iso", self._seed(host))

    def _seed(self, host: str) -> dict[str, str]:
        user = {
            "hostname": self.name,
            "disable_root": False,
            "ssh_deletekeys": False,
            "ssh_keys": {
                "ed25519_private": (self.folder / "host").read_text(),
                "ed25519_public": host,
            },
            "ssh_authorized_keys": [self.key.with_suffix(".pub").read_text().strip()],
        }
        cards = {"mgmt": ["10.0.2.15/24"], "data": [f"{self.address}/16", self._address6]}
        network = {
            "version": 2,
            "ethernets": {
                name: {
                    "match": {"macaddress": self._hardware(name)},
                    "set-name": name,
                    "addresses": addresses,
                    **{"dhcp4": False, "dhcp6": False, "accept-ra": False},
                }
                for name, addresses in cards.items()
            },
        }
        meta = {"instance-id": f"bare-{self.name}", "local-hostname": self.name}
        return {
            "user-data": "#cloud-config\n" + json.dumps(user),
            "meta-data": json.dumps(meta),
            "network-config": json.dumps(network),
        }

    @property
    def _address6(self) -> str:
        return f"fd77:7067::{self.number:x}/64"

    def _hardware(self, card: str) -> str:
        if card == "data":
            return nodeplan.hardware(self.address).hex(":")
        return f"52:54:00:00:00:{self.number:02x}"

    def start(self, base: Image) -> None:
        """Switch it on; it is reached a while later."""
        devices: list[str] = []
        drives = [("disk.qcow2", "qcow2", ""), ("seed.iso", "raw", ",readonly=on")]
        drives += [(f"data{position}.raw", "raw", "") for position in range(len(self.disks))]
        for letter, (file, form, more) in zip("abcdefgh", drives, strict=False):
            drive = f"if=none,id={letter},file={self.folder / file},format={form}"
            devices += ["-drive", f"{drive},cache=unsafe{more}"]
            devices += ["-device", f"virtio-blk-pci,drive={letter},serial=vd{letter}"]
        cards = {
            "mgmt": f"user,id=mgmt,hostfwd=tcp:127.0.0.1:{self.port}-:22",
            "data": f"socket,id=data,mcast=230.77.0.1:{self.wire},localaddr=127.0.0.1",
        }
        for name, backend in cards.items():
            mac = self._hardware(name)
            devices += ["-netdev", backend]
            devices += ["-device", f"virtio-net-pci,netdev={name},mac={mac}"]
        self.process = subprocess.Popen(
            [
                *("qemu-system-x86_64", "-accel", "tcg", "-cpu", "max", "-smp", "1"),
                *("-m", str(self.memory), "-nodefaults", "-display", "none"),
                *("-serial", f"file:{self.folder / 'console.log'}"),
                *("-kernel", str(base.kernel), "-initrd", str(base.initrd)),
                *("-append", " ".join(base.cmdline), *devices),
            ]
        )

    def wait(self) -> float:
        """Wait until it answers, and return the seconds that this took."""
        began = time.monotonic()
        while True:
            assert self.process is not None and self.process.poll() is None, "QEMU has ended"
            with contextlib.suppress(subprocess.TimeoutExpired):
                done = subprocess.run([*self._ssh(), "true"], capture_output=True, timeout=90)
                if done.returncode == 0:
                    return time.monotonic() - began
            assert time.monotonic() - began < BOOT_SECONDS, f"{self.name} does not answer"
            time.sleep(0.5)

    def pull_the_plug(self) -> None:
        """Switch it off without a word."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()


def make_key(path: Path) -> None:
    """Make a key pair."""
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", str(path)], check=True
    )


def write_seed(path: Path, parts: Mapping[str, str]) -> None:
    """Write a seed as cloud-init's NoCloud reads it."""
    iso = pycdlib.PyCdlib()
    iso.new(interchange_level=3, joliet=3, rock_ridge="1.09", vol_ident="cidata")
    for name, text in parts.items():
        content = text.encode()
        plain = f"/{name.upper().replace('-', '_')}.;1"
        iso.add_fp(io.BytesIO(content), len(content), plain, rr_name=name, joliet_path=f"/{name}")
    iso.write(str(path))
    iso.close()


def free_port() -> int:
    """Return a port of loopback that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@contextlib.contextmanager
def machines(
    folder: Path, names: Sequence[str], base: Image, *, disks: Sequence[int] = ()
) -> Iterator[list[Machine]]:
    """Run machines while the block runs.

    Args:
        folder: where they keep everything.
        names: their names.
        base: the image.
        disks: the sizes in bytes of the data disks of each.
    """
    folder.mkdir(parents=True, exist_ok=True)
    make_key(folder / "key")
    wire = 10000 + os.getpid() % 50000
    made = [
        Machine(name, number, folder / name, free_port(), wire, disks=disks)
        for number, name in enumerate(names, 1)
    ]
    try:
        for machine in made:
            machine.make(base)
            machine.start(base)
        for machine in made:
            machine.wait()
        yield made
    finally:
        for machine in made:
            machine.pull_the_plug()
