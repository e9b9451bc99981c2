# SPDX-License-Identifier: GPL-3.0-or-later
"""What Kubernetes did about a node that was gone, in words."""

from __future__ import annotations

import math
from collections.abc import Iterator

from pkgctl.measure import phases
from pkgctl.measure.record import Cell
from pkgctl.measure.table import Row, Table
from pkgctl.report.numbers import show_mean
from pkgctl.report.plan import Plan, show_levels
from pkgctl.report.sentences import Kind, Sentence, Strong, value


def reaction_sentences(plan: Plan, table: Table) -> Iterator[Sentence]:
    """Yield when Kubernetes noticed that a node was gone, and when its replicas were replaced."""
    for node in table.subjects("notice_delay"):
        for cell in plan.record.cells:
            noticed = _found(table, "notice_delay", node, cell)
            if noticed is not None:
                where = f" with {show_levels(cell.factors)}" if cell.factors else ""
                lead = f"Kubernetes took {node} for not ready "
                parts = (lead, *value(noticed), " after a disturbance set in there")
                yield Sentence((*parts, where, *_replaced(table, node, cell), "."), Kind.MEASURED)


def _replaced(table: Table, node: str, cell: Cell) -> tuple[str, ...]:
    count = _found(table, "replaced", node, cell)
    ready = table.find("replace_delay", node, phases.ALL, cell.id)
    if count is None or not count.mean or ready is None:
        return ("; none of its replicas was replaced",)
    if ready.mean is None or math.isinf(ready.mean):
        return ("; what was to replace its replicas did not become ready in each repeat",)
    return ("; its replicas were replaced by ", Strong(show_mean(ready)), " after that onset")


def _found(table: Table, metric: str, subject: str, cell: Cell) -> Row | None:
    row = table.find(metric, subject, phases.ALL, cell.id)
    return row if row and row.mean is not None else None
