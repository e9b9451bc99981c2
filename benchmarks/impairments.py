#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""The kernel's netem beside the delay line, on one pair of virtual machines.

Needs a running testbed of machines with netem, such as `pkgctl up --provider libvirt duo` makes;
its first two nodes are the pair. Each is settled with one backend, measured, and then with the
other. Prints one JSON object, or with --markdown a table; rates in mbit/s, times in milliseconds of
one round trip, of which only the way from the near node to the far one is disturbed.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from scipy.stats import binom

ANSIBLE = Path(__file__).resolve().parents[1] / "ansible"
BACKENDS = ("netem", "delay line")
LAYER = "bench"
TCP = 1448 / 1514
DELAYS = (5, 20, 80)
LOSSES = (0.01, 0.05)


class Pair:
    """Two nodes of a running testbed."""

    def __init__(self, testbed: str, seconds: int) -> None:
        """Take the first two nodes of a testbed; each transfer lasts so many seconds."""
        self.seconds = seconds
        self._environment = {**os.environ, "PKGCTL_TESTBED": testbed}
        listing = json.loads(self._tool("ansible-inventory", "--list"))
        self.near, self.far = listing["nodes"]["hosts"][:2]

    def _tool(self, name: str, *arguments: str) -> str:
        own = Path(sys.executable).parent / name
        done = subprocess.run(
            [str(own), *arguments],
            cwd=ANSIBLE,
            env=self._environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            sys.exit(f"{name} {' '.join(arguments)}: {done.stdout}{done.stderr}")
        return done.stdout

    def settle(self, backend: str) -> None:
        """Let a backend impair both nodes' links."""
        self._tool("ansible-playbook", "site.yml", "-e", json.dumps({"pkgctl_impairment": backend}))

    def shape(self, **words: str) -> None:
        """Disturb the way from the near node to the far one, in the place of what was there."""
        self.heal()
        asked = {"src": self.near, "dst": self.far, "direction": "to", **words}
        options = [f"{key}={value}" for key, value in {**asked, "lease": "none"}.items()]
        flags = [part for option in options for part in ("-e", option)]
        self._tool("ansible-playbook", "perturb.yml", "-e", f"name={LAYER}", *flags)

    def heal(self) -> None:
        """Take the disturbance away."""
        self._tool("ansible-playbook", "heal.yml", "-e", f"name={LAYER}")

    def ping(self, count: int, interval: float) -> tuple[list[float], int]:
        """Return the round trips in milliseconds, and how many packets were lost."""
        words = ["ping", "-c", str(count), "-i", str(interval), "-W", "2", self.far, "||", "true"]
        shown = self._tool("pkgctl", "exec", self.near, "--", "sh", "-c", " ".join(words))
        times = [float(each) for each in re.findall(r"time=([\d.]+) ms", shown)]
        return times, count - len(times)

    def carry(self) -> float:
        """Return the goodput of TCP in mbit/s."""
        serve = "iperf3 -s -1 -D >/dev/null 2>&1; sleep 1"
        self._tool("pkgctl", "exec", self.far, "--", "sh", "-c", serve)
        words = ["iperf3", "-J", "-c", self.far, "-t", str(self.seconds), "-O", "2"]
        found = json.loads(self._tool("pkgctl", "exec", self.near, "--", *words))
        return float(found["end"]["sum_received"]["bits_per_second"]) / 1e6


def measured(pair: Pair) -> dict[str, Any]:
    """Return what the pair shows of each disturbance, with what was asked."""
    rows: dict[str, Any] = {"undisturbed": spread(pair.ping(200, 0.02)[0])}
    for delay in DELAYS:
        pair.shape(delay=f"{delay}ms")
        rows[f"delay {delay} ms"] = spread(pair.ping(200, 0.02)[0])
    pair.shape(delay="40ms", jitter="5ms")
    rows["delay 40 ms, jitter 5 ms"] = spread(pair.ping(400, 0.02)[0])
    for share in LOSSES:
        pair.shape(loss=f"{share:.0%}")
        lost = pair.ping(3000, 0.004)[1]
        low, high = binom.interval(0.95, 3000, share)
        rows[f"loss {share:.0%}"] = {"seen": lost / 3000, "interval": [low / 3000, high / 3000]}
    pair.shape(bw="20mbit", delay="20ms")
    rows["20 mbit and 20 ms"] = {"goodput": round(pair.carry(), 2), "allowed": round(20 * TCP, 2)}
    pair.heal()
    return rows


def spread(times: list[float]) -> dict[str, float]:
    """Return the median, the 95th percentile and the deviation."""
    return {
        "p50": round(statistics.median(times), 2),
        "p95": round(statistics.quantiles(times, n=20)[-1], 2),
        "deviation": round(statistics.stdev(times), 2),
    }


def table(found: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the measurements as a table for a page."""
    lines = [f"| on one pair of machines | {' | '.join(found)} |", f"|---|{'---|' * len(found)}"]
    for row in next(iter(found.values())):
        cells = [_cell(rows[row]) for rows in found.values()]
        lines.append(f"| {row} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(figures: Mapping[str, Any]) -> str:
    if "p50" in figures:
        return f"{figures['p50']} ms, p95 {figures['p95']}, deviation {figures['deviation']}"
    if "seen" in figures:
        low, high = figures["interval"]
        return f"{figures['seen']:.2%} ({low:.2%}–{high:.2%})"
    bound = f" of {figures['allowed']}" if "allowed" in figures else ""
    return f"{figures['goodput']}{bound} mbit/s"


def main() -> None:
    """Measure with each backend and print it all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--testbed", default="default", help="a running testbed")
    parser.add_argument("--seconds", type=int, default=8, help="of each transfer")
    parser.add_argument("--markdown", action="store_true", help="print a table")
    options = parser.parse_args()
    pair, found = Pair(options.testbed, options.seconds), {}
    for backend in BACKENDS:
        pair.settle(backend)
        found[backend] = measured(pair)
    pair.settle("auto")
    print(table(found) if options.markdown else json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
