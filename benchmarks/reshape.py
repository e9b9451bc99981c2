#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""How long it takes to shape every directed pair of many nodes, one pair, and to read all back.

Beside it the same rates are set by one tc call for each class, queue and filter, as scripts do
that drive tc (their delays are left out, for want of netem on some machines). Then the goodput of
an unshaped pair is compared with few and with many other peers shaped on the same interface.

Makes testbeds of its own and removes them. Needs root, tc and iperf3. Prints one JSON object.
"""

from __future__ import annotations

import argparse
import ipaddress
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from pkgctl import topology
from pkgctl.local import removal, testbed
from pkgctl.local.paths import Paths
from pkgctl.nodeside import Quality, identity, layers, linkkernel, links, shaping

NAME = "bench-reshape"
PLACE = Paths(NAME)
LAYER = "bench"
MBIT = 1_000_000
PEERS_SECONDS = 3
TOPOLOGY = """\
name: bench
sites: {one: {access: lan}}
kinds: {small: {cpu: 2, memory: 128Mi}}
nodes: [{name: node, count: COUNT, site: one, kind: small}]
"""

Matrix = Mapping[str, Mapping[str, Quality]]


@contextmanager
def nodes(count: int) -> Iterator[list[str]]:
    """Keep a testbed of unshaped nodes while the block runs; the value is their names."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "bench.yaml")
        path.write_text(TOPOLOGY.replace("COUNT", str(count)))
        known = topology.load(str(path))
    try:
        testbed.up(known, PLACE)
        yield [node.name for node in known.nodes]
    finally:
        removal.down(PLACE)


def matrix(names: list[str], extra: int = 0) -> Matrix:
    """Return a rate and a delay of its own for each directed pair."""
    return {
        one: {
            other: Quality(
                rate=MBIT + 1000 * row + 7000 * column + extra,
                delay=0.001 * (1 + (7 * row + 3 * column) % 50),
            )
            for column, other in enumerate(names)
            if other != one
        }
        for row, one in enumerate(names)
    }


def apply(asked: Matrix) -> None:
    """Give every link its quality."""
    for name in asked:
        incoming = {other: row[name] for other, row in asked.items() if other != name}
        with testbed.inside(PLACE, name) as here:
            links.change(here, layer=LAYER, egress=asked[name], ingress=incoming)


def change_one(source: str, target: str, quality: Quality) -> None:
    """Give one directed pair another quality, at both its ends."""
    for node, peer, way in ((source, target, "egress"), (target, source, "ingress")):
        with testbed.inside(PLACE, node) as here:
            held = layers.load(Path(here.directory, links.STORE))[LAYER]
            ways = {
                each: {one: Quality.from_dict(numbers) for one, numbers in held[each].items()}
                for each in ("egress", "ingress")
            }
            ways[way][peer] = quality
            links.change(here, layer=LAYER, **ways)


def read_back(names: list[str]) -> int:
    """Compare all nodes with what is asked of them, and return how much differs."""
    found = 0
    for name in names:
        with testbed.inside(PLACE, name) as here:
            found += len(links.converge(here, dry_run=True).actions)
    return found


def heal(names: list[str]) -> None:
    """Take all away."""
    for name in names:
        with testbed.inside(PLACE, name) as here:
            links.change(here, layer=LAYER, present=False)


def by_tc(asked: Matrix) -> None:
    """Set the same rates with one call of tc for each class, queue and filter."""
    for name, row in asked.items():
        with testbed.inside(PLACE, name) as here:
            lines = ["tc qdisc add dev eth0 root handle 1: htb"]
            for number, (peer, quality) in enumerate(row.items(), start=16):
                where = f"dev eth0 parent 1:{number:x}"
                address = here.peers[peer]
                lines += [
                    f"tc class add dev eth0 parent 1: classid 1:{number:x} htb"
                    f" rate {quality.rate}bit",
                    f"tc qdisc add {where} handle {number:x}: bfifo limit 65536",
                    "tc filter add dev eth0 parent 1: protocol ip u32"
                    f" match ip dst {address}/32 flowid 1:{number:x}",
                ]
            subprocess.run(["sh", "-e"], input="\n".join(lines), text=True, check=True)


def timed(action: Callable[[], object]) -> float:
    """Return the seconds that an action takes."""
    begun = time.monotonic()
    action()
    return time.monotonic() - begun


def pairs(count: int) -> dict[str, object]:
    """Time the shaping of all pairs of so many nodes."""
    with nodes(count) as names:
        asked, other = matrix(names), matrix(names, 500)
        found: dict[str, object] = {"pairs": count * (count - 1)}
        found["all_pairs_seconds"] = round(timed(lambda: apply(asked)), 3)
        found["all_pairs_changed_seconds"] = round(timed(lambda: apply(other)), 3)
        ones = [
            timed(lambda n=n: change_one(names[n], names[-1 - n], Quality(rate=MBIT + n)))
            for n in range(20)
        ]
        found["one_pair_seconds"] = {
            "median": round(statistics.median(ones), 4),
            "most": round(max(ones), 4),
        }
        found["read_back_seconds"] = round(timed(lambda: read_back(names)), 3)
        found["differences"] = read_back(names)
        found["healed_seconds"] = round(timed(lambda: heal(names)), 3)
        found["tc_call_per_rule_seconds"] = round(timed(lambda: by_tc(asked)), 3)
    ours = found["all_pairs_seconds"]
    assert isinstance(ours, float)
    found["times_faster"] = round(float(str(found["tc_call_per_rule_seconds"])) / ours, 2)
    return found


def crowded(here: identity.Identity, count: int) -> identity.Identity:
    """Return a node with so many peers more than it has."""
    first = int(ipaddress.IPv4Address("10.77.16.0"))
    more = {f"other-{n}": str(ipaddress.IPv4Address(first + n)) for n in range(count)}
    return replace(here, peers={**here.peers, **more})


def goodput(count: int) -> float:
    """Return bits/s of TCP to an unshaped peer, with so many other peers shaped."""
    with testbed.inside(PLACE, "node-1") as here, linkkernel.Kernel.here("eth0") as kernel:
        known = crowded(here, count)
        rates = {peer: Quality(rate=MBIT) for peer in known.peers if peer.startswith("other")}
        kernel.apply(
            shaping.plan(kernel.index, kernel.read(), shaping.wanted_state(known, rates, {}))
        )
    words = ["iperf3", "-c", "node-2", "-J", "-t", str(PEERS_SECONDS), "-O", "1"]
    tool = [sys.executable, "-m", "pkgctl", "exec", "--name", NAME, "node-1", "--"]
    done = subprocess.run([*tool, *words], check=True, capture_output=True, text=True)
    return float(json.loads(done.stdout)["end"]["sum_received"]["bits_per_second"])


def peers(rounds: int) -> dict[str, object]:
    """Compare the goodput beside 10 other shaped peers and beside 1,000, in turn."""
    quiet = subprocess.DEVNULL
    with nodes(2):
        tool = [sys.executable, "-m", "pkgctl", "exec", "--name", NAME, "node-2", "--"]
        server = subprocess.Popen([*tool, "iperf3", "-s"], stdout=quiet, stderr=quiet)
        try:
            time.sleep(1.0)
            found = [(goodput(10), goodput(1000)) for _ in range(rounds)]
        finally:
            server.kill()
            server.wait()
    few, many = (statistics.median(each[at] for each in found) for at in (0, 1))
    ratios = sorted(each[1] / each[0] for each in found)
    return {
        "goodput_beside_10_mbit": round(few / MBIT),
        "goodput_beside_1000_mbit": round(many / MBIT),
        "ratio": round(statistics.median(ratios), 3),
        "ratios": [round(ratio, 3) for ratio in ratios],
    }


def main() -> None:
    """Measure both and print them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nodes", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    if os.geteuid() != 0:
        sys.exit("needs root")
    result = {
        "cores": os.cpu_count(),
        "load_before": round(os.getloadavg()[0], 2),
        "reshape": pairs(arguments.nodes),
        "peers": peers(arguments.rounds),
    }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
