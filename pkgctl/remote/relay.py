# SPDX-License-Identifier: GPL-3.0-or-later
"""The relay: one process that answers as the agent of a testbed whose nodes each have their own.

It speaks the agent's protocol. A request about a node or a job goes to that node's agent, what
concerns all is gathered, and what agents tell goes to all who listen. All times are by the clock of
this machine, in both directions; ``clocks`` says how well. The watchman, who sees to the nodes'
health from here, is one agent more.

A node whose connection is lost, or whose health says that it is down, is told of as such, and is
connected again when it can be. The jobs of a node that is switched off are lost.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import signal
import sys
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from pkgctl.errors import PkgctlError
from pkgctl.local.state import AGENT_SOCKET, read_state
from pkgctl.nodeside import channel, condition, daemon, journal, layers, watchman
from pkgctl.nodeside import errors as node_errors
from pkgctl.remote import ssh
from pkgctl.remote.gathering import GATHER, OF_WATCHMAN
from pkgctl.remote.peer import LIMIT, Peer, Way
from pkgctl.remote.places import VARIABLE, Places
from pkgctl.remote.roster import Roster
from pkgctl.remote.way import Straight
from pkgctl.remote.way import Way as OverSsh

UNREACHABLE = "unreachable"
# With nobody connected it ends after this.
IDLE = 900.0
_LOOK_SECONDS = 0.5
# A connection that is back so soon was never lost.
_GRACE = 3.0
# A first request waits for the nodes to be reached, or not.
_SETTLING = 20.0
_KEPT = 20_000
_MOST_WAITING = 16 << 20
_LONGEST_ERROR = 500
# What is armed, leased or healed is so by the modules, on the nodes themselves.
_OF_NODE = ("artifact-drop", "client-put", "client-read", "client-tell", "client-clear")
_OF_JOB = ("job-resize", "job-stop", "job-output")

Body = dict[str, Any]


class Listener:
    """Someone connected to the relay."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        self.renews = False
        # What is to be sent behind the next answer.
        self.afterwards: list[Body] = []
        self.tasks: list[asyncio.Task[None]] = []

    def send(self, message: Body) -> None:
        """Send a message; who does not read is hung up on."""
        with contextlib.suppress(OSError, node_errors.AgentError):
            self._writer.write(channel.encode(message))
            if self._writer.transport.get_write_buffer_size() > _MOST_WAITING:
                self._writer.transport.abort()

    def close(self) -> None:
        """Hang up."""
        for task in self.tasks:
            task.cancel()
        self._writer.close()


class Relay:
    """The relay of one testbed."""

    def __init__(self, places: Places, way: Callable[[str], Way] | None = None) -> None:
        """Serve a testbed.

        Args:
            places: where it is.
            way: how a node's agent is reached; by SSH if that is not given.
        """
        self._places = places
        self._way = way or self._by_ssh
        self._record = read_state(places)
        self._stamp = layers.stamp(places.state)
        self._roster = Roster()
        self._peers: dict[str, Peer] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._words: dict[str, str] = {}
        self._events: deque[Body] = deque(maxlen=_KEPT)
        self._seq = 0
        self._clients: set[Listener] = set()
        self._listening: set[Listener] = set()
        self._renewals: set[asyncio.Task[None]] = set()
        self._idle_since = time.monotonic()
        self._over = asyncio.Event()
        self._watchman = self._peer("", lambda: Straight(places.agent / AGENT_SOCKET))

    def _by_ssh(self, node: str) -> Way:
        # Names of nodes may be longer than what is left of a socket's path.
        digest = hashlib.sha256(node.encode()).hexdigest()
        local = self._places.agent / f"{digest[:8]}.ssh"
        remote = f"{self._record['nodes'][node]['directory']}/{channel.AGENT}"
        return lambda: OverSsh(ssh.target(self._record, node), local, remote)

    def _peer(self, name: str, way: Way) -> Peer:
        return Peer(name, way, self._told, self._changed, self._synced)

    async def run(self, listener: Any) -> None:
        """Serve who connects to a listening socket, until the testbed goes or nobody comes."""
        for number in (signal.SIGTERM, signal.SIGINT):
            with contextlib.suppress(RuntimeError, ValueError):  # Outside of the main thread.
                asyncio.get_running_loop().add_signal_handler(number, self._over.set)
        self._tasks[""] = asyncio.ensure_future(self._watchman.run())
        self._take_up(self._record["nodes"])
        server = await asyncio.start_unix_server(self._serve, sock=listener, limit=LIMIT)
        looking = asyncio.ensure_future(self._look_again())
        try:
            await self._over.wait()
        finally:
            server.close()
            for client in list(self._clients):
                client.close()
            tasks = [looking, *self._tasks.values()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _take_up(self, names: Iterable[str]) -> None:
        for name in names:
            peer = self._peers[name] = self._peer(name, self._way(name))
            peer.wanted = condition.is_up(self._health(name))
            self._tasks[name] = asyncio.ensure_future(peer.run())

    # What happens by itself.

    async def _look_again(self) -> None:
        """Look now and then at what nobody tells: the testbed's record, the nodes' health."""
        while not self._is_over():
            try:
                self._follow_record()
                for name in list(self._peers):
                    self._reconsider(name)
            except Exception as error:
                # Whatever is amiss with one look, the next one counts.
                print(f"unforeseen: {error!r}", file=sys.stderr, flush=True)
            await asyncio.sleep(_LOOK_SECONDS)
        self._over.set()

    def _is_over(self) -> bool:
        if self._clients:
            self._idle_since = time.monotonic()
        gone = not self._places.state.exists() or daemon.is_going_down(self._places.run)
        return gone or time.monotonic() - self._idle_since > IDLE

    def _follow_record(self) -> None:
        """Go by the testbed's record as it is now: `up` may have changed it."""
        stamp = layers.stamp(self._places.state)
        if stamp == self._stamp or stamp is None:
            return
        try:
            fresh = read_state(self._places)
        except PkgctlError:
            return
        before, self._record, self._stamp = self._record["nodes"], fresh, stamp
        for name in [name for name in self._peers if before[name] != fresh["nodes"].get(name)]:
            self._tasks.pop(name).cancel()
            del self._peers[name]
            self._words.pop(name, None)
            if name not in fresh["nodes"]:
                for record in self._roster.lose(name, f"node {name} is gone", time.monotonic()):
                    self._tell({"event": "job", **record})
        self._take_up(name for name in fresh["nodes"] if name not in self._peers)

    def _health(self, name: str) -> str:
        try:
            return condition.load(self._places.node(name))
        except node_errors.NodeError:
            return condition.RUNNING

    def _word(self, name: str) -> str:
        """Return a node's health as one word, with one more: it may be out of reach."""
        asked, peer = self._health(name), self._peers[name]
        if not condition.is_up(asked) or peer.is_up:
            return asked
        return UNREACHABLE

    def _reconsider(self, name: str) -> None:
        """Tell of a node whose state is another than it was, and act on it."""
        peer, asked, word = self._peers[name], self._health(name), self._word(name)
        if peer.wanted != condition.is_up(asked):
            peer.wanted = condition.is_up(asked)
            peer.nudge()
        before = self._words.get(name)
        if word == before or (before is None and not peer.tried.is_set()):
            return
        if word == UNREACHABLE and before is not None and not self._is_lost(before, peer):
            return
        self._words[name] = word
        if condition.is_off(word):
            reason = f"node {name} {word}"
            for record in self._roster.lose(name, reason, time.monotonic()):
                self._tell({"event": "job", **record})
        if before is not None:
            self._tell({"event": "node", "node": name, "health": word})

    @staticmethod
    def _is_lost(before: str, peer: Peer) -> bool:
        """Return whether a node that is out of reach is so for good, and was not lost before."""
        return before == condition.RUNNING and peer.lost_for() >= _GRACE

    def _changed(self, peer: Peer) -> None:
        if self._peers.get(peer.name) is peer:
            self._reconsider(peer.name)

    def _told(self, peer: Peer, event: Body) -> None:
        """Pass on what an agent tells."""
        kind = event.get("event")
        if kind == "node":
            # Of a virtual machine's health its watchman knows, and a node is ready when it answers.
            if event.get("node") in self._peers:
                self._reconsider(event["node"])
        elif kind != "job" or self._roster.note(_record(event)):
            self._tell(event)

    def _synced(self, peer: Peer, found: list[Body]) -> None:
        for record in self._roster.compare(peer.name, found, time.monotonic()):
            self._tell({"event": "job", **record})

    def _tell(self, event: Mapping[str, Any]) -> None:
        self._seq += 1
        told = {"mono": time.monotonic(), "wall": time.time(), **event, "seq": self._seq}
        self._events.append(told)
        for client in self._listening:
            client.send(told)

    # Requests.

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        client = Listener(writer)
        self._clients.add(client)
        try:
            while line := await reader.readline():
                client.send(await self._answer(client, line))
                while client.afterwards:
                    client.send(client.afterwards.pop(0))
                await writer.drain()
        except (OSError, ValueError):
            pass  # It hung up, or what it sends has no end.
        finally:
            self._clients.discard(client)
            self._listening.discard(client)
            client.close()
            self._renew_or_not()

    async def _answer(self, client: Listener, line: bytes) -> Body:
        try:
            request = channel.decode(line)
            return {"ok": True, **await self._perform(client, str(request.pop("op", "")), request)}
        except (node_errors.DisturbanceError, PkgctlError) as error:
            return _refusal(str(error))
        except (KeyError, TypeError, ValueError, OSError) as error:
            return _refusal(f"bad request: {type(error).__name__} {error}")

    async def _perform(self, client: Listener, op: str, request: Body) -> Body:
        own: dict[str, Callable[[Listener, Body], Awaitable[Body]]] = {
            "ping": self._ping,
            "events": self._stream_events,
            "samples": self._stream_samples,
            "nodes": self._nodes,
            "job-list": self._list_jobs,
            "job-start": self._start_job,
            "job-remove": self._remove_job,
        }
        if op != "ping":
            await self._settled()
        if op in own:
            return await own[op](client, request)
        if op in _OF_NODE or (op in GATHER and "node" in request):
            return await self._node(str(request["node"])).call(op, **request)
        if op in _OF_JOB:
            return await self._of_job(op, request)
        if op in GATHER:
            return await self._everywhere(op, request)
        known = ", ".join((*own, *_OF_NODE, *_OF_JOB, *GATHER))
        raise node_errors.AgentError(f"unknown request; known are {known}")

    async def _settled(self) -> None:
        """Wait until each node was tried once."""
        waiting = [peer.tried.wait() for peer in self._peers.values() if not peer.tried.is_set()]
        if waiting:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_SETTLING):
                    await asyncio.gather(*waiting)

    def _node(self, name: str) -> Peer:
        if name not in self._peers:
            raise node_errors.AgentError(f"there is no node {name[:64]!r}")
        return self._peers[name]

    async def _ping(self, _: Listener, __: Body) -> Body:
        return {"pid": os.getpid(), "mono": time.monotonic(), "wall": time.time(), "version": 1}

    async def _nodes(self, _: Listener, __: Body) -> Body:
        """Return each node's state, and how well its clock is known."""
        now = time.monotonic()
        return {
            "nodes": {
                name: {
                    "state": self._word(name),
                    "reason": "" if peer.is_up else peer.reason,
                    "ahead": peer.clock.ahead if peer.clock.is_known else None,
                    "bound": peer.clock.bound(now) if peer.clock.is_known else None,
                }
                for name, peer in self._peers.items()
            }
        }

    async def _list_jobs(self, _: Listener, __: Body) -> Body:
        return {"jobs": self._roster.all()}

    async def _start_job(self, _: Listener, request: Body) -> Body:
        name, node = str(request["id"]), str(request["node"])
        peer, place = self._node(node), self._roster.node(name)
        if self._roster.is_alive(name):
            raise node_errors.AgentError(f"job {name} is there already, on {place}")
        condition.check_up(self._places.node(node), node)
        if place is not None and place != node:
            # The one that ended elsewhere gives up its name, without a word.
            await self._forget(name)
        answer = await peer.call("job-start", **request)
        self._roster.note(answer["job"])
        return answer

    async def _remove_job(self, _: Listener, request: Body) -> Body:
        name = str(request["id"])
        if self._roster.node(name) is None:
            raise node_errors.AgentError(f"there is no job {name!r}")
        self._tell({"event": "job", **await self._forget(name)})
        return {}

    async def _forget(self, name: str) -> Body:
        """Have a job removed from its node, now or when the node is back; return its record."""
        peer = self._peers.get(self._roster.node(name) or "")
        if peer is not None and peer.is_up:
            record = self._roster.take_out(name)
            try:
                await peer.call("job-remove", id=name)
            except node_errors.AgentError:
                if peer.is_up:
                    return record  # The node knows of no such job.
                peer.owed.append(("job-remove", {"id": name}))
            return record
        if peer is not None:
            peer.owed.append(("job-remove", {"id": name}))
        return self._roster.take_out(name)

    async def _of_job(self, op: str, request: Body) -> Body:
        name = str(request["id"])
        node = self._roster.node(name)
        if node is None:
            raise node_errors.AgentError(f"there is no job {name!r}")
        answer = await self._node(node).call(op, **request)
        if "job" in answer:
            self._roster.note(answer["job"])
        return answer

    async def _everywhere(self, op: str, request: Body) -> Body:
        """Ask all nodes, or those that are named, and gather their answers."""
        named = request.pop("nodes", None)
        chosen = list(self._peers) if named is None else [str(name) for name in named]
        asked = [self._node(name) for name in chosen]
        if op in OF_WATCHMAN:
            asked += await self._watchman_too(op)
        silent = [peer.name for peer in asked if not (peer.is_up or peer.wanted)]
        if op == "timeline-drop":
            for name in silent:
                self._peers[name].owed.append((op, request))
        up = [peer for peer in asked if peer.name not in silent]
        if op == "timeline-start":
            await self._all_up(up)
        results = await asyncio.gather(
            *(self._ask(peer, op, request) for peer in up), return_exceptions=True
        )
        answers = {peer.name: result for peer, result in zip(up, results, strict=True)}
        failed = {n: each for n, each in answers.items() if isinstance(each, BaseException)}
        if failed and op not in ("look", "traffic", "artifact-list", "layer-list"):
            raise next(iter(failed.values()))
        told = {n: each for n, each in answers.items() if not isinstance(each, BaseException)}
        return {**GATHER[op](told), "silent": [*silent, *failed]}

    @staticmethod
    async def _ask(peer: Peer, op: str, request: Body) -> Body:
        if op == "look":
            known = (request.get("known") or {}).get(peer.name)
            request = {**request, "known": {peer.name: known} if known else {}}
        return await peer.call(op, **request)

    async def _all_up(self, peers: Iterable[Peer]) -> None:
        """Begin nothing unless all can begin.

        Raises:
            AgentError: naming a node that does not answer.
        """
        await asyncio.gather(*(peer.call("ping") for peer in peers))

    async def _watchman_too(self, op: str) -> list[Peer]:
        """Return the watchman if there is one; who is to begin something is started again."""
        taken_on = self._places.run / journal.NAME
        if op == "timeline-start" and taken_on.exists() and taken_on.stat().st_size:
            watchman.revive(self._places.run)
            await self._watchman.is_back()
            return [self._watchman]
        return [self._watchman] if self._watchman.is_up else []

    async def _stream_events(self, client: Listener, request: Body) -> Body:
        since = int(request.get("since", self._seq))
        client.renews = bool(request.get("renew"))
        client.afterwards = [event for event in self._events if event["seq"] > since]
        self._listening.add(client)
        self._renew_or_not()
        return {"seq": self._seq}

    def _renew_or_not(self) -> None:
        renews = any(client.renews for client in self._listening)
        for peer in (self._watchman, *self._peers.values()):
            task = asyncio.ensure_future(peer.renew(renews=renews))
            self._renewals.add(task)
            task.add_done_callback(self._renewals.discard)

    async def _stream_samples(self, client: Listener, request: Body) -> Body:
        interval = float(request.get("interval", 0.2))
        for peer in self._peers.values():
            client.tasks.append(asyncio.ensure_future(_pump(peer, interval, client)))
        return {}


async def _pump(peer: Peer, interval: float, client: Listener) -> None:
    async for sample in peer.samples(interval):
        client.send(sample)


def _record(event: Mapping[str, Any]) -> Body:
    """Return the record of a job in an event of it."""
    return {key: each for key, each in event.items() if key not in ("event", "seq", "mono", "wall")}


def _refusal(words: str) -> Body:
    return {"ok": False, "error": " ".join(words.split())[:_LONGEST_ERROR]}


def main() -> None:
    """Serve the testbed in the folder that the first argument names."""
    folder = Path(sys.argv[1])
    os.environ[VARIABLE] = str(folder.parent)
    places = Places(folder.name)
    listener = daemon.inherited() or channel.listen(places.relay)
    asyncio.run(_run(places, listener))


async def _run(places: Places, listener: Any) -> None:
    listener.setblocking(False)
    await Relay(places).run(listener)


if __name__ == "__main__":
    main()
