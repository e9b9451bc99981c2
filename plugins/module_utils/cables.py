# SPDX-License-Identifier: GPL-3.0-or-later
"""How a node is cabled to its switch: addresses, routes and neighbours, as messages; pure.

A node has one way to all others, by the switch, and knows the switch's hardware address; the switch
knows each node's. So nobody asks by ARP, and nothing is flooded.
"""

from __future__ import annotations

import functools
import ipaddress
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from . import rtnl
from .identity import Identity
from .netlink import Message

# The networks of nodes' IPv6 addresses are so long; a node has the same number in both networks.
PREFIX6 = 64
_LENGTHS = {4: 32, 6: 128}


@dataclass(frozen=True, slots=True)
class Way:
    """A node's address, the network that it is in, and the switch's address there."""

    address: str
    network: str
    gateway: str

    @property
    def length(self) -> str:
        """How long the network's prefix is."""
        return self.network.rpartition("/")[2]


def hardware(address: str) -> bytes:
    """Return a locally administered hardware address made of an IPv4 address."""
    return bytes((2, 0, *(int(part) for part in address.split("."))))


def ways(node: Identity) -> list[Way]:
    """Return a node's way to the others by IPv4, and by IPv6 if it has that."""
    found = [Way(node.address, node.network, gateway(node.network))]
    if node.address6:
        network = _network6(node.address6)
        found.append(Way(node.address6, network, gateway(network, like=node.network)))
    return found


@functools.lru_cache(maxsize=8)
def gateway(network: str, like: str = "") -> str:
    """Return the switch's address in a network: the last but one, or that of its number in another.

    Args:
        network: the network.
        like: the network in which the switch has the same number; this one if not given.
    """
    other = ipaddress.ip_network(like or network)
    number = int(other[-2]) - int(other.network_address)
    return str(ipaddress.ip_network(network)[number])


def _network6(address: str) -> str:
    return str(ipaddress.ip_network(f"{address}/{PREFIX6}", strict=False))


def mac_of_switch(node: Identity) -> bytes:
    """Return the hardware address of the switch's ports."""
    return hardware(gateway(node.network))


def settled(node: Identity, index: int) -> list[Message]:
    """Return what gives a node its addresses, and its way to all others by the switch.

    Args:
        node: the node.
        index: of its end of the cable.
    """
    switch = mac_of_switch(node)
    return [rtnl.link_up(1), rtnl.link_up(index)] + [
        message
        for way in ways(node)
        for message in (
            rtnl.address(index, f"{way.address}/{way.length}"),
            rtnl.route(index, way.network, way.gateway),
            rtnl.neighbour(index, way.gateway, switch),
        )
    ]


def toward(addresses: Iterable[str], index: int, mac: bytes) -> list[Message]:
    """Return what tells the switch the way to a node.

    Args:
        addresses: the node's.
        index: of the switch's end of the cable.
        mac: of the node's end.
    """
    return [
        message
        for address in addresses
        for message in (
            rtnl.route(index, f"{address}/{_LENGTHS[ipaddress.ip_address(address).version]}"),
            rtnl.neighbour(index, address, mac),
        )
    ]


def beyond(node: Identity) -> Mapping[str, bytes]:
    """Return the hardware address of each address of the other nodes, which are machines too."""
    return {
        address: hardware(node.peers[peer])
        for peer in node.peers
        for address in node.addresses(peer)
    }
