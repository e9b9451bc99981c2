# SPDX-License-Identifier: GPL-3.0-or-later
"""Machines of tests/vm/bare.py as nodes, without Ansible: code, description and stores."""

from __future__ import annotations

import io
import json
import subprocess
import tarfile
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pkgctl import project
from tests.vm import bare
from tests.vm.bare import Machine

_HOME = "/usr/local/lib/pkgctl/ansible_collections/pkgctl/testbed/plugins"
_CODE = project.PACKAGE.parent / "plugins" / "module_utils"
_LAID_OUT = """
set -e
mkdir -p /var/lib/pkgctl /run/pkgctl /sys/fs/cgroup/pkgctl.slice
mountpoint -q /run/pkgctl || mount --bind /var/lib/pkgctl /run/pkgctl
echo "+cpu +memory +io +pids" > /sys/fs/cgroup/cgroup.subtree_control
cd /run/pkgctl
mkdir -p nodes agent ns
[ -e nodes/$1 ] || ln -s .. nodes/$1
for store in links disk quota; do [ -e $store.json ] || echo '{"base": {}}' > $store.json; done
"""
_PROLOGUE = """
import sys
sys.path.insert(0, "/usr/local/lib/pkgctl")
from ansible_collections.pkgctl.testbed.plugins.module_utils import (
    cabling, channel, daemon, delayclient, disks, errors, identity, links, quality, quotas,
)
from pathlib import Path
import json, os, subprocess, time
node = identity.load()
"""


def lay_out(
    machine: Machine,
    machines: Iterable[Machine],
    *,
    impairment: str = "netem",
    mounts: Sequence[str] = (),
) -> None:
    """Make a machine a node; its data disks are named by where they are mounted."""
    others = [each for each in machines if each is not machine]
    known = {
        "name": machine.name,
        "testbed": "plain",
        "interface": "data",
        "address": machine.address,
        "address6": f"fd77:7067::{machine.number:x}",
        "network": bare.NETWORK,
        "peers": {each.name: each.address for each in others},
        "peers6": {each.name: f"fd77:7067::{each.number:x}" for each in others},
        "access": None,
        "cgroup": "pkgctl.slice",
        "cpu": 1.0,
        "memory": 256 << 20,
        "pids": 512,
        "disks": {
            place.strip("/"): {
                "image": f"/dev/disk/by-id/virtio-vd{letter}",
                "mount": place,
                "size": size,
            }
            for letter, place, size in zip("cdefgh", mounts, machine.disks, strict=False)
        },
        "impairment": impairment,
    }
    _send(machine, f"mkdir -p {_HOME} && tar -C {_HOME} -xf -", _archive())
    machine.ssh(f"set -- {machine.name}\n{_LAID_OUT}")
    _send(machine, "cat > /run/pkgctl/node.json", json.dumps(known).encode())


def _archive() -> bytes:
    def wanted(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
        return None if "__pycache__" in entry.name else entry

    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        archive.add(_CODE.resolve(), "module_utils", filter=wanted)
    return packed.getvalue()


def _send(machine: Machine, command: str, content: bytes) -> None:
    words = [*machine._ssh(), command]
    subprocess.run(words, input=content, capture_output=True, timeout=240, check=True)


def python(machine: Machine, script: str, *, timeout: float = 400.0) -> Any:
    """Run a script on a node, in which ``node`` is its identity; return the JSON that it prints."""
    _send(machine, "cat > /root/script.py", (_PROLOGUE + script).encode())
    told = machine.ssh("python3 -S -E /root/script.py", timeout=timeout)
    return json.loads(told.strip().splitlines()[-1])


def run_file(machine: Machine, name: str, text: str, *words: object) -> Mapping[str, Any]:
    """Run a program of ours on a node; return the JSON that it prints."""
    _send(machine, f"cat > /root/{name}", text.encode())
    arguments = " ".join(map(str, words))
    found: Mapping[str, Any] = json.loads(
        machine.ssh(f"python3 -S -E /root/{name} {arguments}", timeout=600)
    )
    return found
