# SPDX-License-Identifier: GPL-3.0-or-later
"""What all nodes have in common, whatever they are made of: addresses, identities, descriptions.

Nothing here touches a machine.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from pkgctl.errors import SpecError
from pkgctl.network import Matrix, Node
from pkgctl.nodeside import cables
from pkgctl.nodeside import identity as ids
from pkgctl.nodeside import quality as qualities

NETWORK = ipaddress.IPv4Network("10.77.0.0/16")
GATEWAY = str(NETWORK[-2])
# A node has the same number in both networks.
NETWORK6 = ipaddress.IPv6Network("fd77:7067::/64")
# A class number is a node's number in the network: HTB has room for so many.
MOST_NODES = 0x6000


def allocate(names: Iterable[str], known: Mapping[str, str]) -> dict[str, str]:
    """Return an address for each name: the known one, else the lowest that is free.

    Raises:
        SpecError: if there are more names than addresses.
    """
    wanted = list(names)
    if len(wanted) > MOST_NODES:
        raise SpecError(
            f"{len(wanted)} nodes are too many for one testbed: {MOST_NODES} is the most"
        )
    kept = {name: known[name] for name in wanted if name in known}
    taken = {int(ipaddress.IPv4Address(address)) for address in kept.values()}
    first = int(NETWORK.network_address) + 1
    free = (number for number in range(first, first + MOST_NODES) if number not in taken)
    return {
        name: kept[name] if name in kept else str(ipaddress.IPv4Address(next(free)))
        for name in wanted
    }


def second(address: str) -> str:
    """Return the IPv6 address of whoever has an IPv4 address in NETWORK."""
    number = int(ipaddress.IPv4Address(address)) - int(NETWORK.network_address)
    return str(NETWORK6[number])


def hardware(address: str) -> bytes:
    """Return a locally administered hardware address made of an IPv4 address."""
    return cables.hardware(address)


def identities(
    nodes: Iterable[Node],
    addresses: Mapping[str, str],
    settle: Callable[[Node], Mapping[str, Any]],
    *,
    ipv6: bool = True,
) -> dict[str, ids.Identity]:
    """Return each node's identity by its name.

    Args:
        nodes: the nodes of a topology.
        addresses: each one's IPv4 address.
        settle: says what depends on what a node is made of: testbed, interface, cgroup, disks,
            directory.
        ipv6: whether nodes have IPv6 addresses too.
    """
    seconds = {name: second(address) for name, address in addresses.items()} if ipv6 else {}
    return {
        node.name: ids.Identity(
            name=node.name,
            address=addresses[node.name],
            network=str(NETWORK),
            peers=_others(addresses, node.name),
            access=node.access_up,
            access_down=node.access_down,
            cpu=node.cpu,
            memory=node.memory,
            pids=node.pids,
            address6=seconds.get(node.name, ""),
            peers6=_others(seconds, node.name),
            **settle(node),
        )
        for node in nodes
    }


def _others(addresses: Mapping[str, str], name: str) -> dict[str, str]:
    return {other: address for other, address in addresses.items() if other != name}


def describe(node: Node, known: ids.Identity) -> dict[str, Any]:
    """Return what a testbed's state says of a node, whatever it is made of; ready for JSON."""
    return {
        "site": node.site,
        "kind": node.kind,
        "role": node.role,
        "labels": dict(node.labels),
        "address": known.address,
        "address6": known.address6,
        "interface": known.interface,
        "cpu": node.cpu,
        "memory": node.memory,
        "pids": node.pids,
        "access_up": node.access_up,
        "access_down": node.access_down,
        "disks": {
            name: {"size": disk.size, "mount": disk.mount} for name, disk in node.disks.items()
        },
        "cgroup": known.cgroup,
        "directory": known.directory,
    }


def hosts_file(nodes: Mapping[str, ids.Identity]) -> str:
    """Return the /etc/hosts of all nodes; of a name's two addresses programs take IPv4 first."""
    lines = ["127.0.0.1 localhost", "::1 localhost ip6-localhost ip6-loopback"]
    lines += [f"{known.address} {name}" for name, known in nodes.items()]
    lines += [f"{known.address6} {name}" for name, known in nodes.items() if known.address6]
    return "".join(f"{line}\n" for line in lines)


def matrix_to_dict(matrix: Matrix) -> dict[str, dict[str, dict[str, Any]]]:
    """Return a matrix of plain numbers; equal cells share one dictionary."""
    known = {cell: cell.to_dict() for row in matrix.values() for cell in row.values()}
    return {
        source: {target: known[cell] for target, cell in row.items()}
        for source, row in matrix.items()
    }


def matrix_from_dict(links: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> Matrix:
    """Return the matrix that matrix_to_dict wrote."""
    return {
        source: {target: qualities.Quality.from_dict(cell) for target, cell in row.items()}
        for source, row in links.items()
    }
