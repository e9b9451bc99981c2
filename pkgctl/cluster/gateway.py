# SPDX-License-Identifier: GPL-3.0-or-later
"""The way from this machine to the API of a cluster on local nodes, which have a network apart.

One process for a testbed: it listens on a port of this machine's loopback, and passes each
connection on to the API inside the network of the cluster's first server; if that is down, is not
ready or does not answer, of the next. So what goes to the API from outside crosses no link, and no
disturbance locks its user out. It ends with the testbed.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import select
import socket
import sys
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from pkgctl.errors import ClusterError
from pkgctl.local.paths import Paths
from pkgctl.nodeside import cgroups, channel, condition, daemon, syscalls
from pkgctl.nodeside import errors as node_errors

HOST = "127.0.0.1"
SOCKET = "gateway.sock"
SERVICE = "k3s"
_FILE = "gateway.json"
_CHUNK = 1 << 16
_GRACE = 5.0
_PATIENCE = 5.0  # seconds that a server may take to accept a connection


def ensure(paths: Paths, nodes: Sequence[str], port: int) -> str:
    """Have the API of some nodes within reach of this machine, and return its address.

    The port on this machine stays the same for as long as the testbed lives.

    Args:
        paths: a local testbed.
        nodes: the servers; the first that answers is asked.
        port: where their API listens.

    Raises:
        ClusterError: if that cannot be had.
    """
    place = paths.agent / SOCKET
    servers = [
        {
            "node": each,
            "namespace": str(paths.namespaces(each) / "net"),
            "directory": str(paths.node(each)),
        }
        for each in nodes
    ]
    wanted = {"servers": servers, "port": port}
    try:
        found = channel.call(place, "status")
    except node_errors.AgentError:
        found = {}
    if {key: found.get(key) for key in wanted} != wanted:
        if found:
            _end(place)
        found = _start(paths, place, wanted, found.get("listens") or _noted(paths))
    return f"https://{HOST}:{found['listens']}"


def _start(paths: Paths, place: Path, wanted: dict[str, Any], listens: int) -> dict[str, Any]:
    (paths.agent / _FILE).write_text(json.dumps({**wanted, "listens": listens}))
    group = cgroups.group(f"{paths.cgroup}/agent")
    daemon.ensure("pkgctl.cluster.gateway", paths.run, place, group=group)
    try:
        return channel.call(place, "status")
    except node_errors.AgentError as error:
        log = paths.agent / "gateway.log"
        raise ClusterError(
            f"the way to the cluster's API is not there: {error} (see {log})"
        ) from error


def _noted(paths: Paths) -> int:
    """Return the port that was used before; 0 is any."""
    try:
        return int(json.loads((paths.agent / _FILE).read_text())["listens"])
    except (OSError, ValueError, KeyError):
        return 0


def _end(place: Path) -> None:
    """Have the gateway that listens at a place end, and wait until it has."""
    with contextlib.suppress(node_errors.AgentError, ProcessLookupError):
        process = os.pidfd_open(int(channel.call(place, "end")["pid"]))
        try:
            select.select([process], [], [], _GRACE)
        finally:
            os.close(process)


class Gateway:
    """Passes connections on; it answers ``status`` and ``end`` on its socket."""

    def __init__(self, folder: Path, control: socket.socket) -> None:
        """Listen on this machine; later it is in the nodes' networks."""
        self._file = folder / "agent" / _FILE
        self._agent = folder / channel.AGENT
        self._control = control
        self._facts = json.loads(self._file.read_text())
        self._listener = _listen(self._facts["listens"])
        self._facts["listens"] = self._listener.getsockname()[1]
        self._file.write_text(json.dumps(self._facts))
        self._over = asyncio.Event()

    async def run(self) -> None:
        """Serve until told to end."""
        await asyncio.start_unix_server(self._answer, sock=self._control)
        await asyncio.start_server(self._pass_on, sock=self._listener)
        await self._over.wait()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, node_errors.AgentError):
            while line := await reader.readline():
                asked = channel.decode(line).get("op")
                writer.write(channel.encode({"ok": True, "pid": os.getpid(), **self._facts}))
                await writer.drain()
                if asked == "end":
                    self._over.set()
        writer.close()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far = await self._far()
        if far is None:
            writer.transport.abort()
            return
        there = await asyncio.open_connection(sock=far)
        await asyncio.gather(_copy(reader, there[1]), _copy(there[0], writer))

    async def _far(self) -> socket.socket | None:
        """Return a connection to the first server that answers; those that are well come first."""
        servers = self._facts["servers"]
        ready = await asyncio.to_thread(ready_nodes, self._agent) if len(servers) > 1 else set()
        for server in in_order(servers, ready):
            with contextlib.suppress(OSError, node_errors.KernelError):
                return await _connected(server["namespace"], self._facts["port"])
        return None


def ready_nodes(agent: Path) -> set[str]:
    """Return the nodes whose service has said that it is ready; none if nobody knows."""
    try:
        units = channel.call(agent, "unit-list")["units"]
    except node_errors.AgentError:
        return set()
    return {each["node"] for each in units if each["name"] == SERVICE and each["ready"]}


def in_order(
    servers: Sequence[Mapping[str, str]], ready: Collection[str]
) -> list[Mapping[str, str]]:
    """Return servers in the order in which they are asked."""
    # One that is starting takes connections too.
    return sorted(servers, key=lambda each: (_is_down(each), each["node"] not in ready))


def _is_down(server: Mapping[str, str]) -> bool:
    """Return whether a server's node is paused, stopped or crashed: it may seem to answer then."""
    try:
        return not condition.is_up(condition.load(server["directory"]))
    except node_errors.NodeError:
        return False


async def _connected(namespace: str, port: int) -> socket.socket:
    """Return a connection to a port of the loopback of a network."""
    with Path(namespace).open("rb") as place:
        syscalls.setns(place.fileno(), syscalls.CLONE_NEWNET)
    far = socket.socket()
    far.setblocking(False)
    try:
        async with asyncio.timeout(_PATIENCE):
            await asyncio.get_running_loop().sock_connect(far, (HOST, port))
    except BaseException:
        far.close()
        raise
    return far


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Pass on what comes until one of the two ends."""
    try:
        while data := await reader.read(_CHUNK):
            writer.write(data)
            await writer.drain()
        writer.write_eof()
    except OSError:
        writer.transport.abort()


def _listen(port: int) -> socket.socket:
    """Return a socket that listens at a port, or at another if somebody has that by now."""
    try:
        return socket.create_server((HOST, port), reuse_port=False)
    except OSError:
        return socket.create_server((HOST, 0))


def main() -> None:
    """Serve the testbed in the folder that the first argument names."""
    control = daemon.inherited()
    if control is None:
        raise SystemExit("the gateway is started by `pkgctl cluster`")
    control.setblocking(False)
    os.umask(0o077)
    gateway = Gateway(Path(sys.argv[1]), control)
    asyncio.run(gateway.run())


if __name__ == "__main__":
    main()
