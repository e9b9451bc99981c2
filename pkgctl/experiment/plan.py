# SPDX-License-Identifier: GPL-3.0-or-later
"""Which runs an experiment makes, in which order, with which seeds, and how long they take.

Pure. A repeat is a block: each cell runs once in it, in an order drawn from the seed, so that a
slow drift of the machine spreads over all cells alike. Within a block every cell draws the same
arrivals (common random numbers), so that cells compare in pairs.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pkgctl.spec import Cell, Experiment

# Seconds, as measured on two cores; the estimate is corrected by the runs as they end.
UP_SECONDS = 3.0
VERIFY_SECONDS = 6.0
ARM_SECONDS = 3.0
RUN_SECONDS = 2.0


@dataclass(frozen=True)
class Run:
    """One repeat of one cell; ``seed`` is the repeat's, the same in every cell."""

    cell: Cell
    repeat: int
    seed: int
    folder: str

    @property
    def key(self) -> tuple[str, int]:
        """What tells this run from the others."""
        return self.cell.id, self.repeat


def derive(seed: int, *labels: object) -> int:
    """Return a seed of 63 bits for a purpose; different labels give independent streams."""
    text = "/".join([str(seed), *map(str, labels)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8]) >> 1


def stream(seed: int, *labels: object) -> random.Random:
    """Return a generator of random numbers for a purpose."""
    return random.Random(derive(seed, *labels))


def runs(experiment: Experiment) -> list[Run]:
    """Return all runs in the order in which they are made."""
    return [run for repeat in range(experiment.head.repeats) for run in _block(experiment, repeat)]


def _block(experiment: Experiment, repeat: int) -> Iterator[Run]:
    seed = derive(experiment.head.seed, "repeat", repeat)
    order = list(enumerate(experiment.cells))
    stream(seed, "order").shuffle(order)
    for index, cell in order:
        yield Run(cell, repeat, seed, f"cells/{index:03d}-r{repeat}")


def run_seconds(run: Run, experiment: Experiment) -> float:
    """Return about how many seconds a run takes: its load, its pauses and its deployment."""
    head = experiment.head
    return head.warm_up + run.cell.body.duration + head.cool_down + RUN_SECONDS


def estimate(experiment: Experiment, todo: Sequence[Run], *, up: bool = True) -> float:
    """Return about how many seconds the runs take, with all that stands around them."""
    disturbed = {name for run in todo for name in run.cell.body.active}
    before = UP_SECONDS * up + VERIFY_SECONDS * (experiment.head.verify != "none")
    return before + ARM_SECONDS * len(disturbed) + sum(run_seconds(run, experiment) for run in todo)
