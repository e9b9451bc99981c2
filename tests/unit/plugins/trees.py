# SPDX-License-Identifier: GPL-3.0-or-later
"""Control group hierarchies made of ordinary files."""

from __future__ import annotations

from pathlib import Path

from ansible_collections.pkgctl.testbed.plugins.module_utils.cgroups import Group
from ansible_collections.pkgctl.testbed.plugins.module_utils.hierarchies import USED, Hierarchies

NODE = "pkgctl/test/nodes/edge-1"
_V2_CONTROLLERS = frozenset({"cpu", "memory", "pids", "io"})


def v1(folder: Path) -> Hierarchies:
    """Return hierarchies of version 1, a folder for each controller."""
    return Hierarchies({name: folder / name for name in USED}, None, frozenset())


def v2(folder: Path) -> Hierarchies:
    """Return the unified hierarchy with all that we use."""
    return Hierarchies({}, folder / "unified", _V2_CONTROLLERS)


def hybrid(folder: Path) -> Hierarchies:
    """Return version 1 for cpu, and the unified hierarchy for memory and pids."""
    own = {name: folder / name for name in ("cpu", "cpuacct", "freezer", "blkio")}
    return Hierarchies(own, folder / "unified", frozenset({"memory", "pids"}))


def node(machine: Hierarchies) -> Group:
    """Return a node's group with the limits that the kernel gives a new one: none."""
    made = Group(NODE, machine)
    made.create()
    unlimited(made)
    return made


def unlimited(group: Group) -> None:
    """Give a group the files that the kernel makes in a new one."""
    group.set_cpu(None)
    group.set_memory(None)
    group.set_pids(None)
    if not group.machine.is_unified("cpu"):
        put(group, "cpu", "cpu.cfs_period_us", "100000\n")
    if not group.machine.is_unified("memory"):
        put(group, "memory", "memory.limit_in_bytes", "9223372036854771712\n")
    if group.machine.is_unified("blkio"):
        put(group, "blkio", "io.max", "")
    else:
        for kind in ("read_bps", "write_bps", "read_iops", "write_iops"):
            put(group, "blkio", f"blkio.throttle.{kind}_device", "")


def put(group: Group, controller: str, file: str, text: str) -> None:
    """Write what the kernel would show in a file of a group."""
    (group.folder(controller) / file).write_text(text)


def shown(group: Group, controller: str, file: str) -> str:
    """Return what was written into a file of a group."""
    return (group.folder(controller) / file).read_text()
