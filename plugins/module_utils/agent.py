# SPDX-License-Identifier: GPL-3.0-or-later
"""The node agent: what must happen later, or all the time, for all nodes of a local testbed.

It starts, resizes and stops jobs and stamps their lives, samples usage, carries out armed
timelines, and keeps the delay line running. Jobs are recorded on disk and links are the kernel's,
so the agent may be killed and started again: jobs go on, links stay shaped.
"""

from __future__ import annotations

import gc
import os
import signal
import socket
import sys
import time
from collections import deque
from pathlib import Path
from typing import Any

from . import channel, daemon, delayclient, identity, jobs, sampler, syscalls
from .cgroups import group
from .errors import AgentError
from .identity import Identity
from .jobkeeper import JobKeeper
from .loop import Loop
from .server import Client, Server
from .timelines import Timelines

VERSION = 1
SOCKET = "agent.sock"
_KEPT_EVENTS = 20_000
_SHORTEST_INTERVAL = 0.02

Body = dict[str, Any]


class Agent:
    """The agent of one testbed."""

    def __init__(self, directory: Path, listener: socket.socket) -> None:
        """Serve the testbed in directory; clients come through listener."""
        self._directory = directory
        self._loop = Loop()
        self._sequence = 0
        self._events: deque[Body] = deque(maxlen=_KEPT_EVENTS)
        self._watchers: list[Client] = []
        self._traffic: sampler.Traffic | None = None
        self._jobs = JobKeeper(directory, self._loop, self._node, self._tell)
        self._timelines = Timelines(directory, self._loop, self._node, self._tell)
        self._server = Server(
            self._loop,
            listener,
            {
                "ping": self._ping,
                "job-start": lambda _, request: self._jobs.start(request),
                "job-resize": lambda _, request: self._jobs.resize(request),
                "job-stop": lambda _, request: self._jobs.stop(request),
                "job-remove": lambda _, request: self._jobs.remove(request),
                "job-list": lambda _, request: self._jobs.listing(request),
                "artifact-drop": lambda _, request: self._jobs.drop_artifacts(request),
                "artifact-list": lambda _, request: self._jobs.artifacts(request),
                "events": self._stream_events,
                "samples": self._stream_samples,
                "timeline-arm": lambda _, request: self._timelines.arm(request),
                "timeline-start": lambda _, request: self._timelines.start(request),
                "timeline-cancel": lambda _, request: self._timelines.cancel(request),
                "timeline-drop": lambda _, request: self._timelines.drop(request),
            },
        )
        self._guard_delay_line()

    def run(self) -> None:
        """Serve for ever."""
        self._loop.run()

    @staticmethod
    def _ping(_: Client, __: Body) -> Body:
        mono, wall = syscalls.monotonic(), time.time()
        return {"pid": os.getpid(), "mono": mono, "wall": wall, "version": VERSION}

    def _node(self, name: str) -> Identity:
        folder = self._directory / "nodes" / name
        if "/" in name or not folder.is_dir():
            raise AgentError(f"there is no node {name!r}")
        return identity.load(folder / "node.json")

    def _stream_events(self, client: Client, request: Body) -> Body:
        since = int(request.get("since", self._sequence))
        missed = [event for event in self._events if event["seq"] > since]

        def catch_up() -> None:
            for event in missed:
                client.send(event)

        self._watchers.append(client)
        # The answer goes first.
        self._loop.at(0.0, catch_up)
        return {"seq": self._sequence}

    def _tell(self, event: Body) -> None:
        self._sequence += 1
        told = {"seq": self._sequence, "mono": syscalls.monotonic(), "wall": time.time(), **event}
        self._events.append(told)
        self._watchers = [client for client in self._watchers if client.connected]
        for client in self._watchers:
            client.send(told)

    def _stream_samples(self, client: Client, request: Body) -> Body:
        interval = max(float(request.get("interval", 0.2)), _SHORTEST_INTERVAL)
        now = syscalls.monotonic()
        self._loop.at(now, lambda: self._sample(client, interval, now))
        return {}

    def _sample(self, client: Client, interval: float, planned: float) -> None:
        if not client.connected:
            return
        mono = syscalls.monotonic()
        client.send({"mono": mono, "rows": self._rows()})
        due = max(planned + interval, mono)
        self._loop.at(due, lambda: self._sample(client, interval, due))

    def _rows(self) -> list[sampler.Row]:
        if self._traffic is None:
            self._traffic = sampler.Traffic(self._directory / "ns" / ".switch" / "net")
        known = {path.name: self._node(path.name) for path in self._directory.glob("nodes/*")}
        running = [job for job in self._jobs.running() if job.node in known]
        return sampler.sample(
            [(node.name, node.address, group(node.cgroup)) for node in known.values()],
            [(job.node, job.id, jobs.job_group(known[job.node], job)) for job in running],
            self._traffic.read(),
        )

    def _guard_delay_line(self) -> None:
        """Start the delay line unless it runs, and again when it ends."""
        path = self._directory / "agent" / delayclient.SOCKET
        daemon.ensure("delayline", self._directory, path)
        client = channel.Client(path)

        def restart(_: int) -> None:
            self._loop.forget(client.fileno())
            client.close()
            self._loop.at(syscalls.monotonic() + 0.05, self._guard_delay_line)

        self._loop.watch(client.fileno(), restart)


def main() -> None:
    """Serve the testbed in the folder that the first argument names."""
    directory = Path(sys.argv[1])
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    listener = daemon.inherited() or channel.listen(directory / "agent" / SOCKET)
    agent = Agent(directory, listener)
    gc.freeze()
    agent.run()


if __name__ == "__main__":
    main()
