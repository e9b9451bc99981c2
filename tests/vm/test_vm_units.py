# SPDX-License-Identifier: GPL-3.0-or-later
"""Units on a machine of its own: kept by systemd, and by the agent over version 2's groups."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from . import bare, plain
from .bare import Machine

pytestmark = pytest.mark.vm("qemu", "image", "ssh")

NAME = "edge-1"
# The service says that it is ready, has a child, and puts that into a group below its own.
SCRIPT = r'''
import json
from ansible_collections.pkgctl.testbed.plugins.module_utils import services, supervision, upkeep
from ansible_collections.pkgctl.testbed.plugins.module_utils.cgroups import group

SERVICE = """
import os, socket, subprocess, time
print("hello from", os.environ["WORD"], flush=True)
own = "/sys/fs/cgroup" + open("/proc/self/cgroup").read().strip().split("::")[1]
child = subprocess.Popen(["sleep", "1000"])
os.makedirs(own + "/box", exist_ok=True)
open(own + "/box/cgroup.procs", "w").write(str(child.pid))
talk = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
talk.sendto(b"READY=1", os.environ["NOTIFY_SOCKET"])
time.sleep(1000)
"""
UNIT = {
    "name": "web", "command": ["/usr/bin/python3", "-S", "-c", SERVICE], "notify": True,
    "environment_files": ["/root/web.env"], "environment": {"WORD": "nobody"},
    "pre": [["false"], ["there-is-none"]], "kill": "process", "restart_seconds": 0.5,
    "grace": 20.0, "wait": 120.0, "limits": {"nofile": 4096}, "state": "started",
}
Path("/root/web.env").write_text("WORD='the file'\n")
Path("/root/web.env").chmod(0o600)

def keep(dry_run=False, **changes):
    defaults = {key: each.get("default") for key, each in upkeep.UNIT["argument_spec"].items()}
    return upkeep.keep({**defaults, **UNIT, **changes}, dry_run=dry_run)

def sleepers():
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if path.read_bytes() == b"sleep\0001000\0":
                found.append(int(path.parent.name))
        except OSError:
            pass
    return sorted(found)

def until(holds):
    deadline = time.monotonic() + 120
    while not holds() and time.monotonic() < deadline:
        time.sleep(0.2)
    return bool(holds())

seen = {}
'''
LIFE = r"""
seen["foreseen"] = keep(dry_run=True)["actions"]
seen["created"] = keep()["actions"]
first = main()
limits = Path(f"/proc/{first}/limits").read_text().splitlines()
seen["limit"] = [line.split()[3:5] for line in limits if "open files" in line]
seen["log"] = [line for line in log() if line.startswith("hello")]
seen["again"] = keep()["changed"]
seen["same"] = main() == first
seen["changed"] = keep(fingerprint="x")["actions"]
seen["other"] = main() != first
seen["left"] = len(sleepers())
last = main()
os.kill(last, 9)
seen["restarted"] = until(lambda: main() not in (0, last))
seen["and ready"] = keep(fingerprint="x")["changed"] is False
seen["stopped"] = keep(state="stopped", command=None)["actions"]
seen["stopped again"] = keep(state="stopped", command=None)["changed"]
seen["goes on"] = len(sleepers())
seen["started"] = keep(fingerprint="x")["actions"]
seen["removed"] = keep(state="absent", command=None)["actions"]
seen["nothing"] = [until(lambda: not sleepers()), keep(state="absent", command=None)["changed"]]
"""
BY_SYSTEMD = r"""
def main():
    return int(services.systemctl("show", "--property=MainPID", "--value", "--", "web.service"))

def log():
    return services.journal("web.service", 50)
"""
BY_AGENT = r"""
home = Path("/run/pkgctl")
for name in ("agent", "jobs", "logs", "exits", "ns/edge-1"):
    (home / name).mkdir(parents=True, exist_ok=True)
for kind in ("net", "uts", "ipc", "mnt"):
    if not (home / "ns" / node.name / kind).is_symlink():
        (home / "ns" / node.name / kind).symlink_to(f"/proc/1/ns/{kind}")
(home / "service").touch()
(home / "state.json").write_text(json.dumps({"nodes": {node.name: {}}}))
daemon.ensure("agent", home, node.agent)
services.RUNTIME = Path("/none")

def record(**more):
    (found,) = channel.call(node.agent, "unit-list", node=node.name, name="web", **more)["units"]
    return found

def main():
    return record()["pid"] or 0

def log():
    return record(lines=50)["log"]
"""


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    base = bare.built()
    assert base is not None
    with bare.machines(tmp_path_factory.mktemp("units") / "vms", [NAME], base) as made:
        plain.lay_out(made[0], made)
        yield made[0]


def lived(machine: Machine, *parts: str) -> dict[str, Any]:
    return dict(plain.python(machine, "".join([SCRIPT, *parts, "print(json.dumps(seen))\n"])))


AS_IT_SHOULD = {
    "foreseen": ["declare web", "start web"],
    "created": ["declare web", "start web"],
    "limit": [["4096", "4096"]],
    "log": ["hello from the file"],
    "again": False,
    "same": True,
    "changed": ["declare web", "restart web"],
    "other": True,
    # What a unit of this kind has started goes on when it ends.
    "left": 2,
    "restarted": True,
    "and ready": True,
    "stopped": ["stop web"],
    "stopped again": False,
    "goes on": 3,
    "started": ["start web"],
    "removed": ["remove web"],
    "nothing": [True, False],
}


def test_systemd_keeps_a_unit_as_it_is_declared(machine: Machine) -> None:
    seen = lived(machine, BY_SYSTEMD, LIFE)

    assert seen == AS_IT_SHOULD
    assert machine.ssh("ls /etc/systemd/system /run/systemd").split().count("web.service") == 0
    assert machine.ssh("systemctl is-enabled web.service", check=False).strip() != "enabled"


def test_an_agent_keeps_it_in_the_same_way(machine: Machine) -> None:
    seen = lived(machine, BY_AGENT, LIFE)

    assert seen == AS_IT_SHOULD
    assert machine.ssh("find /sys/fs/cgroup/pkgctl/plain/system -mindepth 1 -type d") == ""
    assert "web" not in machine.ssh("find /run/pkgctl/units /run/pkgctl/logs", check=False)
