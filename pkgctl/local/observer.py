# SPDX-License-Identifier: GPL-3.0-or-later
"""Pictures of a testbed, one after each interval, for the live view.

The agent samples the control groups and ports, and reads the pairs' counters a few nodes at a time
so that what it has to do on time stays on time. The rest is read here.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Generator, Iterator, Mapping
from contextlib import closing, suppress
from typing import Any

from pkgctl.errors import TestbedError
from pkgctl.local.agent import AgentClient
from pkgctl.local.diskuse import Use
from pkgctl.local.paths import Paths
from pkgctl.local.state import read_state
from pkgctl.local.storing import Stored
from pkgctl.local.streams import Stream
from pkgctl.watch import figures
from pkgctl.watch.figures import Carried, Pair
from pkgctl.watch.latest import Latest
from pkgctl.watch.picture import Node, Picture

# Nodes whose pairs are read by one request to the agent.
_AT_ONCE = 2
_RETRY_SECONDS = 1.0
_LOOK_UP_SECONDS = 0.2
Counters = dict[Pair, Carried]


class Observer:
    """Looks at one testbed again and again, and remembers what it needs for rates."""

    def __init__(self, paths: Paths, interval: float) -> None:
        """Look at a testbed every interval seconds.

        Raises:
            TestbedError: if it is not up.
        """
        self._paths = paths
        self._interval = interval
        self._state = read_state(paths)
        self._reach = paths.reach()
        self._agent: AgentClient | None = None
        self._open()
        self._counters: Counters = {}
        self._over = threading.Event()

    def _open(self) -> None:
        """Look at the nodes that the testbed has now."""
        self._stores = self._reach.stores(self._state, self)
        self._stored = Stored(self._state["nodes"], self._stores)
        self._sight = self._reach.sight(self._stores)

    def call(self, op: str, **fields: Any) -> dict[str, Any]:
        """Return the agent's answer to a request.

        Raises:
            TestbedError: if it does not answer.
        """
        if self._agent is None:
            raise TestbedError("the agent does not answer")
        return self._agent.call(op, **fields)

    def __iter__(self) -> Generator[Picture, None, None]:
        """Yield a picture after each interval until closed; the first needs two samples.

        Raises:
            TestbedError: if the testbed is no longer up.
        """
        while not self._over.is_set():
            try:
                yield from self._watch()
            except TestbedError:
                yield self._without_agent()
                self._over.wait(_RETRY_SECONDS)

    def close(self) -> None:
        """Have whoever iterates stop soon; may be called by any thread."""
        self._over.set()

    def _watch(self) -> Iterator[Picture]:
        """Yield pictures as the agent's samples come."""
        self._counters = {}
        latest = Latest(self._interval)
        with (
            AgentClient(self._paths) as agent,
            closing(Stream(self._paths, "samples", interval=self._interval)) as samples,
        ):
            self._agent = agent
            while not self._over.is_set():
                first = samples.next(time.monotonic() + _LOOK_UP_SECONDS)
                # Of what came while we were busy only the latest counts.
                for sample in (first, *samples.waiting()):
                    if sample is not None:
                        latest.take(sample)
                if latest.is_complete(self._state["nodes"]) and (picture := self._look(latest)):
                    yield picture

    def _look(self, latest: Latest) -> Picture | None:
        self._refresh()
        self._stored.refresh()
        old, counters = self._counters, self._read_counters()
        self._counters = counters
        if (found := latest.use()) is None:
            return None
        used, seconds = found
        outline = self.call("layer-list")
        return self._picture(used, outline, old, counters, seconds, *self._silent(outline))

    @staticmethod
    def _silent(answer: Mapping[str, Any]) -> tuple[str, ...]:
        """Return a line on the nodes that could not be asked, if any."""
        names = [name for name in answer.get("silent", ()) if name]
        return (f"not reachable: {', '.join(names)}",) if names else ()

    def _without_agent(self) -> Picture:
        """Return what can be seen while the agent does not answer."""
        self._agent = None
        self._refresh()
        with suppress(TestbedError):
            self._stored.refresh()
        note = "the agent does not answer: no figures, no times"
        return self._picture({}, None, {}, {}, 0.0, note)

    def _refresh(self) -> None:
        """Read anew what a testbed is made of, for `up` may have changed it."""
        fresh = read_state(self._paths)
        if fresh != self._state:
            self._state = fresh
            self._open()

    def _read_counters(self) -> Counters:
        found: Counters = {}
        names = list(self._state["nodes"])
        for first in range(0, len(names), _AT_ONCE):
            answer = self.call("traffic", nodes=names[first : first + _AT_ONCE])
            monos, mono = answer.get("monos", {}), answer["mono"]
            for source, target, count, packets, drops in answer["pairs"]:
                at = monos.get(source, mono)
                found[source, target] = Carried(count, packets, drops, at)
        return found

    def _picture(
        self,
        used: Mapping[str, dict[str, Any]],
        outline: Mapping[str, Any] | None,
        old: Counters,
        counters: Counters,
        interval: float,
        *notes: str,
    ) -> Picture:
        now = time.monotonic()
        links = figures.links(self._stored.asked, self._stored.disturbed, old, counters)
        delay_line = self._sight.delay_line()
        disks = self._sight.disks(self._state["nodes"])
        return Picture(
            testbed=self._paths.name,
            topology=self._state["topology"]["name"],
            wall=time.time(),
            mono=now,
            interval=interval,
            nodes=[
                self._node(name, known, used.get(name, {}), disks.get(name))
                for name, known in self._state["nodes"].items()
            ],
            links=figures.with_losses(links, self._sight.losses(self._state, links)),
            layers=self._stored.layers(outline, now),
            delay_line=delay_line,
            notes=(*notes, *self._sight.notes(delay_line)),
        )

    def _node(
        self, name: str, known: Mapping[str, Any], used: Mapping[str, Any], disk: Use | None
    ) -> Node:
        cpu, memory = self._sight.limits(name, known)
        in_use, size = disk or (None, None)
        return Node(
            name=name,
            site=known["site"],
            health=self._stored.health(name),
            cpu_limit=cpu,
            memory_limit=memory,
            disk=in_use,
            disk_size=size,
            **used,
        )
