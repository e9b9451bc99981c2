# SPDX-License-Identifier: GPL-3.0-or-later
"""The answer in words: sentences over factors, disturbances, objectives and overheads.

A difference is claimed only where the 95 % interval of its ratio leaves 1 out. With one repeat
there is no interval, so the numbers stand beside each other and nothing is claimed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from pkgctl.measure import phases
from pkgctl.measure.evaluation import Evaluation, link_verdicts
from pkgctl.measure.record import Scalar
from pkgctl.measure.table import Row, Table
from pkgctl.report.contrast import Verdict, contrast
from pkgctl.report.disturbances import disturbance_sentences
from pkgctl.report.objectives import objective_sentences
from pkgctl.report.overheads import overhead_sentences
from pkgctl.report.plan import (
    Plan,
    lowest_and_highest,
    plan_of,
    show_level,
    show_scalar,
)
from pkgctl.report.reaction import reaction_sentences
from pkgctl.report.sentences import ONE_REPEAT, Kind, Sentence, Strong, change, sides, value
from pkgctl.report.strain import strain_sentences
from pkgctl.report.subjects import Subject, subjects


def answer(evaluation: Evaluation) -> list[Sentence]:
    """Return the sentences that answer a run's question, the most important first."""
    plan, table = plan_of(evaluation.results.record), evaluation.table
    found: list[Sentence] = [*_incomplete(evaluation)]
    for subject in subjects(table):
        for factor in plan.steady:
            found += _steady(plan, table, subject, factor)
        found += disturbance_sentences(plan, evaluation, subject)
    found += objective_sentences(plan, table)
    found += reaction_sentences(plan, table)
    found += overhead_sentences(plan, table)
    return [*found, *strain_sentences(evaluation.results.measured), *_links(evaluation)]


def _incomplete(evaluation: Evaluation) -> Iterator[Sentence]:
    planned = len(evaluation.results.record.runs)
    measured = len(evaluation.results.measured)
    if not planned:
        yield Sentence(("No run was planned, so nothing was measured.",), Kind.INCOMPLETE)
    elif measured < planned:
        count = Strong(f"{measured} of {planned}")
        rest = " planned repeats were measured; what follows rests on these alone."
        yield Sentence(("Only ", count, rest), Kind.INCOMPLETE)
    if measured and evaluation.results.record.objectives and not evaluation.results.requests.height:
        text = "No request was recorded, so nothing can be said of latency or of objectives."
        yield Sentence((text,), Kind.INCOMPLETE)


# What a factor that is not a disturbance does


def _steady(plan: Plan, table: Table, subject: Subject, factor: str) -> Iterator[Sentence]:
    if len(plan.levels[factor]) < 2:
        return
    levels = plan.levels[factor]
    words, rows = subject.rows(
        table, phases.ALL, [plan.cell(**{factor: level}) for level in levels]
    )
    known = {level: row for level, row in zip(levels, rows, strict=True) if row}
    if len(known) < 2:
        return
    where = plan.where(factor)
    if factor == plan.scale:
        yield from _along(words, factor, known, where)
    else:
        yield from _among(words, factor, known, where)


def _along(words: str, factor: str, rows: Mapping[Scalar, Row], where: str) -> Iterator[Sentence]:
    low, high = lowest_and_highest(rows)
    found = contrast(rows[low], rows[high])
    if found is None:
        return
    step = f"Going from {show_level(factor, low)} to {show_scalar(high)}"
    ends = (f"with {show_scalar(low)}", f"with {show_scalar(high)}")
    if found.clear:
        verb = "cut" if found.verdict is Verdict.LOWERED else "raised"
        yield Sentence((f"{step} {verb} {words} ", *change(found), f"{where}."), Kind.CLEAR)
    elif found.verdict is Verdict.UNCLEAR:
        text = f"{step} made no clear difference to {words}: "
        yield Sentence((text, *sides(found, *ends), f"{where}."), Kind.UNCLEAR)
    else:
        text = f"{step}, {words} was "
        yield Sentence((text, *sides(found, *ends), where, ONE_REPEAT), Kind.MEASURED)


def _among(words: str, factor: str, rows: Mapping[Scalar, Row], where: str) -> Iterator[Sentence]:
    # Of equal ones the first and the last, for two are compared.
    order = sorted(rows, key=lambda level: rows[level].mean or 0.0)
    best, worst = order[0], order[-1]
    found = contrast(rows[best], rows[worst])
    if found is None:
        return
    names = (f"with {show_scalar(best)}", f"with {show_scalar(worst)}")
    compared = f"Comparing {len(rows)} levels of {factor}, "
    if found.clear:
        text = f"{compared}{words} was lowest at "
        low, high = value(found.before), value(found.after, named=False)
        parts = (text, *low, f" {names[0]} and highest at ", *high, f" {names[1]}{where}.")
        yield Sentence(parts, Kind.CLEAR)
    elif found.verdict is Verdict.UNCLEAR:
        text = f"{compared}there is no clear difference in {words}: "
        yield Sentence((text, *sides(found, *names), f"{where}."), Kind.UNCLEAR)
    else:
        text = f"{compared}{words} was "
        yield Sentence((text, *sides(found, *names), where, ONE_REPEAT), Kind.MEASURED)


def _links(evaluation: Evaluation) -> Iterator[Sentence]:
    verdicts = link_verdicts(evaluation.results)
    judged = verdicts["pass"] + verdicts["fail"]
    if not sum(verdicts.values()):
        warning = "No link was measured, so nothing says that the network was what was asked for."
        yield Sentence((warning,), Kind.CAUTION, rank=2)
        return
    failed = verdicts["fail"]
    text = (
        Strong(f"{verdicts['pass']} of {judged}"),
        " measured links were what was asked of them",
        f"; {_were(failed)} not" if failed else "",
        f"; {_were(verdicts['unmeasured'])} not measured" if verdicts["unmeasured"] else "",
        ".",
    )
    yield Sentence(text, Kind.CAUTION if failed or not judged else Kind.MEASURED)


def _were(count: int) -> str:
    return f"{count} {'was' if count == 1 else 'were'}"
