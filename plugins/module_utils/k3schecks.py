# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a machine can be a node of a K3s cluster: what is against it, each in a few words."""

from __future__ import annotations

import errno
import os
import re
import socket
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import hierarchies, k3ssettings
from .errors import CapabilityError

# K3s asks for 512 MiB in its documentation; a machine that is sold as that has a little less.
LEAST_MEMORY = 450 << 20
# Certificates are of no use to a node that lives before they were made. What it hears of the
# controller's time is past by as long as it was on its way: minutes to a machine that is emulated.
MOST_BEHIND, MOST_AHEAD = 5.0, 300.0
_PROC = Path("/proc")
_MODULES = Path("/lib/modules")
_LISTEN, _UNCONNECTED = "0A", "07"
_CONTROLLERS = ("cpu", "memory", "pids")
# What each kind of node has and the kinds before it have not.
_MARKS = {"k3s": Path("/etc/rancher/k3s/token"), "k3s-agent": Path("/etc/rancher/k3s/agent-token")}

PREFLIGHT: Mapping[str, Any] = {
    "argument_spec": {
        "unit": {"type": "str", "required": True},
        "ports": {
            "type": "list",
            "elements": "dict",
            "default": [],
            "options": {
                "port": {"type": "int", "required": True},
                "protocol": {"type": "str", "choices": ["tcp", "udp"], "default": "tcp"},
            },
        },
        "data_dir": {"type": "path"},
        "address": {"type": "str", "default": ""},
        "interface": {"type": "str", "default": ""},
        "now": {"type": "float"},
    }
}


@dataclass(frozen=True, slots=True)
class Port:
    """A port that has to be free.

    Attributes:
        number: from 1 to 65535.
        protocol: ``tcp`` or ``udp``.
    """

    number: int
    protocol: str = "tcp"


@dataclass(frozen=True, slots=True)
class Holder:
    """The process that has a port.

    Attributes:
        pid: its id.
        name: what it calls itself.
        groups: its control groups, a line each.
    """

    pid: int
    name: str
    groups: str


def check(options: Mapping[str, Any], *, dry_run: bool = False) -> dict[str, object]:
    """Do what the module k3s_preflight was told, and return its report.

    Raises:
        CapabilityError: with everything that is against it, in one line.
    """
    if os.geteuid():
        raise CapabilityError("it was asked by a user who is not root (ansible_become)")
    ports = [Port(int(each["port"]), each.get("protocol") or "tcp") for each in options["ports"]]
    problems = [
        *_another(options["unit"]),
        *_elsewhere(options["data_dir"]),
        *_lacking(_PROC),
        *_misplaced(options["address"], options["interface"]),
        *taken(ports, options["unit"], _PROC),
        *_skew(options["now"]),
    ]
    if problems:
        raise CapabilityError("; ".join(problems))
    return {"changed": False, "cpu": os.cpu_count() or 1, "memory": _memory(_PROC)}


def _another(unit: str) -> Iterable[str]:
    """Yield what another kind of node it is already, if it is one."""
    there = next((name for name, mark in _MARKS.items() if mark.exists()), unit)
    if there != unit:
        yield f"it has the service {there}, and would have {unit} beside it: reset it first"


def _elsewhere(data_dir: str | None) -> Iterable[str]:
    """Yield where K3s has its state already, if that is not where it would be looked for."""
    there = k3ssettings.data_dir()
    if data_dir and there not in ("", data_dir):
        yield f"it has K3s in {there}, and would have it in {data_dir}: set k3s_data_dir, or reset"


def _memory(proc: Path) -> int:
    """Return the bytes of memory that the machine has."""
    found = re.search(r"MemTotal:\s+(\d+) kB", (proc / "meminfo").read_text())
    return int(found[1]) << 10 if found else 0


def _lacking(proc: Path) -> Iterable[str]:
    there = hierarchies.here()
    if missing := [name for name in _CONTROLLERS if not there.has(name)]:
        yield f"the kernel has no cgroup controller {', '.join(missing)}"
    if "overlay" not in (proc / "filesystems").read_text() and not _is_module("overlay", _MODULES):
        yield "the kernel has no overlay file system (modprobe overlay)"
    total = _memory(proc)
    if total < LEAST_MEMORY:
        yield f"it has {total >> 20} MiB of memory, and a node needs {LEAST_MEMORY >> 20}"


def _is_module(name: str, modules: Path) -> bool:
    """Return whether the kernel can load a module, as the service has it do before each start."""
    try:
        known = (modules / os.uname().release / "modules.dep").read_text()
    except OSError:
        return False
    return re.search(rf"(?m)^\S*/{name}\.ko[^\s:]*:", known) is not None


def _misplaced(address: str, interface: str) -> Iterable[str]:
    if interface and not Path("/sys/class/net", interface).exists():
        yield f"there is no network card {interface}"
    if not address:
        return
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            sock.bind((address, 0))
    except OSError as error:
        if error.errno == errno.EADDRNOTAVAIL:
            yield f"none of its network cards has the address {address}"
        else:
            yield f"{address} cannot be a node's address: {error}"


def _skew(now: float | None) -> Iterable[str]:
    if now is None:
        return
    ahead = time.time() - now
    if not -MOST_BEHIND <= ahead <= MOST_AHEAD:
        word = "ahead of" if ahead > 0 else "behind"
        yield f"its clock is {abs(ahead):.0f} s {word} the controller's"


def taken(ports: Sequence[Port], unit: str, proc: Path) -> list[str]:
    """Return which ports others than a unit have.

    Args:
        ports: those to look at.
        unit: the service to which they may belong.
        proc: where the kernel shows its processes.
    """
    wanted = {inode: port for port in ports for inode in _listening(port, proc / "net")}
    holders = _holders(wanted, proc) if wanted else {}
    found = []
    for inode, port in wanted.items():
        holder = holders.get(inode)
        if holder is None and port.protocol == "udp":
            continue  # The kernel's own: a tunnel, such as the one that K3s has there.
        if holder is None or not _is_of(holder, unit):
            by = f"by {holder.name} (process {holder.pid})" if holder else "by a process elsewhere"
            found.append(f"port {port.number}/{port.protocol} is taken {by}")
    return sorted(set(found))


def _is_of(holder: Holder, unit: str) -> bool:
    """Return whether a process runs in a unit, be it systemd's or the agent's."""
    parts = set(re.split(r"[/\n]", holder.groups))
    return bool(parts & {f"{unit}.service", f"unit-{unit}"}) or holder.name.startswith("k3s")


def _listening(port: Port, net: Path) -> Iterable[int]:
    """Yield the inodes of the sockets that wait at a port."""
    state = _LISTEN if port.protocol == "tcp" else _UNCONNECTED
    for version in ("", "6"):
        with suppress(OSError):
            for line in (net / f"{port.protocol}{version}").read_text().splitlines()[1:]:
                words = line.split()
                if int(words[1].rpartition(":")[2], 16) == port.number and words[3] == state:
                    yield int(words[9])


def _holders(inodes: Iterable[int], proc: Path) -> dict[int, Holder]:
    links = {f"socket:[{inode}]": inode for inode in inodes}
    found: dict[int, Holder] = {}
    for folder in proc.glob("[0-9]*"):
        with suppress(OSError):
            for entry in os.scandir(folder / "fd"):
                inode = links.get(_target(entry.path))
                if inode is not None:
                    name = (folder / "comm").read_text().strip()
                    groups = (folder / "cgroup").read_text()
                    found[inode] = Holder(int(folder.name), name, groups)
    return found


def _target(path: str) -> str:
    try:
        return str(Path(path).readlink())
    except OSError:
        return ""
