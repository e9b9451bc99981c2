# SPDX-License-Identifier: GPL-3.0-or-later
"""The load generators: one on each node from which requests come, told what to send and whereto.

Their plans and results are files in the node's own folder, their control is a datagram socket
there, so nothing of theirs crosses the network that they load.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pkgctl.errors import TestbedError
from pkgctl.experiment.folder import decoded
from pkgctl.local.backend import LocalBackend, job_name

INSIDE = "/run/pkgctl/load"
Planned = tuple[float, str, float, int, int]
Message = dict[str, Any]


class Client:
    """The load generator on one node."""

    def __init__(self, backend: LocalBackend, node: str) -> None:
        self.node = node
        self.job = job_name("load", node)
        self._backend = backend
        self._files = backend.client_files(node)

    def start(self, requests: Sequence[Planned], timeout: float, seed: int) -> None:
        """Start the generator with its plan; it waits to be told when to begin.

        Args:
            requests: seconds after the begin, service, CPU seconds, bytes there, bytes back.
            timeout: seconds after which an answer is not waited for any longer.
            seed: for choices between endpoints.
        """
        self._files.clear()
        plan = {"timeout": timeout, "seed": seed, "requests": list(requests)}
        self._files.put("plan.json", json.dumps(plan))
        paths = {"plan": "plan.json", "out": "out.jsonl", "control": "control"}
        options = [word for key, name in paths.items() for word in (f"--{key}", f"{INSIDE}/{name}")]
        labels = {"kind": "load", "owner": "experiment"}
        argv = [*self._backend.program("load"), *options]
        self._backend.launch(self.job, self.node, argv, outside=True, labels=labels)

    def tell(self, message: Message) -> None:
        """Send a message to the generator.

        Raises:
            TestbedError: if it is gone.
        """
        self._files.tell(message)

    def results(self) -> list[Message]:
        """Return one row for each request that has ended."""
        return list(decoded(self._files.read("out.jsonl").splitlines()))

    def clean(self) -> None:
        """Remove its files."""
        self._files.clear()


class Clients:
    """All load generators of one run."""

    def __init__(self, backend: LocalBackend, plans: Mapping[str, Sequence[Planned]]) -> None:
        self._backend = backend
        self._plans = plans
        self._all = [Client(backend, node) for node in plans]

    @property
    def jobs(self) -> list[str]:
        """The generators' jobs."""
        return [client.job for client in self._all]

    def start(self, timeout: float, seed: int) -> None:
        """Start every generator."""
        for client in self._all:
            client.start(self._plans[client.node], timeout, seed)

    def are_ready(self) -> bool:
        """Return whether all of them listen.

        Raises:
            TestbedError: if one ended instead.
        """
        for job in self.jobs:
            if self._backend.jobs[job].has_ended:
                reason = self._backend.jobs[job].error or "it ended"
                raise TestbedError(f"the load generator {job} does not start: {reason}")
        return all(self._backend.jobs[job].is_ready for job in self.jobs)

    def have_ended(self) -> bool:
        """Return whether every request has been answered or given up."""
        return all(self._backend.jobs[job].has_ended for job in self.jobs)

    def list_endpoints(self, service: str, policy: str, endpoints: Iterable[Message]) -> None:
        """Tell all of them where a service answers, the nearest first if that is the policy."""
        found = list(endpoints)
        links = self._backend.view().links if policy == "nearest" else {}
        for client in self._all:
            if not self._backend.jobs[client.job].has_ended:
                ordered = sorted(found, key=lambda each: _distance(client.node, each, links))
                told = {"op": "endpoints", "service": service, "policy": policy}
                _tell_if_there(client, {**told, "endpoints": ordered})

    def begin(self, t0: float) -> None:
        """Let all of them begin at a time (CLOCK_MONOTONIC)."""
        for client in self._all:
            client.tell({"op": "start", "t0": t0})

    def stop(self) -> None:
        """Let them give up what is not answered yet."""
        for client in self._all:
            if not self._backend.jobs[client.job].has_ended:
                _tell_if_there(client, {"op": "stop"})

    def results(self) -> list[tuple[str, Message]]:
        """Return the node and the row of each request that has ended."""
        return [(client.node, row) for client in self._all for row in client.results()]

    def clean(self) -> None:
        """Remove their files."""
        for client in self._all:
            client.clean()


def _tell_if_there(client: Client, message: Message) -> None:
    """Tell a generator something, unless it has ended; the news of that may still be on its way."""
    with contextlib.suppress(TestbedError):
        client.tell(message)


def _distance(node: str, endpoint: Message, links: Mapping[str, Any]) -> float:
    if not links or endpoint["node"] == node:
        return 0.0
    return float(links[node][endpoint["node"]].delay)
