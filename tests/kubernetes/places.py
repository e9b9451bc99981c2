# SPDX-License-Identifier: GPL-3.0-or-later
"""Local nodes that Kubernetes can run on: with room, and without a hand on the machine itself."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pkgctl import topology
from pkgctl.local import paths, testbed

TOPOLOGY = """
name: pair
sites: {{cloud: {{access: lan}}, edge: {{access: lan}}}}
kinds:
  node: {{cpu: 2, memory: 4Gi, pids: 4096, disks: {{data: {{size: 64Mi, mount: /data}}}}}}
nodes:
{nodes}
links: [{{from: cloud, to: edge, unshaped: true, symmetric: true}}]
"""
_CGROUPS = Path("/sys/fs/cgroup")
# What a kubelet sets for the whole machine. With files in their place it finds them set already.
TUNABLES = {
    "vm/overcommit_memory": "1",
    "vm/panic_on_oom": "0",
    "kernel/panic": "10",
    "kernel/panic_on_oops": "1",
}
_SHIELD = """
mkdir -p /run/tunables
for each in {pairs}; do
    path=${{each%%=*}} file=/run/tunables/$(echo "${{each%%=*}}" | tr / .)
    echo "${{each#*=}}" >"$file"
    mount --bind "$file" "/proc/sys/$path"
done
"""
# Stands for a system that is told when its service is ready, in a line of the log.
_NOTIFIED = """
import os, socket, sys, threading
path = f"/run/notify-{os.getpid()}"
heard = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
heard.bind(path)
child = os.fork()
if child == 0:
    os.environ["NOTIFY_SOCKET"] = path
    os.environ.pop("INVOCATION_ID", None)  # whoever runs the tests, systemd does not run this
    os.execvp(sys.argv[1], sys.argv[1:])
print("PID", child, flush=True)
def listen():
    while True:
        print("NOTIFIED", heard.recv(4096).decode(), flush=True)
threading.Thread(target=listen, daemon=True).start()
print("ENDED", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


def up(place: paths.Paths, folder: Path, names: Sequence[str] = ("cloud-1", "edge-1")) -> None:
    """Bring local nodes up, with groups for pods and with the machine's settings out of reach."""
    rows = (f"  - {{name: {name}, site: {name.split('-')[0]}, kind: node}}" for name in names)
    path = folder / "pair.yaml"
    path.write_text(TOPOLOGY.format(nodes="\n".join(rows)))
    testbed.up(topology.load(str(path)), place)
    for name in names:
        have_group(f"pkgctl/{place.name}/nodes/{name}")
        pairs = " ".join(f"{path}={value}" for path, value in TUNABLES.items())
        on(place, name, "sh", "-ec", _SHIELD.format(pairs=pairs))


def have_group(group: str) -> None:
    """Have a control group in every hierarchy of version 1, which is where a kubelet looks."""
    for hierarchy in ("cpuset", "systemd"):
        if not (_CGROUPS / hierarchy / "cgroup.procs").exists():
            continue
        folder = _CGROUPS / hierarchy
        for part in group.split("/"):
            folder = folder / part
            folder.mkdir(exist_ok=True)
            if hierarchy == "cpuset":
                for name in ("cpuset.cpus", "cpuset.mems"):
                    (folder / name).write_text((_CGROUPS / hierarchy / name).read_text())


def on(place: paths.Paths, node: str, *command: str, given: str | None = None) -> str:
    """Return what a command prints inside a node; it must succeed."""
    done = attempt(place, node, *command, given=given)
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout


def attempt(
    place: paths.Paths, node: str, *command: str, given: str | None = None
) -> subprocess.CompletedProcess[str]:
    """Return how a command inside a node ended."""
    return subprocess.run(
        _entering(place, node, *command),
        input=given,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


class Service:
    """A server or an agent that runs on a node."""

    def __init__(self, place: paths.Paths, node: str, log: Path, command: Sequence[str]) -> None:
        """Start it."""
        self.log, self._end = log, log.stat().st_size if log.exists() else 0
        words = _entering(place, node, "python3", "-c", _NOTIFIED, *command)
        with log.open("ab") as out:
            self._session = subprocess.Popen(
                words, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT
            )

    def said(self) -> str:
        """Return what it has said since its start."""
        with self.log.open("rb") as text:
            text.seek(self._end)
            return text.read().decode(errors="replace")

    def wait_for(self, words: str, timeout: float = 240) -> None:
        """Wait until it has said something."""
        end = time.monotonic() + timeout
        while words not in self.said():
            said = self.said()
            assert "\nENDED" not in said, said[-3000:]
            assert time.monotonic() < end, f"no {words!r} in\n{said[-3000:]}"
            time.sleep(0.1)

    def stop(self) -> int:
        """End it as a system does, by a signal to it alone, and return its exit status."""
        self.wait_for("PID ")
        pid = int(self.said().split("PID ")[1].split()[0])
        if self._session.poll() is None:
            os.kill(pid, 15)
        self._session.wait(240)
        return int(self.said().split("\nENDED ")[1].split()[0])

    def over(self) -> None:
        """Wait for its end, which its node's removal has brought."""
        self._session.wait(240)


def kubectl(place: paths.Paths, node: str, *words: str, given: str | None = None) -> Any:
    """Return what kubectl on a server prints, in parts where it prints JSON."""
    text = on(place, node, "/usr/local/bin/k3s", "kubectl", *words, given=given)
    return json.loads(text) if "json" in words else text


def _entering(place: paths.Paths, node: str, *command: str) -> list[str]:
    start = [sys.executable, "-m", "pkgctl", "exec", "--name", place.name, node, "--"]
    return [*start, *command]
