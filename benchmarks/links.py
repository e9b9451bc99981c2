#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is asked of a link beside what iperf3 and ping see of it, and what the delay line costs.

Makes a testbed of its own, two nodes and one link, and removes it. Needs root, iperf3, ping and
ethtool. Prints one JSON object; rates are in mbit/s, times in milliseconds, of one round trip.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from scipy.stats import binom

from pkgctl import topology
from pkgctl.local import removal, testbed
from pkgctl.local.paths import Paths
from pkgctl.nodeside import Quality, channel, delayclient, links

NAME = "bench-links"
PLACE = Paths(NAME)
NEAR, FAR = "edge-1", "cloud-1"
TOOL = [sys.executable, "-m", "pkgctl", "exec", "--name", NAME]
# What is left of a frame's 1514 bytes for TCP (with timestamps), and of 1490 for UDP.
TCP, UDP = 1448 / 1514, 1448 / 1490
MBIT = 1_000_000


def on(node: str, *command: str) -> str:
    """Return what a command prints inside a node."""
    done = subprocess.run([*TOOL, node, "--", *command], check=True, capture_output=True, text=True)
    return done.stdout


def shape(there: Quality, back: Quality | None = None) -> None:
    """Give the link a quality from the near node to the far one, and back."""
    back = there if back is None else back
    for node, peer, out, come in ((NEAR, FAR, there, back), (FAR, NEAR, back, there)):
        with testbed.inside(PLACE, node) as here:
            links.change(here, layer="bench", egress={peer: out}, ingress={peer: come})


def iperf(seconds: int, *options: str) -> float:
    """Return the payload in mbit/s that arrives at the far node."""
    words = ["iperf3", "-c", FAR, "-J", "-t", str(seconds), "-O", "1", *options]
    end = json.loads(on(NEAR, *words))["end"]
    arrived = end.get("sum_received") or end["sum"]
    return float(arrived["bits_per_second"]) / MBIT


def ping(count: int, interval: float) -> tuple[list[float], float]:
    """Return the round trips in milliseconds, and the share of packets that were lost."""
    send = f"ping -c {count} -i {interval} -W 1 {FAR} || true"
    text = on(NEAR, "sh", "-c", send)
    times = [float(number) for number in re.findall(r"time=([\d.]+)", text)]
    return times, 1 - len(times) / count


def spread(times: list[float]) -> dict[str, float]:
    """Return the median and the 95th percentile."""
    return {
        "p50": round(statistics.median(times), 3),
        "p95": round(statistics.quantiles(times, n=20)[-1], 3),
    }


def interval(count: int, asked: float) -> dict[str, list[float]]:
    """Return the shares between which 95 % of all runs of count packets lie."""
    return {"interval_95": [round(float(n) / count, 5) for n in binom.interval(0.95, count, asked)]}


def spent() -> float:
    """Return the processor seconds of the delay line so far."""
    pid = channel.call(PLACE.agent / delayclient.SOCKET, "status")["pid"]
    ticks = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK")


def costed(measure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Return a measurement with the processor seconds a second that the delay line took."""
    before, begun = spent(), time.monotonic()
    found = measure()
    share = (spent() - before) / (time.monotonic() - begun)
    return {**found, "delay_line_cpu": round(share, 4)}


def rate(mbit: int, seconds: int) -> dict[str, Any]:
    """Return the rate asked, the goodput that it allows and the goodput seen."""
    shape(Quality(rate=mbit * MBIT))
    # On a slow link a block of 128 KiB would be a share of all that is counted.
    small = ("-w", "16K", "-l", "8K") if mbit == 1 else ()
    seen = iperf(seconds, *small)
    return {
        "asked": mbit,
        "goodput_expected": round(mbit * TCP, 3),
        "goodput": round(seen, 3),
        "of_expected": round(seen / (mbit * TCP), 4),
    }


def delay(milliseconds: int) -> dict[str, Any]:
    """Return the delay asked, both ways together, and the round trips seen."""
    shape(Quality(delay=milliseconds / 1e3))
    times, _ = ping(300, 0.01)
    return {"asked_round_trip": 2 * milliseconds, **spread(times)}


def loss(share: float, count: int = 6000) -> dict[str, Any]:
    """Return the loss asked in one direction and the loss seen."""
    shape(Quality(loss=share), Quality())
    _, lost = ping(count, 0.001)
    return {"asked": share, "seen": round(lost, 5), "packets": count, **interval(count, share)}


def together(seconds: int) -> dict[str, Any]:
    """Return what is seen of a rate, a delay and a loss on one link."""
    asked = {"rate": 20, "round_trip": 40, "loss": 0.02}
    shape(Quality(rate=20 * MBIT, delay=0.02, loss=0.02), Quality(delay=0.02))
    times, lost = ping(3000, 0.002)
    # Sent faster than the link is: what arrives is the rate less the loss behind it.
    arrived = iperf(seconds, "-u", "-b", "40M", "-l", "1448")
    return {
        "asked": asked,
        "round_trip": spread(times),
        "loss": {"seen": round(lost, 5), "packets": 3000, **interval(3000, 0.02)},
        "udp_goodput_expected": round(20 * UDP * 0.98, 3),
        "udp_goodput": round(arrived, 3),
    }


def offload(state: str) -> None:
    """Turn super-packets on or off in both nodes."""
    for node in (NEAR, FAR):
        on(node, "ethtool", "-K", "eth0", "tso", state, "gso", state, "gro", state)


def throughput(seconds: int) -> dict[str, Any]:
    """Return TCP's goodput through nothing, a delay, and a loss, with both packet sizes."""
    found: dict[str, Any] = {}
    for name, state in (("super_packets", "on"), ("mtu_packets", "off")):
        offload(state)
        for way, quality in (
            ("unshaped", Quality()),
            ("10ms_each_way", Quality(delay=0.01)),
            ("10ms_and_hardly_a_loss", Quality(delay=0.01, loss=1e-9)),
        ):
            shape(quality)
            found[f"{name}_{way}"] = costed(lambda: {"goodput": round(iperf(seconds), 1)})
    offload("on")
    return found


def idle(seconds: int) -> dict[str, Any]:
    """Wait, with a delayed link on which nothing moves."""
    shape(Quality(delay=0.01))
    time.sleep(seconds)
    return {"seconds": seconds}


@contextmanager
def two_nodes() -> Iterator[None]:
    """Keep the testbed, and iperf3's server at its far node, while the block runs."""
    server = None
    try:
        testbed.up(topology.load("duo"), PLACE)
        quiet = subprocess.DEVNULL
        server = subprocess.Popen([*TOOL, FAR, "--", "iperf3", "-s"], stdout=quiet, stderr=quiet)
        deadline = time.monotonic() + 10
        while ":5201" not in on(FAR, "ss", "-ltn"):
            if time.monotonic() > deadline:
                sys.exit("iperf3 does not listen")
            time.sleep(0.05)
        yield
    finally:
        if server is not None:
            server.kill()
            server.wait()
        removal.down(PLACE)


def main() -> None:
    """Measure everything once and print it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=5, help="of each transfer")
    seconds = parser.parse_args().seconds
    if os.geteuid() != 0:
        sys.exit("needs root")
    with two_nodes():
        result = {
            "cores": os.cpu_count(),
            "load_before": round(os.getloadavg()[0], 2),
            "idle": costed(lambda: idle(seconds)),
            "rates": [costed(lambda n=n: rate(n, seconds)) for n in (1, 5, 20, 100, 500)],
            "delays": [costed(lambda n=n: delay(n)) for n in (5, 20, 80)],
            "losses": [costed(lambda n=n: loss(n)) for n in (0.01, 0.05)],
            "together": costed(lambda: together(seconds)),
            "throughput": throughput(seconds),
        }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
