# SPDX-License-Identifier: GPL-3.0-or-later
"""The links of a testbed measured with a probe in the nodes, before anything else runs there."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from pkgctl.errors import TestbedError
from pkgctl.experiment import verify
from pkgctl.experiment.verify import Pair, Verdict
from pkgctl.local.backend import LocalBackend, job_name, program

PORT = 5201
PING_SECONDS = 0.01
GOODPUT_SECONDS = 1.0
PATIENCE_SECONDS = 20.0
# A pair that fails is measured again: a busy machine may delay one measurement, not three.
ATTEMPTS = 3

Found = dict[str, float | None]


class Prober:
    """Measures pairs of nodes, a round at a time."""

    def __init__(self, backend: LocalBackend) -> None:
        self._backend = backend
        self._count = 0
        self._servers: dict[str, str] = {}

    def serve(self, nodes: Iterable[str]) -> None:
        """Start the far end on nodes.

        Raises:
            TestbedError: if one does not start.
        """
        for node in nodes:
            name = self._servers[node] = job_name("probe-serve", node)
            argv = [*program("probe"), "serve", "--port", str(PORT)]
            self._launch(name, node, argv)
        self._wait(lambda: all(self._is_up(name) for name in self._servers.values()))

    def close(self) -> None:
        """Stop the far ends."""
        self._backend.remove(name for name in self._servers.values() if name in self._backend.jobs)

    def measure(
        self, pairs: Mapping[Pair, int], what: str, *options: str
    ) -> dict[Pair, list[dict[str, Any]]]:
        """Return what the probes say of each pair; an empty answer where one could not measure.

        Args:
            pairs: how many probes measure each at once; no node may stand twice.
            what: what to measure: rtt, loss or goodput.
            options: and how: ``--count 25``.
        """
        names = {
            pair: [self._start(pair, what, options) for _ in range(count)]
            for pair, count in pairs.items()
        }
        everyone = [name for mine in names.values() for name in mine]
        self._wait(lambda: all(self._backend.jobs[name].has_ended for name in everyone))
        answers = {
            pair: [_decoded(self._backend.output(name)) for name in mine]
            for pair, mine in names.items()
        }
        self._backend.remove(everyone)
        return answers

    def _start(self, pair: Pair, what: str, options: Sequence[str]) -> str:
        src, dst = pair
        self._count += 1
        name = f"probe-{self._count}"
        argv = [*program("probe"), what, self._backend.address(dst), str(PORT), *options]
        self._launch(name, src, argv, ready="exec")
        return name

    def _launch(self, name: str, node: str, argv: list[str], **fields: Any) -> None:
        labels = {"kind": "probe", "owner": "experiment"}
        self._backend.launch(name, node, argv, outside=True, labels=labels, **fields)

    def _is_up(self, name: str) -> bool:
        job = self._backend.jobs[name]
        if job.has_ended:
            raise TestbedError(f"{name} on {job.node} does not start: {job.error}")
        return job.is_ready

    def _wait(self, is_done: Callable[[], bool]) -> None:
        until = time.monotonic() + PATIENCE_SECONDS
        if not self._backend.wait(is_done, until, lambda _: None):
            raise TestbedError(f"a link probe did not end within {PATIENCE_SECONDS:g} s")


def measure_links(
    backend: LocalBackend, pairs: Sequence[Pair], asked: Mapping[Pair, Verdict]
) -> list[Verdict]:
    """Return the verdict on each pair; one that fails is measured again, and the last time counts.

    Args:
        backend: the testbed, on which nothing else runs.
        pairs: which pairs to measure.
        asked: what is asked of each.
    """
    prober = Prober(backend)
    verdicts: dict[Pair, Verdict] = {}
    try:
        prober.serve(sorted({end for pair in pairs for end in pair}))
        left = list(pairs)
        for _ in range(ATTEMPTS):
            verdicts |= _measure_all(prober, left, asked)
            left = [pair for pair in left if verdicts[pair].verdict == "fail"]
    finally:
        prober.close()
    return list(verdicts.values())


def _measure_all(
    prober: Prober, pairs: Sequence[Pair], asked: Mapping[Pair, Verdict]
) -> dict[Pair, Verdict]:
    found: dict[Pair, Found] = {pair: {} for pair in pairs}
    rates = [pair for pair in pairs if verify.streams(asked[pair])][: verify.MOST_GOODPUT]
    losses = [pair for pair in pairs if verify.has_measurable_loss(asked[pair])]
    pings = ("--count", str(verify.PINGS), "--interval", str(PING_SECONDS))
    for together in verify.rounds(pairs):
        for pair, (answer,) in prober.measure(dict.fromkeys(together, 1), "rtt", *pings).items():
            found[pair] |= {"rtt_p50": answer.get("p50"), "rtt_p95": answer.get("p95")}
    for together in verify.rounds(rates):
        counts = {pair: verify.streams(asked[pair]) for pair in together}
        seconds = ("--seconds", str(GOODPUT_SECONDS))
        for pair, answers in prober.measure(counts, "goodput", *seconds).items():
            found[pair] |= {"goodput": _total(answers)}
    for together in verify.rounds(losses[: verify.MOST_GOODPUT]):
        packets = ("--count", str(verify.LOSS_PACKETS))
        for pair, (answer,) in prober.measure(dict.fromkeys(together, 1), "loss", *packets).items():
            found[pair] |= {"loss": answer.get("loss")}
    return {pair: verify.judge(asked[pair], found[pair]) for pair in pairs}


def _total(answers: Sequence[Mapping[str, Any]]) -> float | None:
    """Return what several streams carried together, None if one of them could not measure."""
    goodputs = [answer.get("goodput") for answer in answers]
    return None if None in goodputs else float(sum(filter(None, goodputs)))


def _decoded(text: str) -> dict[str, Any]:
    """Return the JSON object that a probe printed, an empty one if it printed none."""
    for line in reversed(text.splitlines()):
        if line.startswith("{"):
            answer: dict[str, Any] = json.loads(line)
            return answer
    return {}
