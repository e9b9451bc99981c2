# SPDX-License-Identifier: GPL-3.0-or-later
"""A run's answer for the terminal in which it ran."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path

from pkgctl.measure.evaluation import Evaluation, evaluate
from pkgctl.measure.table import Table
from pkgctl.report.answer import answer
from pkgctl.report.cells import Column, column_row, columns_of
from pkgctl.report.matrices import cell_name
from pkgctl.report.numbers import plain, show_mean
from pkgctl.report.page import REPORT_FILE, counts
from pkgctl.report.plan import Plan, plan_of
from pkgctl.report.sentences import Kind, Sentence

LINES, WIDTH = 25, 80
MOST_CELLS = 8
MARKS = {Kind.CLEAR: "+", Kind.UNCLEAR: "?", Kind.MEASURED: "-"}
LEGEND = "+ clear, ? not clear by the 95 % intervals, - measured"
# What a line has room for first.
PREFERRED = (
    "latency_p95",
    "miss_share",
    "slo_attainment",
    "completion_mean",
    "wait_p95",
    "provisioning_cold",
    "scaling_time",
    "cpu_used_of_capacity",
)


def summary_text(folder: Path) -> str:
    """Return at most 25 lines of at most 80 columns; only the path may be longer."""
    evaluation = evaluate(folder)
    head, tail = [*_head(evaluation)], [*_tail(evaluation, folder)]
    plan = plan_of(evaluation.results.record)
    numbers = [*_numbers(plan, evaluation.table)]
    room = LINES - len(head) - len(tail) - len(numbers)
    return "\n".join([*head, *_answer(answer(evaluation), room), *numbers, *tail])


def _head(evaluation: Evaluation) -> Iterator[str]:
    record = evaluation.results.record
    yield shorten(f"{record.name}: {record.status}, {counts(evaluation)}")
    if record.question:
        yield from textwrap.wrap(record.question, WIDTH, max_lines=2, placeholder=" …")
    yield ""


def _tail(evaluation: Evaluation, folder: Path) -> Iterator[str]:
    results = evaluation.results
    for name, found in (("Missing", results.problems), ("Warning", results.record.warnings)):
        if found:
            more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
            yield shorten(f"{name}: {found[0]}", WIDTH - len(more)) + more
    yield f"Report: {folder / REPORT_FILE}"


def shorten(text: str, width: int = WIDTH) -> str:
    """Return a text cut to a width."""
    return text if len(text) <= width else text[: width - 1] + "…"


def _answer(sentences: Sequence[Sentence], room: int) -> Iterator[str]:
    """Yield the sentences that fit, in order, and how many did not."""
    blocks = [_block(each) for each in sorted(sentences, key=lambda each: each.rank)]
    # Two lines are kept for the legend and for the blank line below it.
    left, shown = room - 2, 0
    for block in blocks:
        if len(block) <= left:
            yield from block
            left, shown = left - len(block), shown + 1
    more = len(blocks) - shown
    yield shorten(f"({LEGEND}{f'; {more} more in the report' if more else ''})")
    yield ""


def _block(sentence: Sentence) -> list[str]:
    mark = f"{MARKS.get(sentence.kind, '!')} "
    lines = textwrap.wrap(sentence.short, WIDTH, initial_indent=mark, subsequent_indent="  ")
    return [plain(line) for line in lines]


def _numbers(plan: Plan, table: Table) -> Iterator[str]:
    """Yield the main numbers by cell, as many columns and rows as there is room for."""
    columns = _columns(plan, table)
    cells = plan.record.cells[:MOST_CELLS]
    if not columns or not cells:
        return
    names = [cell_name(cell) for cell in cells]
    corner = ", ".join(plan.factors) or "cell"
    first = min(30, max(len(name) for name in (*names, corner)))
    rows = [[show_mean(column_row(column, cell, table)) for column in columns] for cell in cells]
    headers = [column.title for column in columns]
    widths = [max(map(len, texts)) for texts in zip(headers, *rows, strict=True)]
    fit = _fit(first, widths)
    for name, texts in zip((corner, *names), (headers, *rows), strict=True):
        shown = [text.rjust(width) for text, width in zip(texts[:fit], widths[:fit], strict=True)]
        yield plain("  ".join([shorten(name, first).ljust(first), *shown])).rstrip()
    left = len(plan.record.cells) - len(cells)
    if left > 0:
        yield f"({left} more cells in the report)"


def _fit(first: int, widths: Sequence[int]) -> int:
    used, fit = first, 0
    for width in widths:
        used += 2 + width
        if used > WIDTH:
            break
        fit += 1
    return fit


def _columns(plan: Plan, table: Table) -> list[Column]:
    """Return the columns in the order in which they are worth their room."""

    def place(column: Column) -> int:
        known = column.metric in PREFERRED
        return PREFERRED.index(column.metric) if known else len(PREFERRED)

    return sorted(columns_of(plan, table), key=place)
