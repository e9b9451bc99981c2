# SPDX-License-Identifier: GPL-3.0-or-later
"""How the nodes of a testbed of virtual machines are reached: through the relay, and by SSH."""

from __future__ import annotations

import base64
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pkgctl.errors import TestbedError
from pkgctl.local.agent import AgentClient
from pkgctl.local.diskuse import Use
from pkgctl.local.holding import Outcome
from pkgctl.local.reach import KINDS, Asks, ClientFiles, Message, Now, Reach, Stored, Stores
from pkgctl.local.sight import Nodes, Sight
from pkgctl.local.state import read_state
from pkgctl.nodeside import channel, condition, daemon, layers, links, predictions
from pkgctl.nodeside import errors as node_errors
from pkgctl.remote import told
from pkgctl.remote.places import Places
from pkgctl.watch.figures import Pair
from pkgctl.watch.picture import Link

if TYPE_CHECKING:
    from pkgctl.topology import Topology

HEALTH = "health"
PYTHON = "/usr/bin/python3"
PROGRAMS = f"{told.HOME}/{told.PACKAGE.replace('.', '/')}/programs"
# What SSH may need to reach a node.
_KEPT = ("HOME", "USER", "SSH_AUTH_SOCK")
# A relay that has just begun first reaches for all nodes.
_PATIENCE = 60.0
# A socket's path has no more bytes; those of the ways to nodes are a little longer.
_LONGEST = 107 - 2
_PIECE = 1 << 19


class RemoteReach(Reach):
    """The way to nodes that are machines of their own."""

    paths: Places
    # What goes there crosses SSH, into machines that may be emulated.
    lead = 1.0
    patience = 4.0
    sampling = 0.5

    def __init__(self, paths: Places) -> None:
        """Reach the nodes of a testbed."""
        super().__init__(paths)

    def require(self) -> None:
        """Refuse nobody: the testbed is its user's own."""

    def bring(self, topology: Topology) -> Outcome:
        """Take the testbed as it is.

        Raises:
            TestbedError: if it is not up.
        """
        read_state(self.paths)
        return Outcome(False)

    def remove(self) -> None:
        """Leave it up: who made it takes it down."""

    def facts(self, state: Mapping[str, Any], record: Mapping[str, Any]) -> dict[str, Any]:
        """Return what is to be said of the nodes in a run's record, beside what it says."""
        with AgentClient(self.paths) as relay:
            clocks = relay.call("nodes")["nodes"]
            looks = relay.call("look", known={})["nodes"]
        delays = sorted({look["impairment"] for look in looks.values()})
        return {
            "machine": {**record["machine"], "delay_backend": ", ".join(delays)},
            "provider": state["provider"],
            "clocks": {
                name: {key: clock[key] for key in ("ahead", "bound")}
                for name, clock in clocks.items()
            },
        }

    def connect(self) -> channel.Client:
        """Connect to the relay, which is started unless it runs.

        Raises:
            TestbedError: if the testbed is not up.
            DisturbanceError, OSError: if the relay does not answer.
        """
        read_state(self.paths)
        path = self.paths.relay
        if len(os.fsencode(path)) > _LONGEST:
            raise TestbedError(
                f"{path} is too long for a socket: let PKGCTL_STATE name a folder with a short path"
            )
        path.parent.mkdir(mode=0o700, exist_ok=True)
        daemon.ensure("pkgctl.remote.relay", self.paths.run, path, keep=_KEPT)
        return channel.Client(path, timeout=_PATIENCE)

    def program(self, name: str) -> list[str]:
        """Return the command that runs one of our programs inside a node."""
        return [PYTHON, "-S", "-E", f"{PROGRAMS}/{name}.py"]

    def layers(self, state: Mapping[str, Any]) -> dict[str, Stored]:
        """Return the layers of each node by kind, base included.

        Raises:
            TestbedError: if a node that should be up does not answer.
        """
        with AgentClient(self.paths) as relay:
            stores = self.stores(state, relay)
            stores.refresh()
            stores.insist()
            return {name: stores.read(name) for name in state["nodes"]}

    def in_force(self, state: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
        """Return what all layers of each node add up to: health, and links by way and peer."""
        found = {}
        for name, stored in self.layers(state).items():
            asked = links.wanted(stored["link"])
            found[name] = {
                "health": condition.composed(stored[HEALTH]),
                "access": state["nodes"][name]["access_up"],
                "links": links.body(asked.egress, asked.ingress),
            }
        return found

    def drift(self) -> dict[str, list[str]]:
        """Return how nodes differ from what is asked of them, lines by node.

        Raises:
            TestbedError: if a node that should be up does not answer.
        """
        from pkgctl.remote import verifying

        return verifying.drift(self.paths)

    def machine(self) -> predictions.Machine:
        """Return what is known of the nodes' machine: nothing, for it is not this one."""
        return predictions.Machine()

    def stores(self, state: Mapping[str, Any], agent: Asks) -> ToldStores:
        """Return the stores of a testbed's nodes, read by their agents."""
        return ToldStores(self.paths, state["nodes"], agent)

    def now(self, state: Mapping[str, Any], stores: Stores, agent: Asks) -> Mapping[str, Now]:
        """Return what nodes are like now, which also brings their stores up to date."""
        stores.refresh()
        assert isinstance(stores, ToldStores)
        return {name: stores.now(name) for name in state["nodes"]}

    def check_up(self, node: str, agent: Asks) -> None:
        """Refuse to begin anything on a node that is not running, or out of reach.

        Raises:
            NodeError: in one line.
        """
        super().check_up(node, agent)
        found = agent.call("nodes")["nodes"].get(node)
        if found is not None and not condition.is_up(found["state"]):
            reason = f" ({found['reason']})" if found["reason"] else ""
            raise node_errors.NodeError(f"node {node} is {found['state']}{reason}")

    def output(self, job: str, agent: Asks) -> str:
        """Return what a job has printed."""
        return _read(agent, "job-output", id=job)

    def sight(self, stores: Stores) -> Sight:
        """Return what looks at nodes for the live view."""
        assert isinstance(stores, ToldStores)
        return RemoteSight(self.paths, stores)

    def client_files(self, node: str, agent: Asks) -> ClientFiles:
        """Return the files of a node's load generator."""
        return SentFiles(agent, node)


def _read(agent: Asks, op: str, **fields: Any) -> str:
    """Return what a file holds, piece by piece."""
    data = bytearray()
    while piece := base64.b64decode(agent.call(op, offset=len(data), **fields)["data"]):
        data += piece
    return data.decode(errors="replace")


class ToldStores:
    """The stores of nodes as their agents tell them; those of health are on this machine.

    Attributes:
        looks: what each node that answered said of itself at the last refresh.
        with_disks: whether nodes are asked too how full their disks are.
    """

    def __init__(self, places: Places, names: Sequence[str] | Mapping[str, Any], agent: Asks):
        """Know nothing yet.

        Args:
            places: the testbed.
            names: its nodes.
            agent: whom to ask.
        """
        self._places = places
        self._agent = agent
        self._stores: dict[str, dict[str, Message]] = {name: {} for name in names}
        self.looks: dict[str, Message] = {}
        self.with_disks = False

    def refresh(self) -> None:
        """Ask all nodes for what has changed; one that does not answer is as it was."""
        found: dict[str, Message] = {}
        left: list[str] | None = None
        while left is None or left:
            known = {name: _stamps(self._stores[name]) for name in left or self._stores}
            fields: Message = {} if left is None else {"nodes": left}
            answer = self._agent.call("look", known=known, disks=self.with_disks, **fields)
            found |= answer["nodes"]
            left = answer["left"]
        for name, node in found.items():
            self._stores.setdefault(name, {}).update(node["stores"])
        self.looks = found

    def insist(self) -> None:
        """Refuse to go by what nodes said earlier.

        Raises:
            TestbedError: naming the nodes that should be up and did not answer.
        """
        silent = [
            name
            for name in self._stores
            if name not in self.looks and condition.is_up(condition.load(self._places.node(name)))
        ]
        if silent:
            states = self._agent.call("nodes")["nodes"]
            reasons = [f"{name} ({states[name]['reason']})" for name in silent if name in states]
            raise TestbedError(f"not reachable: {', '.join(reasons)}")

    def now(self, name: str) -> Now:
        """Return what a node is like, as of the last refresh."""
        known = self.looks.get(name)
        up = condition.is_up(condition.load(self._places.node(name)))
        if known is None:
            return Now(ready=False, cpu=None, memory=None)
        return Now(up, known["cpu"], known["memory"])

    def stamp(self, node: str, kinds: Sequence[str] = KINDS) -> object:
        """Return what is another one after each change of stores, as of the last refresh."""
        return tuple(self._stamp(node, kind) for kind in kinds)

    def _stamp(self, node: str, kind: str) -> object:
        if kind == HEALTH:
            return layers.stamp(self._health(node))
        return self._stores[node].get(kind, {}).get("stamp")

    def read(self, node: str, kinds: Sequence[str] = KINDS) -> Stored:
        """Return a node's layers by kind, base included, as of the last refresh."""
        return {kind: self._read(node, kind) for kind in kinds}

    def _read(self, node: str, kind: str) -> layers.Layers:
        if kind == HEALTH:
            return layers.load(self._health(node))
        found: layers.Layers = self._stores[node].get(kind, {}).get("layers", {})
        return found

    def _health(self, node: str) -> Path:
        return self._places.node(node) / condition.STORE


def _stamps(stores: Mapping[str, Message]) -> dict[str, Any]:
    return {kind: store["stamp"] for kind, store in stores.items()}


class RemoteSight(Sight):
    """Looks at nodes that are machines of their own, by what their agents tell."""

    def __init__(self, places: Places, stores: ToldStores) -> None:
        """Look at the nodes of a testbed."""
        super().__init__(places)
        self._stores = stores
        stores.with_disks = True

    def disks(self, nodes: Nodes) -> Mapping[str, Use]:
        """Return (used, size) in bytes by node; a node without a mounted disk is left out."""
        told = {name: look["disk"] for name, look in self._stores.looks.items()}
        return {name: (each[0], each[1]) for name, each in told.items() if each and name in nodes}

    def limits(self, name: str, known: Mapping[str, Any]) -> tuple[float, int]:
        """Return a node's CPU and memory limits in force, or those that were declared."""
        told = self._stores.looks.get(name, {})
        return told.get("cpu") or known["cpu"], told.get("memory") or known["memory"]

    def delay_line(self) -> dict[str, Any] | None:
        """Return nothing: each node has its own, if any."""
        return None

    def notes(self, delay_line: Mapping[str, Any] | None) -> tuple[str, ...]:
        """Return nothing that is amiss."""
        return ()

    def losses(
        self, state: Mapping[str, Any], links: Iterable[Link]
    ) -> Mapping[Pair, tuple[int, int]]:
        """Return nothing: the kernel of each node counts what it loses, and nobody asks it."""
        return {}


class SentFiles:
    """A load generator's files on a node elsewhere."""

    def __init__(self, agent: Asks, node: str) -> None:
        self._agent = agent
        self._node = node

    def put(self, name: str, text: str) -> None:
        """Write a file."""
        data = text.encode()
        for offset in range(0, max(len(data), 1), _PIECE):
            piece = base64.b64encode(data[offset : offset + _PIECE]).decode()
            self._agent.call("client-put", node=self._node, name=name, offset=offset, data=piece)

    def read(self, name: str) -> str:
        """Return what a file holds; nothing if it is not there."""
        return _read(self._agent, "client-read", node=self._node, name=name)

    def tell(self, message: Message) -> None:
        """Send the generator a message.

        Raises:
            TestbedError: if it is gone.
        """
        self._agent.call("client-tell", node=self._node, message=message)

    def clear(self) -> None:
        """Remove all files."""
        self._agent.call("client-clear", node=self._node)
