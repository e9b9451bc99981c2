#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""How long after their time armed layers set in and end: spread over time, and all at one instant.

Makes testbeds of its own and removes them. Needs root. Prints one JSON object; times are in
milliseconds after the planned moment, when the change began and when it was done.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pkgctl import topology
from pkgctl.local import removal, testbed
from pkgctl.local.paths import Paths
from pkgctl.nodeside import channel, syscalls

PLACE = Paths("bench-timeline")
LEAD = 2.0
TOPOLOGY = """\
name: bench
sites: {one: {access: lan}}
kinds: {small: {cpu: 100m, memory: 32Mi}}
nodes: [{name: node, count: COUNT, site: one, kind: small}]
"""


@contextmanager
def nodes(count: int) -> Iterator[list[str]]:
    """Keep a testbed while the block runs; the value is the names of its nodes."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "bench.yaml")
        path.write_text(TOPOLOGY.replace("COUNT", str(count)))
        known = topology.load(str(path))
    try:
        testbed.up(known, PLACE)
        yield [node.name for node in known.nodes]
    finally:
        removal.down(PLACE)


def body(names: list[str], node: str, rate: int) -> dict[str, Any]:
    """Return a layer's content: a rate and a delay toward and from one other node."""
    peer = names[names.index(node) - 1]
    quality = {"rate": rate, "delay": 0.01, "jitter": 0.0, "loss": 0.0}
    return {"egress": {peer: quality}, "ingress": {peer: quality}}


def played(steps: list[tuple[str, str, dict[str, Any], float, float]]) -> list[dict[str, float]]:
    """Return the events of steps: node, layer, content, start and duration in seconds."""
    agent = PLACE.agent / testbed.AGENT_SOCKET
    found: list[dict[str, float]] = []
    with channel.Client(agent) as asking, channel.Client(agent, timeout=60.0) as listening:
        for node, layer, content, start, duration in steps:
            times = {"start": start, "duration": duration}
            step = {"timeline": "bench", "node": node, "kind": "link", "layer": layer}
            asking.call("timeline-arm", **step, body=content, times=times)
        events = listening.stream("events")
        asking.call("timeline-start", timeline="bench", t0=syscalls.monotonic() + LEAD)
        for event in events:
            if event.get("event") == "layer":
                found.append(event)
            if len(found) == 2 * len(steps):
                return found
    return found


def lateness(events: list[dict[str, float]]) -> dict[str, Any]:
    """Return how late events were."""
    result: dict[str, Any] = {"events": len(events)}
    for moment in ("actual", "done"):
        late = [1e3 * (event[moment] - event["planned"]) for event in events]
        cuts = statistics.quantiles(late, n=100)
        numbers = {"p50": cuts[49], "p99": cuts[98], "most": max(late)}
        result[moment] = {name: round(number, 2) for name, number in numbers.items()}
    return result


def spread(count: int, events: int, seconds: float) -> dict[str, Any]:
    """Spread events evenly over so many nodes and seconds."""
    with nodes(count) as names:
        steps = []
        for number in range(events // 2):
            node = names[number % count]
            start = number * seconds / (events // 2)
            layer = f"layer-{number}"
            steps.append((node, layer, body(names, node, 1_000_000 + number), start, 0.25))
        return lateness(played(steps))


def at_once(count: int, rounds: int) -> dict[str, Any]:
    """Switch a layer on all nodes at the same instant, some times."""
    found: list[dict[str, float]] = []
    with nodes(count) as names:
        for number in range(rounds):
            rate = 1_000_000 + number
            steps = [(node, "storm", body(names, node, rate), 0.0, 2.0) for node in names]
            found += played(steps)
    return lateness(found)


def main() -> None:
    """Measure all and print it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=1000)
    events = parser.parse_args().events
    if os.geteuid() != 0:
        sys.exit("needs root")
    result = {
        "cores": os.cpu_count(),
        "load_before": round(os.getloadavg()[0], 2),
        "7_nodes_over_20_s": spread(7, events, 20.0),
        "100_nodes_over_20_s": spread(100, events, 20.0),
        "7_nodes_at_once": at_once(7, 10),
        "100_nodes_at_once": at_once(100, 3),
    }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
