# SPDX-License-Identifier: GPL-3.0-or-later
"""A topology's nodes as virtual machines on hosts: names, addresses, sizes; values alone."""

from __future__ import annotations

import hashlib
import ipaddress
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pkgctl import nodeplan
from pkgctl.errors import SpecError
from pkgctl.network import Node, Topology
from pkgctl.nodeside import identity as ids
from pkgctl.nodeside import records
from pkgctl.remote import names
from pkgctl.remote.places import Places
from testbed.placement import place
from testbed.settings import Host, Settings

INTERFACE = "data"
CGROUP = "pkgctl.slice"
CONSOLES = "/var/log/libvirt/qemu"
FIRST_DATA_DISK = 2  # after the root and the seed
_MIB = 2**20


@dataclass(frozen=True, slots=True)
class Machine:
    """A node as a virtual machine.

    Attributes:
        host: the name of the host it runs on.
        domain: what libvirt calls it.
        management: its address and network there, such as ``192.168.177.2/24``.
        mac: its card's there.
        data_mac: its other card's.
        vcpu: whole processors; a part of one is its node's limit, not the machine's.
        memory: MiB, with those of its own system.
        disks: the targets of its data disks by their names, such as ``vdc``.
    """

    node: Node
    identity: ids.Identity
    host: Host
    domain: str
    management: str
    mac: str
    data_mac: str
    vcpu: int
    memory: int
    disks: Mapping[str, str]

    @property
    def address(self) -> str:
        """Its address on the management network."""
        return self.management.partition("/")[0]

    @property
    def console(self) -> str:
        """The file on its host with all that its serial console said."""
        return f"{CONSOLES}/{self.domain}.console.log"

    def describe(self) -> dict[str, Any]:
        """Return what the testbed's record says of it."""
        return {
            **nodeplan.describe(self.node, self.identity),
            "host": self.address,
            "domain": self.domain,
            "uri": self.host.uri,
            "hypervisor": self.host.name,
            "console": self.console,
        }


def plan(
    settings: Settings, topology: Topology, known: Mapping[str, Any] | None = None
) -> dict[str, Machine]:
    """Return the machine of each node.

    Args:
        settings: where they run.
        topology: which they are.
        known: what the testbed's record says of those that are there: they keep their addresses.

    Raises:
        SpecError: if they have no room on the hosts, or in a network.
    """
    past: Mapping[str, Mapping[str, Any]] = known or {}
    hosts = {host.name: host for host in settings.hosts}
    places = place(
        topology.nodes,
        settings.hosts,
        {name: node["hypervisor"] for name, node in past.items()},
        system=settings.system_memory * _MIB,
    )
    addresses = nodeplan.allocate(
        [node.name for node in topology.nodes],
        {name: node["address"] for name, node in past.items()},
    )
    identities = nodeplan.identities(topology.nodes, addresses, _settler(settings.testbed))
    management = {
        address: each
        for host in settings.hosts
        for address, each in _management(host, places, past).items()
    }
    return {
        node.name: Machine(
            node=node,
            identity=identities[node.name],
            host=hosts[places[node.name]],
            domain=names.domain(settings.testbed, node.name),
            management=management[node.name],
            mac=_mac(settings.testbed, node.name),
            data_mac=nodeplan.hardware(addresses[node.name]).hex(":"),
            vcpu=max(1, math.ceil(node.cpu)),
            memory=math.ceil(node.memory / _MIB) + settings.system_memory,
            disks=_targets(node),
        )
        for node in topology.nodes
    }


def record(
    settings: Settings, topology: Topology, machines: Mapping[str, Machine]
) -> dict[str, Any]:
    """Return the testbed's description, ready for JSON, as far as it is known beforehand."""
    place = Places(settings.testbed)
    return {
        "format": records.FORMAT,
        "testbed": settings.testbed,
        "provider": "libvirt",
        "topology": topology.to_dict(),
        "registry": topology.registry,
        "nodes": {name: machine.describe() for name, machine in machines.items()},
        "links": nodeplan.matrix_to_dict(topology.matrix()),
        "access": {
            "user": "root",
            "port": 22,
            "key": str(place.key),
            "known_hosts": str(place.known_hosts),
        },
        "impairment": settings.impairment,
    }


def gateway(network: ipaddress.IPv4Network) -> str:
    """Return a host's own address in its management network."""
    return str(network[1])


def _settler(testbed: str) -> Any:
    def settle(node: Node) -> dict[str, Any]:
        targets = _targets(node)
        return {
            "testbed": testbed,
            "interface": INTERFACE,
            "cgroup": CGROUP,
            "disks": {
                name: ids.Disk(f"/dev/disk/by-id/virtio-{targets[name]}", disk.mount, disk.size)
                for name, disk in node.disks.items()
            },
            "directory": ids.DIRECTORY,
        }

    return settle


def _targets(node: Node) -> dict[str, str]:
    if len(node.disks) > 26 - FIRST_DATA_DISK:
        raise SpecError(
            f"node {node.name} has {len(node.disks)} disks; 24 is the most", key="topology"
        )
    letters = "cdefghijklmnopqrstuvwxyz"
    return {name: f"vd{letter}" for name, letter in zip(node.disks, letters, strict=False)}


def _mac(testbed: str, node: str) -> str:
    digest = hashlib.sha256(f"{testbed}.{node}".encode()).digest()
    return bytes((0x52, 0x54, 0x00, *digest[:3])).hex(":")


def _management(
    host: Host, places: Mapping[str, str], past: Mapping[str, Mapping[str, Any]]
) -> dict[str, str]:
    """Return the address that each of a host's nodes has on its management network, or gets."""
    nodes = [name for name, where in places.items() if where == host.name]
    usable = host.network.num_addresses - 3  # the network, the host, broadcast
    if len(nodes) > usable:
        raise SpecError(
            f"{host.network} has {usable} addresses for nodes, and {host.name} gets {len(nodes)}",
            key="network",
        )
    kept = {name: past[name]["host"] for name in nodes if _keeps(past.get(name), host)}
    taken = set(kept.values())
    free = (
        address
        for number in range(2, host.network.num_addresses - 1)
        if (address := str(host.network[number])) not in taken
    )
    size = host.network.prefixlen
    return {name: f"{kept[name] if name in kept else next(free)}/{size}" for name in nodes}


def _keeps(past: Mapping[str, Any] | None, host: Host) -> bool:
    return (
        past is not None
        and past["hypervisor"] == host.name
        and (ipaddress.IPv4Address(past["host"]) in host.network)
    )
