# SPDX-License-Identifier: GPL-3.0-or-later
"""What a sentence of the answer is made of, and the words that sentences share."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from pkgctl.measure.table import Row
from pkgctl.report.contrast import Contrast, Verdict
from pkgctl.report.numbers import plain, show_mean, show_row

ONE_REPEAT = "; without a second repeat there is no interval, so no difference is claimed."


class Strong(str):
    """A part of a sentence that carries its weight: a number, mostly."""

    __slots__ = ()


class Aside(str):
    """A part in brackets that can be left out where there is little room."""

    __slots__ = ()


class Kind(StrEnum):
    """How far a sentence may be trusted; the value is what the report prints beside it."""

    CLEAR = "clear"
    UNCLEAR = "not clear"
    MEASURED = "measured"
    INCOMPLETE = "incomplete"
    CAUTION = "caution"


@dataclass(frozen=True)
class Sentence:
    """One sentence of the answer; of a higher ``rank``, the sooner it can be left out."""

    parts: tuple[str, ...]
    kind: Kind
    rank: int = 1

    @property
    def short(self) -> str:
        """The sentence without what stands in brackets; its hard blanks keep numbers whole."""
        return "".join(part for part in self.parts if not isinstance(part, Aside))

    @property
    def text(self) -> str:
        """The sentence as plain text."""
        return plain("".join(self.parts))

    @property
    def marked(self) -> tuple[tuple[str, bool], ...]:
        """The parts, each with whether it is strong."""
        return tuple((str(part), isinstance(part, Strong)) for part in self.parts)


def value(row: Row | None, *, named: bool = True) -> tuple[str, ...]:
    """Return a row's mean, strong, and its interval in brackets."""
    mean, shown = show_mean(row), show_row(row, named=named)
    return Strong(mean), Aside(shown.removeprefix(mean))


UNBOUNDED = " (∞: too many requests failed or timed out)"


def unbounded(found: Contrast) -> str:
    """Return what an infinite side of a contrast means, or nothing."""
    means = (found.before.mean or 0.0, found.after.mean or 0.0)
    return UNBOUNDED if any(map(math.isinf, means)) else ""


def change(found: Contrast) -> tuple[str, ...]:
    """Return ``from 132 ms (95 % CI 106–158 ms) to 51 ms (41–61 ms), ÷2.6``."""
    times = found.ratio
    tail = (", ", Strong(times)) if times else (Aside(unbounded(found)),)
    named = found.before.interval is None
    return ("from ", *value(found.before), " to ", *value(found.after, named=named), *tail)


def sides(found: Contrast, first: str, second: str) -> tuple[str, ...]:
    """Return both values beside each other, each with its condition."""
    named = found.before.interval is None
    before, after = value(found.before), value(found.after, named=named)
    return (*before, f" {first}, ", *after, f" {second}", Aside(unbounded(found)))


def kind_of(found: Iterable[Contrast]) -> Kind:
    """Return how far a sentence over some contrasts may be trusted: as far as the weakest."""
    verdicts = {each.verdict for each in found}
    if Verdict.UNJUDGED in verdicts:
        return Kind.MEASURED
    return Kind.UNCLEAR if Verdict.UNCLEAR in verdicts else Kind.CLEAR


def listed(items: Sequence[str]) -> str:
    """Return ``1, 2 and 4``."""
    return " and ".join((", ".join(items[:-1]), items[-1])) if len(items) > 1 else "".join(items)
