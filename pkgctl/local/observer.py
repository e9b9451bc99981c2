# SPDX-License-Identifier: GPL-3.0-or-later
"""Pictures of a local testbed, one after each interval, for the live view.

The agent samples the control groups and ports, and reads the pairs' counters a few nodes at a time
so that what it has to do on time stays on time. The rest is read here.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing
from typing import Any

from pkgctl.errors import TestbedError
from pkgctl.local import delaylosses, overview
from pkgctl.local.agent import AgentClient
from pkgctl.local.diskuse import DiskUse, Use
from pkgctl.local.paths import Paths
from pkgctl.local.state import read_state
from pkgctl.local.storing import Stored
from pkgctl.local.streams import Stream
from pkgctl.nodeside import cgroups, delayclient
from pkgctl.nodeside import errors as node_errors
from pkgctl.watch import figures
from pkgctl.watch.figures import Carried, Pair
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
        self._stored = Stored(self._state)
        self._disks = DiskUse(paths)
        self._sample: dict[str, Any] | None = None
        self._counters: Counters = {}
        self._over = threading.Event()

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
        self._sample, self._counters = None, {}
        with (
            AgentClient(self._paths) as agent,
            closing(Stream(self._paths, "samples", interval=self._interval)) as samples,
        ):
            while not self._over.is_set():
                first = samples.next(time.monotonic() + _LOOK_UP_SECONDS)
                # What came while we were busy is out of date: only the latest counts.
                sample = [first, *samples.waiting()][-1]
                if sample is not None and (picture := self._look(agent, sample)) is not None:
                    yield picture

    def _look(self, agent: AgentClient, sample: dict[str, Any]) -> Picture | None:
        self._refresh()
        counters, before = self._read_counters(agent), self._sample
        old, self._sample, self._counters = self._counters, sample, counters
        if before is None:
            return None
        used = figures.use(before, sample)
        outline = agent.call("layer-list")
        return self._picture(used, outline, old, counters, sample["mono"] - before["mono"])

    def _without_agent(self) -> Picture:
        """Return what can be seen while the agent does not answer."""
        self._refresh()
        self._sample = None
        note = "the agent does not answer: no figures, no times"
        return self._picture({}, None, {}, {}, 0.0, note)

    def _refresh(self) -> None:
        """Read anew what a testbed is made of, for `up` may have changed it."""
        fresh = read_state(self._paths)
        if fresh != self._state:
            self._state, self._stored = fresh, Stored(fresh)
        self._stored.refresh()

    def _read_counters(self, agent: AgentClient) -> Counters:
        found: Counters = {}
        names = list(self._state["nodes"])
        for first in range(0, len(names), _AT_ONCE):
            answer = agent.call("traffic", nodes=names[first : first + _AT_ONCE])
            mono = answer["mono"]
            for source, target, count, packets, drops in answer["pairs"]:
                found[source, target] = Carried(count, packets, drops, mono)
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
        delay_line = overview.ask(self._paths, delayclient.SOCKET, "status")
        missing = () if delay_line else ("the delay line does not answer: nothing is delayed",)
        disks = self._disks.read(self._state["nodes"])
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
            links=figures.with_losses(links, delaylosses.read(self._paths, self._state, links)),
            layers=self._stored.layers(outline, now),
            delay_line=delay_line,
            notes=(*notes, *missing),
        )

    def _node(
        self, name: str, known: Mapping[str, Any], used: Mapping[str, Any], disk: Use | None
    ) -> Node:
        group = cgroups.group(known["cgroup"])
        in_use, size = disk or (None, None)
        return Node(
            name=name,
            site=known["site"],
            health=self._stored.health(name),
            cpu_limit=_now(group.cpu, known["cpu"]),
            memory_limit=_now(group.memory, known["memory"]),
            disk=in_use,
            disk_size=size,
            **used,
        )


def _now(read: Callable[[], Any], declared: Any) -> Any:
    """Return a limit in force; what was declared, where there is none or the node went away."""
    try:
        return read() or declared
    except (ValueError, node_errors.KernelError):
        return declared
