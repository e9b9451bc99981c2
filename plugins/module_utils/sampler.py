# SPDX-License-Identifier: GPL-3.0-or-later
"""What nodes, jobs and pods have used, read from control groups and from the switch's ports.

All figures are cumulative, memory excepted; the reader takes differences.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable, Iterator, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from . import namespaces, podgroups
from .cgroups import Group, Usage
from .identity import Identity
from .netlink import NETLINK_ROUTE, Socket, attributes
from .rtnl import RTM_GETLINK

_IFLA_IFNAME, _IFLA_STATS64 = 3, 23
_RECEIVED, _SENT = 16, 24
_STAT = Path("/proc/stat")
_IDLE, _WAITING, _STOLEN = 3, 4, 7  # of the machine's times
Row = dict[str, Any]
Moved = tuple[int, int]


class Traffic:
    """Bytes to and from nodes, by one request for all.

    They are counted at the ports of the switch between nodes. A node that is a machine of its own
    may have no such switch, and then its own interface counts.
    """

    def __init__(self, switch: Path) -> None:
        """Open a socket where the pinned network of the switch is, if there is one; else here."""
        self._has_switch = switch.exists()
        with namespaces.in_network(switch) if self._has_switch else nullcontext():
            self._socket = Socket(NETLINK_ROUTE)

    def read(self, nodes: Iterable[Identity]) -> dict[str, Moved]:
        """Return (bytes to the node, bytes from it) by the names of nodes."""
        links = self._links()
        if self._has_switch:
            ports = {node.name: links.get(port(node.address)) for node in nodes}
            return {name: (sent, received) for name, (received, sent) in _known(ports)}
        return dict(_known({node.name: links.get(node.interface) for node in nodes}))

    def _links(self) -> dict[str, Moved]:
        """Return (bytes received, bytes sent) by the names of links."""
        found = {}
        for body in self._socket.dump(RTM_GETLINK, struct.pack("=BxHiII", 0, 0, 0, 0, 0)):
            fields = attributes(body, 16)
            name = fields[_IFLA_IFNAME].rstrip(b"\0").decode()
            stats = fields.get(_IFLA_STATS64)
            if stats is not None:
                received, sent = struct.unpack_from("=QQ", stats, _RECEIVED)
                found[name] = (received, sent)
        return found

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()


def _known(found: Mapping[str, Moved | None]) -> Iterator[tuple[str, Moved]]:
    return ((name, moved) for name, moved in found.items() if moved is not None)


def port(address: str) -> str:
    """Return the name of the switch's port to the node with an IPv4 address."""
    return "p" + "-".join(address.split(".")[2:])


def row(node: str, job: str | None, used: Usage, moved: Moved | None = None) -> Row:
    """Return one sample of what was used; network bytes are known for nodes only."""
    return {
        "node": node,
        "job": job,
        "cpu_seconds": used.cpu_seconds,
        "throttled_seconds": used.throttled_seconds,
        "memory_bytes": used.memory_bytes,
        "rx_bytes": moved[0] if moved else None,
        "tx_bytes": moved[1] if moved else None,
        "read_bytes": used.read_bytes,
        "write_bytes": used.write_bytes,
    }


def sample(
    nodes: Iterable[tuple[str, Group]],
    jobs: Iterable[tuple[str, str, Group]],
    traffic: Mapping[str, Moved],
) -> list[Row]:
    """Return a row for each node (name, group), each job (node, id, group), and each pod there."""
    known = list(nodes)
    rows = [row(name, None, group.usage(), traffic.get(name)) for name, group in known]
    rows += [row(node, job, group.usage()) for node, job, group in jobs]
    return rows + [
        row(name, f"{podgroups.PREFIX}{uid}", podgroups.usage(pod))
        for name, group in known
        for uid, pod in podgroups.pods(group)
    ]


def machine() -> dict[str, float]:
    """Return the seconds that this machine's processors were busy, or not ours, and idle."""
    ticks = [int(word) for word in _STAT.read_text().split("\n", 1)[0].split()[1 : _STOLEN + 2]]
    each = os.sysconf("SC_CLK_TCK")
    idle = ticks[_IDLE] + ticks[_WAITING]
    return {"busy": (sum(ticks) - idle) / each, "idle": idle / each}
