# SPDX-License-Identifier: GPL-3.0-or-later
"""The network of pods: a bridge on each node, and a VXLAN between nodes like flannel's."""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .children import Children
from .saying import say

LINK, PORT, VNI = "flannel.1", 8472, 1
_OVERHEAD = 50
CHAIN = "FLANNEL-POSTRTG"


@dataclass(frozen=True)
class Node:
    """A node as its object has it."""

    name: str
    ip: str
    cidr: str

    @property
    def gateway(self) -> str:
        """The address of its end of the tunnel."""
        return str(ipaddress.ip_network(self.cidr)[0])

    @property
    def mac(self) -> str:
        """The hardware address of its end, which follows from its own address."""
        parts = ipaddress.ip_address(self.ip).packed[-4:]
        return "02:77:" + ":".join(f"{part:02x}" for part in parts)


def node_of(thing: dict[str, Any]) -> Node | None:
    """Return a node from its object, if it has all that matters by now."""
    cidr = thing.get("spec", {}).get("podCIDR")
    addresses = thing.get("status", {}).get("addresses", [])
    ips = [each["address"] for each in addresses if each["type"] == "InternalIP"]
    return Node(thing["metadata"]["name"], ips[0], cidr) if cidr and ips else None


class Network:
    """What this node knows of the others, and the kernel of this node."""

    def __init__(self, children: Children, interface: str, ip: str, cluster: str) -> None:
        """Know nobody yet.

        Args:
            children: who runs programs.
            interface: the card towards the other nodes; without one, the card of the address.
            ip: the address of this node.
            cluster: the addresses of all pods.
        """
        self._run = children.run_tool
        self._interface, self._ip, self._cluster = interface or self._card(ip), ip, cluster
        self._others: dict[str, Node] = {}

    def configure(self, folder: Path, mine: Node) -> None:
        """Have the tunnel, and say how pods are to be connected."""
        mtu = int(Path(f"/sys/class/net/{self._interface}/mtu").read_text()) - _OVERHEAD
        Path("/proc/sys/net/ipv4/ip_forward").write_text("1\n")
        if not Path(f"/sys/class/net/{LINK}").exists():
            words = ["link", "add", LINK, "address", mine.mac, "type", "vxlan", "id", str(VNI)]
            words += ["local", self._ip, "dev", self._interface, "dstport", str(PORT)]
            self._run("ip", *words, "nolearning")
        self._run("ip", "link", "set", LINK, "address", mine.mac, "mtu", str(mtu), "up")
        self._run("ip", "address", "flush", "dev", LINK)
        self._run("ip", "address", "add", f"{mine.gateway}/32", "dev", LINK)
        self._masquerade(mine)
        environment = {
            "FLANNEL_NETWORK": self._cluster,
            "FLANNEL_SUBNET": f"{ipaddress.ip_network(mine.cidr)[1]}/{mine.cidr.split('/')[1]}",
            "FLANNEL_MTU": mtu,
            "FLANNEL_IPMASQ": "true",
        }
        Path("/run/flannel").mkdir(exist_ok=True)
        lines = "".join(f"{name}={value}\n" for name, value in environment.items())
        Path("/run/flannel/subnet.env").write_text(lines)
        text = json.dumps(connecting(mine, mtu), indent=2) + "\n"
        folder.mkdir(parents=True, exist_ok=True)
        target = folder / "10-flannel.conflist"
        if not target.exists() or target.read_text() != text:
            # Not renamed to its place: that containerd would not notice.
            target.write_text(text)

    def reaches(self, nodes: Mapping[str, Node]) -> None:
        """Reach the pods of these nodes, wherever they are now, and of no others."""
        for name, node in list(self._others.items()):
            if nodes.get(name) != node:
                self._forget(node)
        for name, node in nodes.items():
            if name not in self._others:
                self._reach(node)

    def _reach(self, node: Node) -> None:
        there = ["dev", LINK]
        self._run("ip", "neigh", "replace", node.gateway, "lladdr", node.mac, *there)
        self._run("bridge", "fdb", "replace", node.mac, *there, "dst", node.ip, "self", "permanent")
        self._run("ip", "route", "replace", node.cidr, "via", node.gateway, *there, "onlink")
        self._others[node.name] = node
        say(f"Pods of {node.name} ({node.cidr}) are reached through {node.ip}")

    def _forget(self, node: Node) -> None:
        del self._others[node.name]
        there = ["dev", LINK]
        self._run("ip", "route", "del", node.cidr, *there, check=False)
        self._run("bridge", "fdb", "del", node.mac, *there, "dst", node.ip, check=False)
        self._run("ip", "neigh", "del", node.gateway, *there, check=False)

    def _masquerade(self, mine: Node) -> None:
        """Pods that leave for other networks do so under the address of their node."""
        nat = ["iptables", "-w", "-t", "nat"]
        self._run(*nat, "-N", CHAIN, check=False)
        self._run(*nat, "-F", CHAIN)
        comment = ["-m", "comment", "--comment", "flanneld masq"]
        inside = ["-s", self._cluster, "-d", self._cluster]
        self._run(*nat, "-A", CHAIN, *inside, *comment, "-j", "RETURN")
        local = ["-s", mine.cidr, "!", "-d", "224.0.0.0/4"]
        self._run(*nat, "-A", CHAIN, *local, *comment, "-j", "MASQUERADE")
        jump = ["POSTROUTING", *comment, "-j", CHAIN]
        if self._run(*nat, "-C", *jump, check=False) is None:
            self._run(*nat, "-A", *jump)

    def _card(self, ip: str) -> str:
        found = json.loads(self._run("ip", "-j", "address", "show", "to", ip) or "[]")
        if not found:
            raise RuntimeError(f"no interface has the address {ip}")
        return str(found[0]["ifname"])


def connecting(mine: Node, mtu: int) -> dict[str, Any]:
    """Return how pods are connected."""
    ranges = [[{"subnet": mine.cidr}]]
    bridge = {
        "type": "bridge",
        "bridge": "cni0",
        "isGateway": True,
        "hairpinMode": True,
        "forceAddress": True,
        "ipMasq": False,
        "mtu": mtu,
        "ipam": {
            "type": "host-local",
            "ranges": ranges,
            "routes": [{"dst": "0.0.0.0/0"}],
            "dataDir": "/var/lib/cni/networks",
        },
    }
    ports = {"type": "portmap", "capabilities": {"portMappings": True}}
    return {"name": "cbr0", "cniVersion": "1.0.0", "plugins": [bridge, ports]}
