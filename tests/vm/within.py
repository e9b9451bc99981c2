# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs inside a machine that is a node, on the nodes' code there: ``python3 within.py WHAT``.

links   every kind of quality set, read back, changed in place and healed
before  layers, leases and a job, before a restart
after   what became of them
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, "/usr/local/lib/pkgctl")
from ansible_collections.pkgctl.testbed.plugins.module_utils import (
    channel,
    identity,
    kinds,
    quality,
    readback,
)

AGENT = "/run/pkgctl/agent/agent.sock"
SKEWED = quality.standardised([number**2 for number in range(5000)], 4096)
QUALITIES: list[dict[str, object]] = [
    {"rate": 5_000_000},
    {"delay": 0.04},
    {"delay": 0.04, "jitter": 0.005},
    {"delay": 0.04, "jitter": 0.005, "distribution": "uniform"},
    {"delay": 0.04, "jitter": 0.005, "distribution": "pareto"},
    {"delay": 0.04, "jitter": 0.005, "distribution": SKEWED},
    {"loss": 0.02},
    {"loss": 0.1, "burst": 5},
    {"loss": 0.6, "burst": 1},
    {"reorder": 0.1, "delay": 0.02},
    {"corrupt": 0.05},
    {"duplicate": 0.05},
    {"duplicate": 1.0, "delay": 0.01},
    {"loss": 1.0},
    {"rate": 256_000, "delay": 0.2, "jitter": 0.02, "loss": 0.01, "burst": 3, "reorder": 0.1},
    {"rate": 10_000_000_000, "delay": 0.001},
    {"jitter": 3.0, "delay": 10.0},
    {"rate": 1, "delay": 0.1},
]


def tables() -> str:
    """Return the kernel's tables of links, as its own tools show them."""
    commands = ("tc qdisc show dev data", "tc class show dev data", "nft list ruleset")
    shown = [subprocess.run(each.split(), capture_output=True, text=True) for each in commands]
    return re.sub(r"_stat \d+", "", "".join(each.stdout for each in shown))


def links() -> dict[str, object]:
    """Return what went wrong with which quality; nothing if all went well."""
    node = identity.load()
    peer = sorted(node.peers)[0]
    before, wrong = tables(), []

    def bring(asked: dict[str, object] | None) -> None:
        body = None
        if asked is not None:
            wanted = quality.Quality(**asked)  # type: ignore[arg-type]
            body = {"egress": {peer: wanted.to_dict()}, "ingress": {}}
        changed = kinds.set_layer(node, "link", "x", body).changed
        again = kinds.set_layer(node, "link", "x", body).changed
        told = str(asked)[:100]
        wrong.extend([f"{told} changed nothing"] * (not changed))
        wrong.extend([f"{told} was not silent the second time"] * again)
        wrong.extend(f"{told}: {line}" for line in readback.drift(node))

    for asked in QUALITIES:
        bring(asked)
        bring(None)
        wrong.extend([f"{str(asked)[:100]} was not healed"] * (tables() != before))
    for asked in [*QUALITIES, *QUALITIES[-2::-1]]:
        bring(asked)
    bring(None)
    wrong.extend(["not healed in the end"] * (tables() != before))
    return {"qualities": len(QUALITIES), "wrong": wrong}


def before() -> dict[str, object]:
    """Disturb the node, and start a job on it."""
    node = identity.load()
    peer = sorted(node.peers)[0]
    slow = {"egress": {peer: quality.Quality(delay=0.08).to_dict()}, "ingress": {}}
    asked = (
        ("stays", "link", slow, None),
        ("ends", "quota", {"cpu": 0.5}, 15.0),
        ("goes-on", "quota", {"pids": 300}, 3600.0),
    )
    for layer, kind, body, seconds in asked:
        kinds.set_layer(node, kind, layer, body)
        channel.call(AGENT, "lease-set", node=node.name, layer=layer, seconds=seconds)
    argv = ["/bin/sleep", "10000"]
    channel.call(AGENT, "job-start", id="sleeper", node=node.name, argv=argv, ready="exec")
    return {}


def after() -> dict[str, object]:
    """Return what is in force, once the agent has brought the node back."""
    node, deadline = identity.load(), time.monotonic() + 120.0
    while True:
        found = {
            "layers": {
                kind: sorted(channel_layers)
                for kind in ("link", "quota")
                if (channel_layers := json.loads(_store(kind)))
            },
            "drift": readback.drift(node),
        }
        settled = not found["drift"] and "ends" not in found["layers"].get("quota", ())
        if settled or time.monotonic() > deadline:
            break
        time.sleep(1.0)
    jobs = channel.call(AGENT, "job-list")["jobs"]
    leases = channel.call(AGENT, "lease-list")["leases"]
    return {**found, "jobs": jobs, "leases": {each["layer"]: each["seconds"] for each in leases}}


def _store(kind: str) -> str:
    return Path("/run/pkgctl", kinds.store(kind)).read_text()


if __name__ == "__main__":
    print(json.dumps({"links": links, "before": before, "after": after}[sys.argv[1]]()))
