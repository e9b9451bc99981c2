# SPDX-License-Identifier: GPL-3.0-or-later
"""The watchman: the agent of a testbed of virtual machines on their controller, for their health.

A machine that is off can neither switch itself on again nor mind a lease. So what is to become of
its health later is seen to by a process beside the layers, in the testbed's folder: the agent's own
code, over nodes of which it knows nothing but the domain. It is started when it is first needed.
"""

from __future__ import annotations

import fcntl
import json
import os
import select
import signal
import socket as sockets
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from . import agent, channel, daemon, domains, journal, kinds, layers, transition
from .change import Change
from .domains import Guest
from .errors import AgentError
from .server import Operation
from .stage import Body, Stage

KIND = "health"
OPERATIONS = (
    *("ping", "events", "node-changed", "layer-list", "lease-set", "lease-drop", "lease-list"),
    *("timeline-arm", "timeline-start", "timeline-cancel", "timeline-drop", "timeline-list"),
)
# What virsh, and the SSH below it, may need to reach a host.
_KEPT = ("HOME", "USER", "SSH_AUTH_SOCK", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME", "XDG_CACHE_HOME")
# A socket's path has no more bytes.
_LONGEST = 107
_GRACE = 5.0


class Domains(Stage):
    """The nodes of a testbed of virtual machines, by the testbed's record."""

    def __init__(self, directory: Path) -> None:
        """Handle the nodes of the testbed in directory."""
        super().__init__(directory)
        self._record = directory / "state.json"
        self._nodes = directory / "nodes"
        self._stamp: tuple[int, int] | None = None
        self._guests: Mapping[str, Guest] = {}

    def _look(self) -> Mapping[str, Guest]:
        """Return the nodes by their names, read again when the record was written anew."""
        if (stamp := layers.stamp(self._record)) != self._stamp or stamp is None:
            self._guests = self._read() if stamp is not None else {}
            self._stamp = stamp
        return self._guests

    def _read(self) -> dict[str, Guest]:
        try:
            nodes = json.loads(self._record.read_text())["nodes"]
            return {
                name: domains.guest(self._nodes / name, str(each["domain"]), str(each["uri"]))
                for name, each in nodes.items()
            }
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise AgentError(f"{self._record} is not a testbed's record: {error!r}") from error

    def node(self, name: str) -> Guest:
        """Return a node.

        Raises:
            AgentError: if there is none of that name.
        """
        found = self._look().get(name)
        if found is None:
            raise AgentError(f"there is no node {name[:64]!r}")
        return found

    def names(self) -> list[str]:
        """Return the names of all nodes."""
        try:
            return sorted(self._look())
        except AgentError:
            return []

    def finished(self) -> list[str]:
        """Return the nodes with a layer: of others nobody says here what they should be."""
        return [name for name in self.names() if self.stored(name, KIND)]

    def delays_packets(self) -> bool:
        """Return that no delay line is needed."""
        return False

    def detach(self) -> None:
        """Share nothing: nothing is held."""

    def sweep(self) -> None:
        """Let go of nothing: nothing is held."""

    def prepare(self, name: str, kind: str, layer: str, body: Body | None) -> None:
        """Make nothing ready: all that virsh does takes longer."""

    def set(
        self, name: str, kind: str, layer: str, body: Body | None, *, dry_run: bool = False
    ) -> Change:
        """Set a layer of a node's health, or take it away; a dry run asks no libvirt.

        Raises:
            DisturbanceError: one line.
        """
        node = self.node(name)
        if kind != KIND:
            if body is not None:
                raise AgentError(f"{kind}: the watchman sees to nothing but health")
            return Change(False, "", "")
        if not dry_run:
            return kinds.set_layer(node, kind, layer, body)
        if body is not None:
            transition.body(str(body.get("health")))
        return Change(True, "", "")

    def converge(self, name: str, kind: str) -> Change:
        """Bring a node's domain to what its stored layers ask for.

        Raises:
            DisturbanceError: one line.
        """
        if kind != KIND:
            return Change(False, "", "")
        return kinds.converge(self.node(name), kind)

    def standing(self, name: str, kind: str, layer: str, body: Body) -> Body:
        """Return that nothing grows here."""
        return {}


class Watchman(agent.Agent):
    """The agent that sees to the health of one testbed's virtual machines."""

    def __init__(self, directory: Path, listener: sockets.socket) -> None:
        """Serve the testbed in directory; clients come through listener."""
        super().__init__(directory, listener, Domains(directory))

    def _operations(self) -> dict[str, Operation]:
        known = super()._operations()
        return {name: known[name] for name in OPERATIONS}

    def _sweep(self) -> None:
        """End with the testbed, even if nobody said that it goes."""
        if daemon.is_going_down(self._directory) or not self._directory.is_dir():
            self.stop()
        else:
            super()._sweep()


def socket(directory: Path) -> Path:
    """Return where the watchman of the testbed in a folder listens."""
    return directory / channel.AGENT


def ensure(directory: Path) -> None:
    """Start the watchman of the testbed in a folder, unless it answers already.

    Raises:
        AgentError: if it cannot be started, or its testbed is being removed.
    """
    place = socket(directory)
    if daemon.is_going_down(directory):
        raise AgentError(f"testbed {directory.name} is being removed")
    if len(os.fsencode(place)) > _LONGEST:
        raise AgentError(
            f"{place} is too long for a socket: let PKGCTL_STATE name a folder with a short path"
        )
    try:
        place.parent.mkdir(mode=0o700, exist_ok=True)
        daemon.ensure("watchman", directory, place, keep=_KEPT)
    except OSError as error:
        raise AgentError(f"the watchman of testbed {directory.name}: {error}") from error


def revive(directory: Path) -> None:
    """Start the watchman again if there is anything that it has taken on.

    Raises:
        AgentError: if it cannot be started.
    """
    taken_on = directory / journal.NAME
    if taken_on.exists() and taken_on.stat().st_size and not daemon.is_going_down(directory):
        ensure(directory)


def welcome(directory: Path) -> None:
    """Let a watchman be started again in a folder whose testbed was dismissed before."""
    (directory / daemon.DOWN).unlink(missing_ok=True)


def dismiss(directory: Path) -> None:
    """End the watchman of a testbed that goes, with all that it has taken on; none comes after it.

    Whoever makes a testbed in the same folder again calls ``welcome`` first.
    """
    if not directory.is_dir():
        return
    (directory / daemon.DOWN).touch()
    place = socket(directory)
    if place.parent.is_dir():
        with place.with_suffix(".lock").open("w") as file:
            # Whoever is starting one is waited for.
            fcntl.flock(file, fcntl.LOCK_EX)
            _end(place)
        _end(directory / channel.RELAY)
    place.unlink(missing_ok=True)
    (directory / journal.NAME).unlink(missing_ok=True)


def _end(place: Path) -> None:
    try:
        pid = int(channel.call(place, "ping")["pid"])
        process = os.pidfd_open(pid)
    except (AgentError, OSError):
        return
    with os.fdopen(process, "rb", closefd=True), suppress(ProcessLookupError):
        signal.pidfd_send_signal(process, signal.SIGTERM)
        if not select.select([process], [], [], _GRACE)[0]:
            signal.pidfd_send_signal(process, signal.SIGKILL)
            select.select([process], [], [], _GRACE)


def main() -> None:
    """Serve the testbed in the folder that the first argument names."""
    agent.serve(Watchman)


if __name__ == "__main__":
    main()
