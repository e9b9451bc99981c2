# SPDX-License-Identifier: GPL-3.0-or-later
"""What an answer is about: the latency of a service, or the batch queue."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pkgctl.measure.provisioning import BATCH
from pkgctl.measure.record import Cell
from pkgctl.measure.table import Row, Table


@dataclass(frozen=True, slots=True)
class Choice:
    """A metric that an answer may be given in, and its words."""

    metric: str
    words: str


@dataclass(frozen=True, slots=True)
class Subject:
    """A service or job class with the metrics to tell of it, the best first."""

    name: str
    choices: tuple[Choice, ...]

    def rows(
        self, table: Table, phase: str, cells: Sequence[Cell | None]
    ) -> tuple[str, list[Row | None]]:
        """Return the words and rows of the first metric that most of the cells can state."""
        found = [(choice.words, self._rows(table, choice, phase, cells)) for choice in self.choices]
        return max(found, key=lambda each: sum(row is not None for row in each[1]))

    def _rows(
        self, table: Table, choice: Choice, phase: str, cells: Sequence[Cell | None]
    ) -> list[Row | None]:
        rows = [cell and table.find(choice.metric, self.name, phase, cell.id) for cell in cells]
        return [row if row and row.mean is not None else None for row in rows]


def subjects(table: Table) -> list[Subject]:
    """Return what the answer is about: each service's latency, then the batch queue."""
    services = [
        Subject(
            name,
            tuple(
                Choice(f"latency_p{share}", f"the p{share} latency of {name}") for share in (95, 50)
            ),
        )
        for name in table.subjects("latency_p95")
    ]
    queue = Subject(
        BATCH,
        (
            Choice("completion_mean", "the mean completion time of batch jobs"),
            Choice("wait_mean", "the mean queue wait of batch jobs"),
        ),
    )
    return services + ([queue] if BATCH in table.subjects("completion_mean") else [])
