# SPDX-License-Identifier: GPL-3.0-or-later
"""A running testbed as its user meets it: by the command line, by playbooks, by tools inside."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]
TOOLS = Path(sys.executable).parent
TOPOLOGY = Path(__file__).parent / "trio.yaml"
RECAP = re.compile(r"^(\S+) +: ok=(\d+) +changed=(\d+) +unreachable=(\d+) +failed=(\d+)", re.M)
# All that a disturbance can change, as the system's own tools show it.
SHOW = r"""
device=$(ip -o -4 address show to 10.77.0.0/16 | awk '{print $2; exit}')
tc qdisc show dev "$device"; tc class show dev "$device"; nft list ruleset
switch=/run/pkgctl/ns/.switch/net
[ "$(stat -f -c %T $switch 2>/dev/null)" = nsfs ] && nsenter --net=$switch sh -c '
port=$(ls /proc/sys/net/ipv4/conf | grep "^p[0-9]"); tc qdisc show; tc class show dev "$port"'
for name in cpu.cfs_quota_us cpu.max memory.limit_in_bytes memory.max pids.max io.max; do
  for file in /sys/fs/cgroup/$GROUP/$name /sys/fs/cgroup/*/$GROUP/$name; do
    [ -e "$file" ] && echo "$name $(cat "$file")"
  done
done
awk '$2 ~ "^/data" {print $2, $3, $4}' /proc/self/mounts
for store in $(ls /run/pkgctl/*.json | grep -v -e outage -e state.json); do
  [ "$(cat "$store")" = "{}" ] || { echo "$store"; cat "$store"; echo; }
done
"""


@dataclass(frozen=True)
class Run:
    """What a command did."""

    status: int
    output: str
    errors: str

    @property
    def changed(self) -> dict[str, int]:
        """How many tasks of a play changed each host, the controller left out."""
        found = {host: int(changed) for host, _, changed, _, _ in RECAP.findall(self.output)}
        return {host: changed for host, changed in found.items() if host != "localhost"}


@dataclass(frozen=True)
class Subject:
    """A testbed with the nodes of trio.yaml.

    Attributes:
        name: the testbed's.
        kind: what its nodes are: ``local`` or ``libvirt``.
        groups: each node's control group.
        enter: what a command is run by, to be where the testbed can be reached.
        environment: what commands are told besides.
    """

    name: str
    kind: str
    groups: Mapping[str, str]
    enter: Sequence[str] = ()
    environment: Mapping[str, str] = field(default_factory=dict)

    def run(self, tool: str, *arguments: str, timeout: float = 300.0) -> Run:
        """Run a tool of the project's environment, or of the system."""
        own = TOOLS / tool
        # Whoever enters other mounts loses the folder that it was in.
        there = ["env", "-C", str(ROOT / "ansible")]
        done = subprocess.run(
            [*self.enter, *there, str(own) if own.exists() else tool, *arguments],
            env={
                **os.environ,
                "LC_ALL": "C.UTF-8",
                "COLUMNS": "400",
                "PKGCTL_TESTBED": self.name,
                **self.environment,
            },
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        return Run(done.returncode, done.stdout, done.stderr)

    def play(self, line: str) -> Run:
        """Run ansible-playbook with arguments as a user types them; it must succeed."""
        run = self.run("ansible-playbook", *line.split())
        assert run.status == 0, run.output + run.errors
        return run

    def inside(self, node: str, *command: str) -> str:
        """Return what a command prints inside a node; it must succeed."""
        run = self.run("pkgctl", "exec", node, "--", *command)
        assert run.status == 0, run.output + run.errors
        return run.output

    def sh(self, node: str, script: str) -> str:
        """Return what a script of the shell prints inside a node."""
        return self.inside(node, "sh", "-c", script)

    def picture(self, *nodes: str) -> list[str]:
        """Return all that a disturbance can change on nodes, in an order of its own."""
        lines: list[str] = []
        for node in nodes or tuple(self.groups):
            shown = self.sh(node, f"GROUP={self.groups[node]}\n{SHOW}")
            # A count of packets means nothing, nor does the order of a listing.
            lines += [f"{node}: {re.sub('_stat [0-9]+', '', line)}" for line in shown.splitlines()]
        return sorted(lines)

    def is_reachable(self, node: str, other: str) -> bool:
        """Return whether one node hears another."""
        run = self.run("pkgctl", "exec", node, "--", "ping", "-c", "3", "-W", "2", "-q", other)
        return run.status == 0

    def power(self, node: str) -> str:
        """Return whether a node is up as whoever runs it says: ``on``, ``paused`` or ``off``."""
        if self.kind == "libvirt":
            domain = f"pkgctl.{self.name}.{node}"
            state = self.run("virsh", "-q", "domstate", domain).output.strip()
            return {"running": "on", "paused": "paused", "shut off": "off"}.get(state, state)
        folder = next(
            path
            for pattern in (f"*/{self.groups[node]}", self.groups[node])
            for path in Path("/sys/fs/cgroup").glob(pattern)
        )
        processes = [path.read_text() for path in folder.rglob("cgroup.procs")]
        return "on" if any(processes) else "off"
