# SPDX-License-Identifier: GPL-3.0-or-later
"""How a testbed's nodes are reached: all that depends on what the nodes are made of.

Whoever runs jobs, watches or experiments asks ``paths.reach()`` and does not mind the difference:
here for nodes on this machine, whose files and groups are at hand; ``remote.reach`` for others.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from pkgctl import project
from pkgctl.errors import TestbedError
from pkgctl.local import overview
from pkgctl.local.sight import Sight
from pkgctl.local.state import AGENT_SOCKET, read_state
from pkgctl.nodeside import cgroups, channel, condition, daemon, layers, predictions

if TYPE_CHECKING:
    from pkgctl.local.holding import Outcome
    from pkgctl.local.paths import Paths
    from pkgctl.topology import Topology

KINDS = tuple(overview.STORES)
Message = dict[str, Any]
Stored = dict[str, layers.Layers]


@dataclass(frozen=True, slots=True)
class Now:
    """What a node is like now: whether it takes jobs, and its limits where there are any."""

    ready: bool
    cpu: float | None
    memory: int | None


class Stores(Protocol):
    """The stores of a testbed's nodes' layers."""

    def refresh(self) -> None:
        """See to it that what is read is of now."""

    def stamp(self, node: str, kinds: Sequence[str] = KINDS) -> object:
        """Return what is another one after each change of stores."""

    def read(self, node: str, kinds: Sequence[str] = KINDS) -> dict[str, layers.Layers]:
        """Return a node's layers by kind, base included."""


class ClientFiles(Protocol):
    """The files and the control of a node's load generator."""

    def put(self, name: str, text: str) -> None:
        """Write a file."""

    def read(self, name: str) -> str:
        """Return what a file holds; nothing if it is not there."""

    def tell(self, message: Message) -> None:
        """Send the generator a message.

        Raises:
            OSError, TestbedError: if it is gone.
        """

    def clear(self) -> None:
        """Remove all files."""


class Asks(Protocol):
    """Whoever takes requests for the testbed's agent."""

    def call(self, op: str, **fields: Any) -> Message:
        """Return the answer to a request."""


class Reach:
    """The way to nodes that are on this machine.

    Attributes:
        lead: seconds between the last word to load generators and the first request.
        patience: how many times longer than here things take to start.
        sampling: seconds between two samples of an experiment.
    """

    lead = 0.1
    patience = 1.0
    sampling = 0.2

    def __init__(self, paths: Paths) -> None:
        """Reach the nodes of a testbed."""
        self.paths = paths

    def require(self) -> None:
        """Refuse to go on where this user may not have such a testbed.

        Raises:
            MissingCapability: with what it takes.
        """
        from pkgctl.local.holding import require_root

        require_root()

    def bring(self, topology: Topology) -> Outcome:
        """Bring the testbed to a topology; what is with us goes when it goes."""
        from pkgctl.local import removal, testbed

        outcome = testbed.up(topology, self.paths)
        removal.enlist(self.paths)
        return outcome

    def remove(self) -> None:
        """Take the testbed down."""
        from pkgctl.local import removal

        removal.down(self.paths)

    def facts(self, state: Mapping[str, Any], record: Mapping[str, Any]) -> dict[str, Any]:
        """Return what is to be said of the nodes in a run's record, beside what it says."""
        return {}

    def connect(self) -> channel.Client:
        """Connect to the agent, which is started again if it is gone.

        Raises:
            TestbedError: if the testbed is not up.
            DisturbanceError, OSError: if the agent does not answer.
        """
        read_state(self.paths)
        path = self.paths.agent / AGENT_SOCKET
        group = cgroups.group(f"{self.paths.cgroup}/agent")
        daemon.ensure("agent", self.paths.run, path, group=group)
        return channel.Client(path)

    def program(self, name: str) -> list[str]:
        """Return the command that runs one of our programs inside a node."""
        return [sys.executable, "-S", "-E", str(project.programs() / f"{name}.py")]

    def layers(self, state: Mapping[str, Any]) -> dict[str, Stored]:
        """Return the layers of each node by kind, base included."""
        return {
            name: overview.read_stores(Path(node["directory"]))
            for name, node in state["nodes"].items()
        }

    def in_force(self, state: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
        """Return what all layers of each node add up to: health, and links by way and peer."""
        from pkgctl.local import readback

        return readback.in_force(state)

    def drift(self) -> dict[str, list[str]]:
        """Return how nodes differ from what is asked of them, lines by node.

        Raises:
            TestbedError: if a node cannot be asked.
        """
        from pkgctl.local import readback

        return readback.drift(self.paths)

    def machine(self) -> predictions.Machine:
        """Return what the nodes' machine does without shaping, as far as that is known."""
        from pkgctl.local import foresight

        return foresight.learn()

    def stores(self, state: Mapping[str, Any], agent: Asks) -> Stores:
        """Return the stores of a testbed's nodes."""
        return Folders({name: Path(node["directory"]) for name, node in state["nodes"].items()})

    def now(self, state: Mapping[str, Any], stores: Stores, agent: Asks) -> Mapping[str, Now]:
        """Return what nodes are like now."""
        return {name: _now(node) for name, node in state["nodes"].items()}

    def check_up(self, node: str, agent: Asks) -> None:
        """Refuse to begin anything on a node that is not running.

        Raises:
            NodeError: in one line.
        """
        condition.check_up(self.paths.node(node), node)

    def output(self, job: str, agent: Asks) -> str:
        """Return what a job has printed."""
        try:
            return (self.paths.run / "logs" / f"{job}.log").read_text(errors="replace")
        except FileNotFoundError:
            return ""

    def sight(self, stores: Stores) -> Sight:
        """Return what looks at nodes for the live view."""
        return Sight(self.paths)

    def client_files(self, node: str, agent: Asks) -> ClientFiles:
        """Return the files of a node's load generator."""
        return OwnFiles(self.paths.node(node) / "load", node)


def _now(node: Mapping[str, Any]) -> Now:
    group = cgroups.group(node["cgroup"])
    ready = condition.is_up(condition.load(node["directory"]))
    return Now(ready, group.cpu(), group.memory())


class Folders:
    """Stores in folders of this machine."""

    def __init__(self, folders: Mapping[str, Path]) -> None:
        """Read from nodes' own folders."""
        self._folders = folders

    def refresh(self) -> None:
        """Do nothing: files are always of now."""

    def stamp(self, node: str, kinds: Sequence[str] = KINDS) -> tuple[int, ...]:
        """Return what is another one after each change of stores."""
        return tuple(_written(path) for path in self._paths(node, kinds))

    def read(self, node: str, kinds: Sequence[str] = KINDS) -> dict[str, layers.Layers]:
        """Return a node's layers by kind, base included."""
        return {
            kind: layers.load(path)
            for kind, path in zip(kinds, self._paths(node, kinds), strict=True)
        }

    def _paths(self, node: str, kinds: Iterable[str]) -> Iterable[Path]:
        return [self._folders[node] / overview.STORES[kind] for kind in kinds]


def _written(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:
        return 0


class OwnFiles:
    """A load generator's files in a folder of this machine."""

    def __init__(self, folder: Path, node: str) -> None:
        self._folder = folder
        self._node = node

    def put(self, name: str, text: str) -> None:
        """Write a file."""
        self._folder.mkdir(exist_ok=True)
        (self._folder / name).write_text(text)

    def read(self, name: str) -> str:
        """Return what a file holds; nothing if it is not there."""
        try:
            return (self._folder / name).read_text(encoding="utf-8")
        except FileNotFoundError:
            return ""

    def tell(self, message: Message) -> None:
        """Send the generator a message.

        Raises:
            TestbedError: if it is gone.
        """
        folder = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
                # The path through the descriptor stays short, however long the node's name is.
                sock.sendto(json.dumps(message).encode(), f"/proc/self/fd/{folder}/control")
        except OSError as error:
            reason = f"the load generator on {self._node} does not listen: {error.strerror}"
            raise TestbedError(reason) from error
        finally:
            os.close(folder)

    def clear(self) -> None:
        """Remove all files."""
        shutil.rmtree(self._folder, ignore_errors=True)
