# SPDX-License-Identifier: GPL-3.0-or-later
"""Programs that stand in for virsh, ssh and pulumi, and what the tests hand them."""

from __future__ import annotations

import json
import sys
from pathlib import Path

# A libvirt host as a JSON file: domains, networks, pools and volumes by name. What has "stuck"
# in its name does not go.
_VIRSH = r"""
import json, sys
from pathlib import Path

path, log = Path({world!r}), Path({log!r})
uri, words = sys.argv[3], sys.argv[4:]
world = json.loads(path.read_text())
with log.open("a") as file:
    file.write(" ".join(words) + "\n")

def fail(text):
    print("error: Failed to do it\nerror: " + text, file=sys.stderr)
    sys.exit(1)

if uri not in world["uris"]:
    fail("Failed to connect socket to '/nowhere': No such file or directory")
kind, command = {{
    "list": ("domains", "list"), "net-list": ("networks", "list"), "pool-list": ("pools", "list"),
    "vol-list": ("volumes", "list"), "destroy": ("domains", "stop"), "undefine": ("domains", "go"),
    "net-destroy": ("networks", "stop"), "net-undefine": ("networks", "go"),
    "pool-destroy": ("pools", "stop"), "pool-undefine": ("pools", "go"),
    "vol-delete": ("volumes", "go"), "create": ("domains", "create"),
}}.get(words[0], ("", words[0]))
name = words[1] if len(words) > 1 else ""
if kind == "volumes" and command == "list":
    for each in world["volumes"].get(name, []):
        print(f" {{each}}   /pool/{{each}}")
elif command == "list":
    for each, state in world[kind].items():
        number = "1 " if kind == "domains" else ""
        print(f" {{number}}  {{each}}   {{state}}" + ("" if kind == "domains" else "  yes  yes"))
elif kind == "volumes":
    world["volumes"][words[3]].remove(name)
elif command == "stop":
    if world[kind].get(name) not in ("running", "active"):
        fail("it does not run")
    world[kind][name] = "shut off" if kind == "domains" else "inactive"
elif command == "go":
    if "stuck" in name:
        fail("it is in use")
    del world[kind][name]
elif command == "version":
    print("Using library: libvirt 9.0.0\nRunning hypervisor: QEMU 7.2.0")
path.write_text(json.dumps(world))
"""
# Writes what it was called with, then does what the file beside it says.
_SSH = r"""
import json, sys
from pathlib import Path

plan = json.loads(Path({plan!r}).read_text())
with Path({log!r}).open("a") as file:
    file.write(json.dumps(sys.argv[1:]) + "\n")
host = next((word for word in sys.argv if word in plan), "")
told = plan.get(host, {{"code": 255, "errors": "ssh: connect to host: No route to host"}})
if told.get("wanted", "") not in sys.stdin.read():
    sys.exit(9)
print(told.get("output", ""), end="")
print(told.get("errors", ""), end="", file=sys.stderr)
sys.exit(told.get("code", 0))
"""


def program(folder: Path, name: str, code: str) -> Path:
    """Put a program into a folder."""
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(f"#!{sys.executable}\n{code}")
    path.chmod(0o755)
    return path


class Libvirt:
    """A libvirt host, as far as virsh shows it."""

    URI = "qemu:///system"

    def __init__(self, folder: Path) -> None:
        self._world, self._log = folder / "world.json", folder / "virsh.log"
        self._log.touch()
        self.write(domains={}, networks={}, pools={}, volumes={})
        code = _VIRSH.format(world=str(self._world), log=str(self._log))
        program(folder / "bin", "virsh", code)

    def write(self, **world: object) -> None:
        self._world.write_text(json.dumps({"uris": [self.URI], **world}))

    def read(self) -> dict:
        world = json.loads(self._world.read_text())
        return {key: world[key] for key in ("domains", "networks", "pools", "volumes")}

    @property
    def calls(self) -> list[str]:
        return self._log.read_text().splitlines()


class Ssh:
    """What answers at each address."""

    def __init__(self, folder: Path) -> None:
        self._plan, self._log = folder / "ssh.json", folder / "ssh.log"
        self._log.touch()
        self.answers()
        program(folder / "bin", "ssh", _SSH.format(plan=str(self._plan), log=str(self._log)))

    def answers(self, **hosts: object) -> None:
        self._plan.write_text(json.dumps({key.replace("_", "."): hosts[key] for key in hosts}))

    @property
    def calls(self) -> list[list[str]]:
        return [json.loads(line) for line in self._log.read_text().splitlines()]


def record(place: Path, **nodes: str) -> dict:
    """Return a testbed's record, with the management address of each node."""
    return {
        "format": 1,
        "testbed": "lab",
        "provider": "libvirt",
        "topology": {"name": "duo"},
        "registry": "one",
        "access": {
            "user": "root",
            "port": 22,
            "key": str(place / "id_ed25519"),
            "known_hosts": str(place / "known_hosts"),
        },
        "links": {name: {} for name in nodes},
        "hypervisors": {"here": {"uri": Libvirt.URI, "type": "qemu"}},
        "nodes": {
            name: {
                "site": "s",
                "kind": "k",
                "role": "edge",
                "labels": {},
                "address": f"10.77.0.{number}",
                "cpu": 1.0,
                "memory": 128 << 20,
                "disks": {},
                "cgroup": "pkgctl.slice",
                "directory": "/run/pkgctl",
                "host": address.replace("_", "."),
                "domain": f"pkgctl.lab.{name}",
                "uri": Libvirt.URI,
                "hypervisor": "here",
            }
            for number, (name, address) in enumerate(nodes.items(), 1)
        },
    }
