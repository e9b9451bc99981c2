# SPDX-License-Identifier: GPL-3.0-or-later
"""Who this node is: the description that whoever made the node left on it.

Everything that shapes a node reads it, so that a module needs to be told only what to change.
"""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from .errors import NodeError

DIRECTORY = "/run/pkgctl"


@dataclass(frozen=True, slots=True)
class Disk:
    """A data disk: the image (or device) behind it, where it is mounted, its size in bytes."""

    image: str
    mount: str
    size: int


@dataclass(frozen=True, slots=True)
class Identity:
    """What a node knows of itself.

    Attributes:
        name: the node's name, also its hostname.
        testbed: the testbed it belongs to.
        interface: the network interface on which links are shaped.
        address: its own address there.
        network: the network of all nodes, such as ``10.77.0.0/16``.
        peers: the address of each other node by name.
        access: the rate in bits/s that all that leaves the node shares; None is unshaped.
        cgroup: the node's cgroup, relative to each hierarchy's root.
        cpu: cores the node has.
        memory: bytes of memory the node has.
        pids: how many processes the node may have.
        disks: its data disks by name.
        directory: where this description and the node's layer stores are.
    """

    name: str
    testbed: str
    interface: str
    address: str
    network: str
    peers: Mapping[str, str]
    access: int | None
    cgroup: str
    cpu: float
    memory: int
    pids: int
    disks: Mapping[str, Disk] = field(default_factory=dict)
    directory: str = DIRECTORY

    def number(self, peer: str) -> int:
        """Return a peer's number in the network, the same while other nodes come and go."""
        network = ipaddress.ip_network(self.network)
        return int(ipaddress.ip_address(self.peers[peer])) - int(network.network_address)

    def check_peers(self, names: Mapping[str, Any]) -> None:
        """Refuse names of nodes that are not there.

        Raises:
            NodeError: naming the first, and the nearest that is there.
        """
        for name in names:
            if name not in self.peers:
                known = ", ".join(sorted(self.peers)[:8])
                raise NodeError(f"{self.name} has no peer {name!r}; its peers are {known}")

    def save(self) -> None:
        """Write the description into the node's directory, all at once."""
        path = Path(self.directory, "node.json")
        fresh = path.with_suffix(".new")
        # Not asdict for all of it: it copies the peers, one by one, for each of many nodes.
        known = {each.name: getattr(self, each.name) for each in fields(self)}
        disks = {name: asdict(disk) for name, disk in self.disks.items()}
        fresh.write_text(json.dumps({**known, "disks": disks}))
        fresh.replace(path)


def load(path: str | Path = f"{DIRECTORY}/node.json") -> Identity:
    """Return the description that is written at path.

    Raises:
        NodeError: if this host is no node, or the description cannot be read.
    """
    place = Path(path)
    try:
        known = json.loads(place.read_text())
        known["disks"] = {name: Disk(**disk) for name, disk in known["disks"].items()}
        return Identity(**{**known, "directory": str(place.parent)})
    except FileNotFoundError as error:
        raise NodeError(f"this host is not a node of a testbed: there is no {path}") from error
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise NodeError(f"{path} is not a node's description: {error}") from error
