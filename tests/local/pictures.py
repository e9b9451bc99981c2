# SPDX-License-Identifier: GPL-3.0-or-later
"""What the machine's own tools list of a testbed's nodes, to hold against another moment's."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from pkgctl.local import namespaces, testbed
from pkgctl.local.paths import Paths
from pkgctl.nodeside import cgroups

# Only what may be set is listed: counters, ages and the carrier change by themselves.
NETWORK = """
tc qdisc show | sed 's/ refcnt [0-9]*//; s/ direct_packets_stat [0-9]*//'
for port in $(ls /sys/class/net); do tc class show dev $port; done
nft list ruleset 2>/dev/null
ip -o addr; ip route; ip -6 route; ip neigh show nud permanent
"""
LIMITS = (
    *("cpu.cfs_quota_us", "cpu.max", "memory.limit_in_bytes", "memory.max", "pids.max"),
    *("freezer.state", "cgroup.freeze", "io.max"),
    *(
        f"blkio.throttle.{way}_{unit}_device"
        for way in ("read", "write")
        for unit in ("bps", "iops")
    ),
)


def picture(place: Paths) -> dict[str, list[str]]:
    """Return the listings of each node and of the switch, lines in order of the alphabet.

    The order in which the kernel lists classes, elements and mounts tells their age; and a disk
    that was mounted again may have another loop device.
    """
    nodes = testbed.read_state(place)["nodes"]
    found = {name: _node(place, name, known["cgroup"]) for name, known in nodes.items()}
    with namespaces.host():
        namespaces.enter(place.switch, "net")
        found["switch"] = sorted(_shell(NETWORK))
    return found


def network(place: Paths, node: str) -> list[str]:
    """Return the listings of one node's network alone."""
    with testbed.inside(place, node):
        return sorted(_shell(NETWORK))


def _node(place: Paths, name: str, path: str) -> list[str]:
    with testbed.inside(place, name):
        lines = _shell(NETWORK) + _mounts() + [f"file {each}" for each in sorted(_hidden())]
    return sorted(lines + _limits(cgroups.group(path)))


def _shell(script: str) -> list[str]:
    done = subprocess.run(["sh"], input=script, text=True, capture_output=True, check=True)
    return [_elements(line) for line in done.stdout.splitlines()]


def _elements(line: str) -> str:
    """Return a line of nft with what it lists sorted."""
    return ", ".join(sorted(line.strip(" {}\t").removeprefix("elements = { ").split(", ")))


def _mounts() -> list[str]:
    lines = Path("/proc/self/mounts").read_text().splitlines()
    return [re.sub(r"^/dev/loop\d+", "/dev/loop", f"mount {line}"[6:]) for line in lines]


def _hidden() -> list[str]:
    try:
        return [path.name for path in Path("/data").iterdir() if path.name.startswith(".")]
    except OSError as error:
        return [f"/data: {error.strerror}"]


def _limits(group: cgroups.Group) -> list[str]:
    groups = [each for each in group.descend() if not each.path.endswith("/session")]
    return [
        f"{folder / name}: {re.sub(r'^[0-9]+:[0-9]+', 'disk', text)}"
        for each in groups
        for folder in each.folders()
        for name in LIMITS
        if (text := _read(folder / name)) is not None
    ]


def _read(path: Path) -> str | None:
    try:
        return path.read_text().strip()
    except OSError:
        return None


def differences(before: dict[str, list[str]], after: dict[str, list[str]]) -> list[str]:
    """Return the lines that are in one of two pictures only."""
    found = []
    for name in before:
        found += [f"{name}: - {line}" for line in before[name] if line not in after[name]]
        found += [f"{name}: + {line}" for line in after[name] if line not in before[name]]
        if len(before[name]) != len(after[name]) and not found:
            found.append(f"{name}: {len(before[name])} lines, then {len(after[name])}")
    return found
