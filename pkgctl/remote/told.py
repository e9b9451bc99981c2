# SPDX-License-Identifier: GPL-3.0-or-later
"""What a node tells of itself; runs on the node, by its own Python, with the nodes' code there.

Its argument says in JSON what is asked, and it prints the answer as JSON.
"""

from __future__ import annotations

import importlib
import json
import sys
import time
from pathlib import Path
from typing import Any

# Where the nodes' code is on virtual machines.
HOME = "/usr/local/lib/pkgctl"
PACKAGE = "ansible_collections.pkgctl.testbed.plugins.module_utils"
PATIENCE = 5.0


def main() -> None:
    """Print the answer to what was asked."""
    sys.path.insert(0, HOME)
    wanted: dict[str, Any] = json.loads(sys.argv[1])
    print(json.dumps(_ANSWERS[wanted["what"]](wanted)))


def overview(wanted: dict[str, Any]) -> dict[str, Any]:
    """Return the node's layers, what it uses, and what its agent and delay line say."""
    folder = Path(wanted["directory"])
    load = _module("layers").load
    group = _module("cgroups").group(wanted["cgroup"])
    return {
        "stores": {kind: load(folder / name) for kind, name in wanted["stores"].items()},
        "memory_used": group.memory_used(),
        "cpu_now": group.cpu(),
        "memory_now": group.memory(),
        "processes": sum(len(each.processes()) for each in group.descend()),
        "outline": _ask(folder / "agent" / wanted["agent"], "layer-list"),
        "delay_line": _ask(folder / "agent" / wanted["delay_line"], "status"),
        "mono": time.monotonic(),
    }


def drift(wanted: dict[str, Any]) -> list[str]:
    """Return how the node differs from what its layers and the testbed's record ask for."""
    readback = _module("readback")
    found: list[str] = readback.drift(readback.here(), wanted["base"])
    return found


def _module(name: str) -> Any:
    return importlib.import_module(f"{PACKAGE}.{name}")


def _ask(socket: Path, op: str) -> Any:
    """Return the answer of one of our processes; None if there is none."""
    try:
        with _module("channel").Client(socket, timeout=PATIENCE) as client:
            return client.call(op)
    except _module("errors").AgentError:
        return None


_ANSWERS = {"overview": overview, "drift": drift}

if __name__ == "__main__":
    main()
