# SPDX-License-Identifier: GPL-3.0-or-later
"""What nodes and jobs have used, read from control groups and from the switch's ports.

All figures are cumulative, memory excepted; the reader takes differences.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from . import namespaces
from .cgroups import Group
from .netlink import NETLINK_ROUTE, Socket, attributes
from .rtnl import RTM_GETLINK

_IFLA_IFNAME, _IFLA_STATS64 = 3, 23
_RECEIVED, _SENT = 16, 24
Row = dict[str, Any]


class Traffic:
    """Bytes through the ports of a switch, by one request for all."""

    def __init__(self, namespace: Path) -> None:
        """Open a socket in the switch's pinned network namespace, and stay where we are."""
        with namespaces.in_network(namespace):
            self._socket = Socket(NETLINK_ROUTE)

    def read(self) -> dict[str, tuple[int, int]]:
        """Return (bytes to the node, bytes from it) by port name."""
        found = {}
        for body in self._socket.dump(RTM_GETLINK, struct.pack("=BxHiII", 0, 0, 0, 0, 0)):
            fields = attributes(body, 16)
            name = fields[_IFLA_IFNAME].rstrip(b"\0").decode()
            stats = fields.get(_IFLA_STATS64)
            if stats is not None:
                received, sent = struct.unpack_from("=QQ", stats, _RECEIVED)
                found[name] = (sent, received)
        return found

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()


def port(address: str) -> str:
    """Return the name of the switch's port to the node with an IPv4 address."""
    return "p" + "-".join(address.split(".")[2:])


def row(node: str, job: str | None, group: Group, moved: tuple[int, int] | None) -> Row:
    """Return one sample of a group; network bytes are known for nodes only."""
    used = group.usage()
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
    nodes: Iterable[tuple[str, str, Group]],
    jobs: Iterable[tuple[str, str, Group]],
    traffic: Mapping[str, tuple[int, int]],
) -> list[Row]:
    """Return a row for each node (name, address, group) and each job (node, id, group)."""
    rows = [row(name, None, group, traffic.get(port(address))) for name, address, group in nodes]
    return rows + [row(node, job, group, None) for node, job, group in jobs]
