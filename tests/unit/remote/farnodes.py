# SPDX-License-Identifier: GPL-3.0-or-later
"""Agents of nodes whose clocks are not ours: they answer as real ones, and can go and come back."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from pkgctl.nodeside import channel
from pkgctl.remote.places import Places
from pkgctl.remote.relay import Relay
from pkgctl.remote.way import Straight

Message = dict[str, Any]


class FarAgent:
    """The agent of one node, whose clock is ahead of ours and runs at another rate."""

    def __init__(self, path: Path, node: str, ahead: float = 0.0, rate: float = 1.0) -> None:
        self.path, self.node = path, node
        self._ahead, self._rate = ahead, rate
        self._began = time.monotonic()
        self.pid = 1000
        self.seq = 0
        self.heard: list[Message] = []
        self.jobs: dict[str, Message] = {}
        self.kept: list[Message] = []
        # Seconds before and after the stamp of each answer to a ping.
        self.delays: tuple[float, float] = (0.0, 0.0)
        self._loop = asyncio.new_event_loop()
        self._writers: set[asyncio.StreamWriter] = set()
        self._listeners: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None
        self._thread = threading.Thread(target=self._loop.run_forever)

    def clock(self) -> float:
        """Return what the node's clock shows now."""
        now = time.monotonic()
        return now + self._ahead + (now - self._began) * (self._rate - 1.0)

    def truth(self, stamp: float) -> float:
        """Return by our clock when the node's shows something."""
        return (stamp - self._ahead + self._began * (self._rate - 1.0)) / self._rate

    def jump(self, seconds: float) -> None:
        """Let its clock jump."""
        self._ahead += seconds

    def __enter__(self) -> FarAgent:
        self._thread.start()
        self.come()
        return self

    def __exit__(self, *_: object) -> None:
        self.go()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _do(self, work: Callable[[], Any]) -> Any:
        async def run() -> Any:
            found = work()
            return await found if asyncio.iscoroutine(found) else found

        return asyncio.run_coroutine_threadsafe(run(), self._loop).result(10.0)

    def come(self) -> None:
        """Listen."""

        async def listen() -> None:
            self.path.unlink(missing_ok=True)
            self._server = await asyncio.start_unix_server(self._serve, self.path)

        self._do(listen)

    def go(self) -> None:
        """Be gone, as with the node's power."""

        async def close() -> None:
            if self._server is not None:
                self._server.close()
            self._server = None
            for writer in list(self._writers):
                writer.transport.abort()
            self.path.unlink(missing_ok=True)
            await asyncio.sleep(0.01)

        self._do(close)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        with contextlib.suppress(OSError):
            while line := await reader.readline():
                request = json.loads(line)
                if request["op"] == "ping":
                    await asyncio.sleep(self.delays[0])
                answer = self._answer(writer, request)
                if request["op"] == "ping":
                    await asyncio.sleep(self.delays[1])
                writer.write(channel.encode({"ok": True, **answer}))
                if request["op"] == "samples":
                    rows = [{"node": self.node, "job": None}]
                    writer.write(channel.encode({"mono": self.clock(), "rows": rows}))
                if request["op"] == "events" and "since" in request:
                    for event in self.kept:
                        if event["seq"] > request["since"]:
                            writer.write(channel.encode(event))
        self._writers.discard(writer)
        self._listeners.discard(writer)
        writer.close()

    def _answer(self, writer: asyncio.StreamWriter, request: Message) -> Message:
        op = request["op"]
        if op != "ping":
            self.heard.append(request)
        if op == "events":
            self._listeners.add(writer)
        answer = getattr(self, f"_{op.replace('-', '_')}", None)
        return answer(request) if answer else {}

    def _ping(self, _: Message) -> Message:
        return {"pid": self.pid, "mono": self.clock(), "wall": 0.0, "version": 1}

    def _events(self, _: Message) -> Message:
        return {"seq": self.seq}

    def _job_start(self, request: Message) -> Message:
        stamps = {key: request[key] for key in ("submitted", "decided") if key in request}
        job = self.job(request["id"], **stamps, started=self.clock())
        self._tell({"event": "job", **job})
        return {"job": job}

    def _job_remove(self, request: Message) -> Message:
        self._tell({"event": "job", **self.jobs.pop(request["id"]), "status": "removed"})
        return {}

    def _job_list(self, _: Message) -> Message:
        return {"jobs": list(self.jobs.values())}

    def _timeline_start(self, _: Message) -> Message:
        return {"steps": 2}

    def _timeline_drop(self, _: Message) -> Message:
        return {"steps": 1}

    def _artifact_list(self, _: Message) -> Message:
        return {"artifacts": {self.node: ["app"]}}

    def _traffic(self, _: Message) -> Message:
        return {"pairs": [[self.node, "x", 1, 2, 0]], "mono": self.clock()}

    def _layer_list(self, _: Message) -> Message:
        layer = {"layer": "slow", "t0": self.clock(), "next": None, "ends": None, "since": None}
        return {"layers": [layer], "leases": []}

    def _look(self, request: Message) -> Message:
        stores = {"link": {"stamp": "1.1", "layers": {"base": {}}}}
        known = request["known"].get(self.node, {})
        new = {kind: each for kind, each in stores.items() if known.get(kind) != each["stamp"]}
        own = {"cpu": 0.5, "memory": 1 << 27, "impairment": "netem", "stores": new, "disk": [1, 2]}
        return {"nodes": {self.node: own}, "mono": self.clock()}

    def job(self, name: str, status: str = "running", **stamps: float) -> Message:
        """Have a job, and return its record."""
        job = {
            "id": name,
            "node": self.node,
            "status": status,
            "cached": False,
            "cpu": None,
            "memory": None,
            "labels": {"since": 1.0, "t0": 2.0},
            "error": None,
            "lost": False,
            "stamps": stamps,
        }
        self.jobs[name] = job
        return job

    def tell(self, event: Message) -> None:
        """Tell all who listen."""
        self._do(lambda: self._tell(event))

    def _tell(self, event: Message) -> None:
        self.seq += 1
        told = {"seq": self.seq, "mono": self.clock(), "wall": 1.0, **event}
        self.kept.append(told)
        for writer in self._listeners:
            writer.write(channel.encode(told))


@contextlib.contextmanager
def relaying(places: Places, agents: dict[str, FarAgent]) -> Iterator[Path]:
    """Run a relay for agents in a thread; the value is where it listens."""
    state = {
        "testbed": places.name,
        "provider": "libvirt",
        "nodes": {name: {"address": "10.77.0.1", "directory": "/run/pkgctl"} for name in agents},
        "links": {},
    }
    places.agent.mkdir(parents=True, exist_ok=True)
    places.state.write_text(json.dumps(state))

    def way(name: str) -> Callable[[], Straight]:
        return lambda: Straight(agents[name].path)

    listener = channel.listen(places.relay)
    listener.setblocking(False)
    thread = threading.Thread(target=lambda: asyncio.run(Relay(places, way).run(listener)))
    thread.start()
    try:
        yield places.relay
    finally:
        places.state.unlink()
        thread.join()
