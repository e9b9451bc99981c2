# SPDX-License-Identifier: GPL-3.0-or-later
"""Who this node is: the description that whoever made the node left on it.

Everything that shapes a node reads it, so that a module needs to be told only what to change.
"""

from __future__ import annotations

import functools
import ipaddress
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from . import channel
from .errors import NodeError

DIRECTORY = "/run/pkgctl"
DELAY_LINE, NETEM = "delay line", "netem"


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
        address6: its own IPv6 address on the interface; empty where there is none.
        peers6: the IPv6 address of each other node by name.
        impairment: what delays, loses and damages packets: ``delay line``, which acts between
            sender and receiver, or the kernel's ``netem``, which acts at the sender.
        access_down: the rate in bits/s that all that arrives at the node shares; None is unshaped.
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
    address6: str = ""
    peers6: Mapping[str, str] = field(default_factory=dict)
    impairment: str = DELAY_LINE
    access_down: int | None = None

    @property
    def has_netem(self) -> bool:
        """Whether the kernel's netem does what else the delay line would do."""
        return self.impairment == NETEM

    @property
    def needs_switch(self) -> bool:
        """Whether there must be a switch before the node, to delay or to bound what arrives."""
        return not self.has_netem or self.access_down is not None

    @property
    def agent(self) -> Path:
        """Where the agent that sees to the node listens."""
        return Path(self.directory, channel.AGENT)

    def addresses(self, peer: str) -> tuple[str, ...]:
        """Return a peer's addresses: IPv4, and IPv6 if it has one."""
        return (self.peers[peer], *([self.peers6[peer]] if peer in self.peers6 else []))

    def number(self, peer: str) -> int:
        """Return a peer's number in the network, the same while other nodes come and go."""
        return _numeric(self.peers[peer]) - _numeric(self.network.partition("/")[0])

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


@functools.lru_cache(maxsize=1 << 15)
def _numeric(address: str) -> int:
    return int(ipaddress.ip_address(address))


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
