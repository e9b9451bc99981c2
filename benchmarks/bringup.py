#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""How long 100 nodes with 10 mbit links take to come up and go, beside Mininet doing the same.

Both are timed in turn, in one run, each round as a process of its own; what counts is the ratio of
medians. Needs root and Debian's packages mininet and bridge-utils. Prints one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

NAME = "bench-bringup"
# Mininet's own way: hosts, one Linux bridge, links shaped by HTB at both ends; only its own calls
# to build and start, and to stop, are timed.
MININET = """
import sys, time, json
from mininet.net import Mininet
from mininet.link import TCLink
from mininet.nodelib import LinuxBridge
from mininet.topo import Topo

class Star(Topo):
    def build(self, n):
        switch = self.addSwitch("s1")
        for number in range(n):
            self.addLink(self.addHost("h%d" % (number + 1)), switch, bw=10)

begun = time.monotonic()
net = Mininet(topo=Star(n=int(sys.argv[1])), link=TCLink, switch=LinuxBridge, controller=None)
net.start()
up = time.monotonic() - begun
begun = time.monotonic()
net.stop()
print(json.dumps({"up": up, "down": time.monotonic() - begun}))
"""


def timed(command: list[str]) -> tuple[float, float]:
    """Return the seconds of a pkgctl command: its own work, and the whole process."""
    begun = time.monotonic()
    done = subprocess.run([*command, "-o", "json"], check=True, capture_output=True, text=True)
    whole = time.monotonic() - begun
    told = json.loads(done.stdout)
    return told.get("seconds") or told[NAME]["seconds"], whole


def topology(folder: Path, nodes: int) -> Path:
    """Write a topology of nodes with 10 mbit access links."""
    path = folder / "bench.yaml"
    path.write_text(
        "name: bench\n"
        "sites: {one: {access: lan}}\n"
        "kinds: {small: {cpu: 0.1, memory: 32Mi, access: {up: 10mbit, down: 10mbit}}}\n"
        f"nodes: [{{name: node, count: {nodes}, site: one, kind: small}}]\n"
    )
    return path


def ours(path: Path) -> dict[str, tuple[float, float]]:
    """Return the seconds of `up` and `down`: their own work, and with Python's start."""
    tool = [sys.executable, "-m", "pkgctl"]
    try:
        up = timed([*tool, "up", str(path), "--name", NAME])
    finally:
        down = timed([*tool, "down", "--name", NAME])
    return {"up": up, "down": down}


def mininet(nodes: int) -> dict[str, float]:
    """Return the seconds of Mininet's start and stop, without Python's start and imports."""
    done = subprocess.run(
        ["/usr/bin/python3", "-c", MININET, str(nodes)], check=True, capture_output=True, text=True
    )
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    """Time both, in turn, and print the medians and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nodes", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    if os.geteuid() != 0:
        sys.exit("needs root")
    with tempfile.TemporaryDirectory() as folder:
        path = topology(Path(folder), arguments.nodes)
        rounds = [(ours(path), mininet(arguments.nodes)) for _ in range(arguments.rounds)]
    result: dict[str, object] = {"nodes": arguments.nodes, "rounds": arguments.rounds}
    for step in ("up", "down"):
        work, whole = (statistics.median(mine[step][at] for mine, _ in rounds) for at in (0, 1))
        theirs = statistics.median(other[step] for _, other in rounds)
        result[step] = {
            "pkgctl_seconds": round(work, 3),
            "pkgctl_whole_command_seconds": round(whole, 3),
            "mininet_seconds": round(theirs, 3),
            "times_faster": round(theirs / work, 2),
            "times_faster_whole_command": round(theirs / whole, 2),
        }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
