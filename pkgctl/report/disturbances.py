# SPDX-License-Identifier: GPL-3.0-or-later
"""What a disturbance did while it was on, and what of it remained afterwards, in words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from pkgctl.measure import phases
from pkgctl.measure.evaluation import Evaluation
from pkgctl.measure.record import Cell, Scalar
from pkgctl.measure.table import Table
from pkgctl.report.contrast import Contrast, Verdict, contrast
from pkgctl.report.numbers import show_mean
from pkgctl.report.plan import Plan, show_levels, show_scalar
from pkgctl.report.sentences import (
    ONE_REPEAT,
    Kind,
    Sentence,
    Strong,
    change,
    kind_of,
    listed,
    sides,
)
from pkgctl.report.settings import settings
from pkgctl.report.subjects import Subject


@dataclass(frozen=True)
class Effect:
    """A disturbance's effect at one place of the experiment.

    Attributes:
        where: the place, such as ``replicas = 1``; empty if there is only one.
        words: what the numbers are of.
        found: without the disturbance against with it.
        after: the same for the time after its end, if that was measured.
    """

    where: str
    words: str
    found: Contrast
    after: Contrast | None

    @property
    def place(self) -> str:
        """The place as the end of a phrase."""
        return f" with {self.where}" if self.where else ""


def disturbance_sentences(
    plan: Plan, evaluation: Evaluation, subject: Subject
) -> Iterator[Sentence]:
    """Yield what each disturbance did to a subject, at both ends of the scale."""
    known = settings(evaluation.results.folder)
    for name, effects in _effects(plan, evaluation.table, subject):
        told = f"{name} ({known[name]})" if name in known else name
        yield from _claims(told, effects)
        yield from (_no_claim(name, each) for each in effects if not each.found.clear)
        yield from _recovery(name, [each for each in effects if each.found.clear])


def _effects(plan: Plan, table: Table, subject: Subject) -> Iterator[tuple[str, list[Effect]]]:
    if plan.disturbing is None:
        yield from _within(plan, table, subject)
        return
    quiet = plan.baseline(plan.disturbing)
    for level in plan.levels[plan.disturbing]:
        if level != quiet:
            yield show_scalar(level), [*_between(plan, table, subject, (quiet, level))]


def _places(plan: Plan) -> list[tuple[str, dict[str, Scalar]]]:
    """Return where a disturbance is looked at: at both ends of the scale."""
    fixed = {name: plan.baseline(name) for name in plan.steady}
    if plan.scale is None:
        return [(show_levels(fixed) if fixed else "", {})]
    found = [{plan.scale: level} for level in dict.fromkeys(plan.ends(plan.scale))]
    return [(show_levels(fixed | at), at) for at in found]


def _between(
    plan: Plan, table: Table, subject: Subject, levels: tuple[Scalar, Scalar]
) -> Iterator[Effect]:
    """Yield the effects that show between a cell with the disturbance and one without."""
    for where, at in _places(plan):
        cells = [plan.cell(**at, **{str(plan.disturbing): level}) for level in levels]
        words, rows = subject.rows(table, plan.telling, cells)
        _, later = subject.rows(table, phases.AFTER, cells)
        if found := contrast(*rows):
            yield Effect(where, words, found, contrast(*later))


def _within(plan: Plan, table: Table, subject: Subject) -> Iterator[tuple[str, list[Effect]]]:
    """Yield the effect of disturbances that every cell has: during against before."""
    runs = plan.record.runs
    active = dict.fromkeys(window.name for run in runs for window in run.windows if window.active)
    effects = [
        effect
        for where, at in _places(plan)
        if (effect := _inside(table, subject, where, plan.cell(**at)))
    ]
    if active:
        yield listed(list(active)), effects


def _inside(table: Table, subject: Subject, where: str, cell: Cell | None) -> Effect | None:
    by_phase = {
        phase: subject.rows(table, phase, [cell])
        for phase in (phases.BEFORE, phases.DURING, phases.AFTER)
    }
    words, (before,) = by_phase[phases.BEFORE]
    found = contrast(before, by_phase[phases.DURING][1][0])
    after = contrast(before, by_phase[phases.AFTER][1][0])
    return Effect(where, words, found, after) if found else None


# The sentences


def _claims(told: str, effects: Sequence[Effect]) -> Iterator[Sentence]:
    """Yield one sentence for the effects that raise, and one for those that lower."""
    for verdict in (Verdict.RAISED, Verdict.LOWERED):
        found = [each for each in effects if each.found.verdict is verdict]
        if found:
            lead = f"While {told} was on it {verdict} {found[0].words} "
            parts = _joined([(*change(each.found), each.place) for each in found])
            yield Sentence((lead, *parts, "."), Kind.CLEAR)


def _joined(items: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
    parts: list[str] = []
    for item in items:
        parts += [" and " if parts else "", *item]
    return tuple(parts)


def _no_claim(name: str, effect: Effect) -> Sentence:
    both = sides(effect.found, f"without {name}", "with it")
    where = f"With {effect.where}, {name}" if effect.where else name
    if effect.found.verdict is Verdict.UNCLEAR:
        lead = f"{where} made no clear difference to {effect.words}: "
        return Sentence((lead, *both, "."), Kind.UNCLEAR)
    lead = f"With {effect.where}, {effect.words}" if effect.where else effect.words
    return Sentence((lead[0].upper(), lead[1:], " was ", *both, ONE_REPEAT), Kind.MEASURED)


def _recovery(name: str, effects: Sequence[Effect]) -> Iterator[Sentence]:
    """Say whether anything remained of clear effects after their disturbance had ended."""
    known = [(each, each.after) for each in effects if each.after is not None]
    if not known:
        return
    same: Mapping[str, Sequence[tuple[Effect, Contrast]]] = {
        verdict: [
            (each, after) for each, after in known if after.verdict is each.found.verdict is verdict
        ]
        for verdict in (Verdict.RAISED, Verdict.LOWERED)
    }
    for verdict, remained in same.items():
        if remained:
            lead = f"After {name} had ended, {remained[0][0].words} was still {verdict}: "
            parts = _joined([_rest(each, after) for each, after in remained])
            yield Sentence((lead, *parts, "."), Kind.CLEAR)
    if not any(same.values()):
        kind = kind_of(after for _, after in known)
        text = f"After {name} had ended, no clear difference in {known[0][0].words} remained."
        yield Sentence((text,), Kind.UNCLEAR if kind is Kind.CLEAR else kind, rank=2)


def _rest(effect: Effect, after: Contrast) -> tuple[str, ...]:
    return Strong(show_mean(after.after)), ", ", Strong(after.ratio), effect.place
