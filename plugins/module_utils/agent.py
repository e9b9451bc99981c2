# SPDX-License-Identifier: GPL-3.0-or-later
"""The node agent: what must happen later, or all the time, for all nodes of a local testbed.

On a node that is a machine of its own there is one too, which knows that node alone.

It starts, resizes and stops jobs and stamps their lives, keeps the nodes' units running, samples
usage, carries out armed timelines, ends what nobody renews, and keeps the delay line running, as
that keeps the agent.

It may be killed at any time and started again: jobs and units go on and are found by their records,
links stay shaped, and the journal says what was taken on and must go on or be healed.
"""

from __future__ import annotations

import gc
import os
import resource
import signal
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from . import (
    channel,
    clientfiles,
    condition,
    daemon,
    delayclient,
    jobs,
    journal,
    kinds,
    looking,
    outline,
    performing,
    sampler,
    supervisor,
    syscalls,
    traffic,
)
from .background import Child, Result
from .cgroups import group
from .errors import AgentError, DisturbanceError
from .events import Events
from .jobkeeper import JobKeeper
from .leases import Leases
from .ledger import Book
from .loop import Loop
from .player import one_line
from .server import Client, Operation, Server
from .stage import Stage
from .timelines import Timelines
from .times import number
from .waiting import Judge

VERSION = 1
_SHORTEST_INTERVAL = 0.02
# No sample is taken so shortly before a layer is to be switched.
_QUIET = 0.03
_SWEEP = 30.0
# What could not be brought about when the agent began is tried again so often, seconds apart.
_TRIES, _PAUSE = 10, 2.0

Body = dict[str, Any]


class Agent:
    """The agent of one testbed."""

    def __init__(
        self, directory: Path, listener: socket.socket, stage: Stage | None = None
    ) -> None:
        """Serve the testbed in directory.

        Args:
            directory: the testbed's folder.
            listener: through which clients come.
            stage: its nodes, if they are not in that folder.
        """
        self._directory = directory
        self._loop = Loop()
        self._events = Events(self._loop)
        self._stage = stage or Stage(directory)
        self._traffic: sampler.Traffic | None = None
        self._sampling: dict[Client, float] = {}
        self._healths: dict[str, str] = {}
        self._due_again = False
        self._code = performing.digest()
        if self._stage.delays_packets():
            self._guard_delay_line()
        self._jobs = JobKeeper(
            directory, self._loop, self._stage.node, self._tell, self._reconsider_soon
        )
        self._units = supervisor.Supervisor(
            directory, self._loop, self._stage.node, self._stage.names, self._tell
        )
        # The nodes of a local testbed are still being made when its first agent begins.
        is_first = not (directory / journal.NAME).exists() and not daemon.is_service(directory)
        book = Book(directory / journal.NAME)
        judge = Judge(book, self._stage, self._jobs.counts, self._jobs.status)
        self._timelines = Timelines(self._loop, self._stage, book, judge, self._tell)
        self._leases = Leases(
            book, self._loop, self._events.is_renewing, self._timelines.heal, self._stage.holds
        )
        self._timelines.attach(self._leases.mind)
        self._server = Server(self._loop, listener, self._operations())
        self._take_up(is_first=is_first)

    def _operations(self) -> dict[str, Operation]:
        keeper, timelines, leases, units = self._jobs, self._timelines, self._leases, self._units
        pairs = traffic.Pairs(self._directory, self._stage.node)
        files = clientfiles.ClientFiles(self._directory, self._stage.node)
        looks = looking.Looking(self._directory, self._stage.node, self._stage.names)
        plain: dict[str, Callable[[Body], Body | None]] = {
            "ping": self._ping,
            "job-start": keeper.start,
            "job-resize": keeper.resize,
            "job-stop": keeper.stop,
            "job-remove": keeper.remove,
            "job-list": keeper.listing,
            "job-output": keeper.output,
            "artifact-drop": keeper.drop_artifacts,
            "artifact-list": keeper.artifacts,
            "traffic": pairs.read,
            "look": looks.look,
            "client-put": files.put,
            "client-read": files.read,
            "client-tell": files.tell,
            "client-clear": files.clear,
            "timeline-arm": timelines.arm,
            "timeline-start": timelines.start,
            "timeline-cancel": timelines.cancel,
            "timeline-drop": timelines.drop,
            "timeline-list": lambda _: timelines.listing(),
            "lease-set": self._set_lease,
            "lease-drop": leases.drop,
            "lease-list": lambda _: leases.listing(),
            "unit-set": units.set,
            "unit-list": units.listing,
            "unit-start": units.start,
            "unit-stop": units.stop,
            "unit-restart": units.restart,
            "unit-remove": units.remove,
            "layer-list": lambda _: outline.layers(timelines.steps(), leases.listing()["leases"]),
            "node-changed": self._node_changed,
        }
        return {name: _plain(operation) for name, operation in plain.items()} | {
            "events": self._events.stream,
            "samples": self._stream_samples,
            "perform": self._perform,
        }

    def run(self) -> None:
        """Serve until stop is called."""
        self._loop.run()

    def stop(self) -> None:
        """End after what is being done now."""
        self._loop.stop()

    @staticmethod
    def _ping(_: Body) -> Body:
        mono, wall = syscalls.monotonic(), time.time()
        return {"pid": os.getpid(), "mono": mono, "wall": wall, "version": VERSION}

    def _perform(self, client: Client, request: Body) -> Body:
        """Have a child do a module's work on the machine that this is; the report comes later."""
        if not daemon.is_service(self._directory):
            raise AgentError("this agent is of many nodes, and is on none")
        work = performing.read(request, self._code)

        def alone() -> Result:
            self._stage.detach()
            return work()

        Child(self._loop, alone, client.send)
        return {}

    def _set_lease(self, request: Body) -> Body:
        return self._leases.set(self._stage.node(str(request["node"])).name, request)

    # What happens by itself.

    def _take_up(self, *, is_first: bool) -> None:
        """Go on where another agent was, and see that the nodes are what they were asked to be."""
        names = [] if is_first else self._stage.finished()
        for name in names:
            self._healths[name] = self._health(name)
        if names:
            self._bring_up(names, _TRIES if daemon.is_service(self._directory) else 0)
        self._timelines.resume()
        self._leases.mind()
        self._units.resume()
        self._sweep()

    def _bring_up(self, names: list[str], tries: int) -> None:
        """Bring nodes to their layers; what fails is tried again: a link may come up late."""

        def then(result: Result) -> None:
            self._converged(result)
            if tries and ("error" in result or result.get("errors")):
                again = syscalls.monotonic() + _PAUSE
                self._loop.at(again, lambda: self._bring_up(names, tries - 1))

        Child(self._loop, lambda: self._converge(names), then)

    def _converge(self, names: list[str]) -> Result:
        self._stage.detach()
        errors = []
        for name in names:
            for kind in kinds.NAMES:
                try:
                    self._stage.converge(name, kind)
                except Exception as error:
                    errors.append(f"{name}: {kind}: {one_line(error)}")
        return {"errors": errors[:20]}

    @staticmethod
    def _converged(result: Result) -> None:
        for error in (*result.get("errors", ()), *([result["error"]] if "error" in result else ())):
            print(error, file=sys.stderr, flush=True)

    def _sweep(self) -> None:
        self._stage.sweep()
        self._units.sweep()
        self._loop.at(syscalls.monotonic() + _SWEEP, self._sweep)

    def _tell(self, event: Body) -> None:
        self._events.tell(event)
        if event.get("event") == "job":
            self._reconsider_soon()
        elif event.get("kind") == "health":
            self._look(str(event["node"]))

    def _reconsider_soon(self) -> None:
        """Let steps that wait for something look again, once for all that happens now."""
        if not self._due_again:
            self._due_again = True
            self._loop.at(0.0, self._reconsider)

    def _reconsider(self) -> None:
        self._due_again = False
        self._timelines.reconsider()

    def _node_changed(self, request: Body) -> Body:
        self._look(self._stage.node(str(request["node"])).name)
        return {}

    def _look(self, name: str) -> None:
        """Tell of a node whose health is another than it was."""
        now = self._health(name)
        # It may have been down and up again before anybody looked.
        self._units.node_changed(name)
        if now == self._healths.get(name, condition.RUNNING):
            return
        self._healths[name] = now
        self._jobs.node_changed(name)
        self._events.tell({"event": "node", "node": name, "health": now})
        self._reconsider_soon()

    def _health(self, name: str) -> str:
        try:
            return self._stage.health(name)
        except DisturbanceError:
            return condition.RUNNING

    def _stream_samples(self, client: Client, request: Body) -> Body:
        given = number("interval", request.get("interval", 0.2))
        is_new = client not in self._sampling
        self._sampling = {each: gap for each, gap in self._sampling.items() if each.connected}
        self._sampling[client] = max(given, _SHORTEST_INTERVAL)
        if is_new:
            now = syscalls.monotonic()
            self._loop.at(now, lambda: self._sample(client, now))
        return {}

    def _sample(self, client: Client, planned: float) -> None:
        if not client.connected:
            return
        mono = syscalls.monotonic()
        due = self._timelines.next_due()
        if due is not None and mono < due < mono + _QUIET:
            self._loop.at(due + 1e-3, lambda: self._sample(client, planned))
            return
        client.send({"mono": mono, "machine": sampler.machine(), "rows": self._rows()})
        # On a machine on which a sample takes longer than that, others have their turn between two.
        done = syscalls.monotonic()
        again = max(planned + self._sampling[client], done + (done - mono))
        self._loop.at(again, lambda: self._sample(client, again))

    def _rows(self) -> list[sampler.Row]:
        if self._traffic is None:
            self._traffic = sampler.Traffic(self._directory / "ns" / ".switch" / "net")
        known = self._stage.known()
        running = [job for job in self._jobs.running() if job.node in known]
        return sampler.sample(
            [(node.name, group(node.cgroup)) for node in known.values()],
            [(job.node, job.id, jobs.job_group(known[job.node], job)) for job in running],
            self._traffic.read(known.values()),
        )

    def _guard_delay_line(self) -> None:
        """Start the delay line unless it runs, and again when it ends."""
        path = self._directory / "agent" / delayclient.SOCKET
        if daemon.is_going_down(self._directory) or not self._stage.delays_packets():
            return
        try:
            daemon.ensure("delayline", self._directory, path)
            client = channel.Client(path)
        except (AgentError, OSError):
            self._loop.at(syscalls.monotonic() + 1.0, self._guard_delay_line)
            return

        def restart(_: int) -> None:
            self._loop.forget(client.fileno())
            client.close()
            self._loop.at(syscalls.monotonic() + 0.05, self._guard_delay_line)

        self._loop.watch(client.fileno(), restart)


def _plain(operation: Callable[[Body], Body | None]) -> Operation:
    """Return an operation that does not care who asks."""
    return lambda _, request: operation(request)


def main() -> None:
    """Serve the testbed in the folder that the first argument names."""
    serve(Agent)


def serve(make: Callable[[Path, socket.socket], Agent]) -> None:
    """Serve the testbed in the folder that the first argument names, by an agent that is made."""
    directory = Path(sys.argv[1])
    # One for each job and client, and two for each node, come to more than the usual 1,024.
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    listener = daemon.inherited() or channel.listen(directory / channel.AGENT)
    agent = make(directory, listener)
    signal.signal(signal.SIGTERM, lambda *_: agent.stop())
    gc.freeze()
    agent.run()


if __name__ == "__main__":
    main()
