# SPDX-License-Identifier: GPL-3.0-or-later
"""The links of a testbed measured with probes in the nodes, by what is in force now."""

from __future__ import annotations

import fcntl
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from pkgctl.errors import TestbedError
from pkgctl.local.backend import LocalBackend, job_name
from pkgctl.nodeside import readback as node_readback
from pkgctl.nodeside import verdicts, verification

START_SECONDS = 20.0
LABELS = {"kind": "probe", "owner": "experiment"}

Pair = verification.Pair
Verdict = verdicts.Verdict
Found = dict[tuple[Pair, str], verdicts.Measured]


@dataclass(frozen=True)
class Asked:
    """What is in force on a testbed: of each pair to measure, and which nodes cannot be asked."""

    verdicts: Mapping[Pair, Verdict]
    excused: Mapping[Pair, str]


def sites(state: Mapping[str, Any]) -> dict[str, str]:
    """Return the site of each node of a testbed."""
    return {name: node["site"] for name, node in state["nodes"].items()}


def ask(backend: LocalBackend, pairs: Sequence[Pair]) -> Asked:
    """Return what the layers that are in force now ask of pairs."""
    facts = backend.reach.in_force(backend.state)
    down = node_readback.unready(facts)
    excused = {
        pair: f"{end} is {down[end]}" for pair in pairs for end in reversed(pair) if end in down
    }
    return Asked(verification.ask(pairs, node_readback.matrix(facts)), excused)


def verify(backend: LocalBackend, pairs: Sequence[Pair], budget: float) -> list[Verdict]:
    """Measure pairs and return the verdict on each.

    One that fails is measured again while time is left, and the last time counts. One whose
    setting changes meanwhile has no verdict.

    Args:
        backend: the testbed.
        pairs: which, the most important first.
        budget: about how many seconds this may take.

    Raises:
        TestbedError: if the probes cannot be started.
    """
    until = time.monotonic() + budget
    asked = ask(backend, pairs)
    todo = {pair: asked.verdicts[pair] for pair in pairs if pair not in asked.excused}
    found: Found = {}
    with _alone(backend), Prober(backend, {end for pair in todo for end in pair}) as prober:
        # Here a site's access holds for each pair by itself: nothing but nodes is shared.
        plan = verification.schedule(todo, budget)
        late = list(plan.left_out)
        for _ in range(verification.ATTEMPTS):
            late += prober.follow(plan.rounds, found, until)
            failed = verification.again(todo, verification.conclude(todo, found))
            plan = verification.schedule(failed, until - time.monotonic())
    return verification.conclude(asked.verdicts, found, late, _excused(backend, asked))


def _excused(backend: LocalBackend, asked: Asked) -> dict[Pair, str]:
    """Return the pairs without a verdict: unready, or set anew while they were measured."""
    now = ask(backend, list(asked.verdicts))
    changed = {
        pair: "its setting changed while it was measured"
        for pair, wanted in asked.verdicts.items()
        if wanted != now.verdicts[pair]
    }
    return {**changed, **now.excused, **asked.excused}


@contextmanager
def _alone(backend: LocalBackend) -> Iterator[None]:
    """Hold the testbed against another verification, and remove what one that was killed left."""
    with (backend.paths.run / "verify.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise TestbedError("another verification of this testbed is running") from error
        left = [name for name, job in backend.jobs.items() if job.labels.get("kind") == "probe"]
        backend.remove(left)
        yield


class Prober:
    """Runs the measurements of a schedule; the far ends listen while the block runs."""

    def __init__(self, backend: LocalBackend, nodes: Iterable[str]) -> None:
        self._backend = backend
        self._nodes = sorted(nodes)
        self._count = 0
        self._servers: list[str] = []

    def __enter__(self) -> Prober:
        """Start the far ends.

        Raises:
            TestbedError: if one does not start.
        """
        try:
            for node in self._nodes:
                name = job_name("probe-serve", node)
                argv = [*self._backend.program("probe"), "serve", "--port", str(verification.PORT)]
                self._launch(name, node, argv)
                self._servers.append(name)
            self._wait(lambda: all(map(self._is_up, self._servers)), START_SECONDS)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """Stop the far ends."""
        self._backend.remove(name for name in self._servers if name in self._backend.jobs)

    def follow(
        self, rounds: Iterable[verification.Round], found: Found, until: float
    ) -> list[verification.Measurement]:
        """Measure a round after another; return what there was no time for.

        Args:
            rounds: what to measure.
            found: what is measured is put here.
            until: no round begins after this (CLOCK_MONOTONIC).
        """
        late = []
        for one in rounds:
            if time.monotonic() >= until:
                late += one.measurements
            else:
                found |= self._measure(one)
        return late

    def _measure(self, one: verification.Round) -> Found:
        names = {each: self._start(each) for each in one.measurements}
        everyone = [name for mine in names.values() for name in mine]
        self._wait(
            lambda: all(self._backend.jobs[name].has_ended for name in everyone),
            START_SECONDS + 2 * one.seconds,
        )
        answers = {
            each: [verification.read_output(self._backend.output(name)) for name in mine]
            for each, mine in names.items()
        }
        self._backend.remove(everyone)
        return {
            (each.pair, each.what): verification.read_answers(each.what, told)
            for each, told in answers.items()
        }

    def _start(self, one: verification.Measurement) -> list[str]:
        source, target = one.pair
        where = [self._backend.address(target), str(verification.PORT)]
        argv = [*self._backend.program("probe"), one.what, *where, *one.options]
        names = []
        for _ in range(one.streams):
            self._count += 1
            names.append(f"probe-{self._count}")
            self._launch(names[-1], source, argv, ready="exec")
        return names

    def _launch(self, name: str, node: str, argv: list[str], **fields: Any) -> None:
        self._backend.launch(name, node, argv, outside=True, labels=LABELS, **fields)

    def _is_up(self, name: str) -> bool:
        job = self._backend.jobs[name]
        if job.has_ended:
            raise TestbedError(f"{name} on {job.node} does not start: {job.error}")
        return job.is_ready

    def _wait(self, is_done: Callable[[], bool], seconds: float) -> None:
        seconds *= self._backend.reach.patience
        if not self._backend.wait(is_done, time.monotonic() + seconds, lambda _: None):
            raise TestbedError(f"a link probe did not end within {seconds:g} s")
