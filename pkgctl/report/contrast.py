# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether two rows differ, and when nothing may be claimed."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

from pkgctl.measure.statistics import Interval, ratio_interval
from pkgctl.measure.table import Row
from pkgctl.report.numbers import ratio


class Verdict(StrEnum):
    """What two rows say of each other.

    Repeats of two cells see the same arrivals, so they are compared pair by pair: ``RAISED`` and
    ``LOWERED`` need a 95 % interval of the ratio that leaves 1 out. Where there is no ratio (a
    zero, a repeat that lacks its twin) they need two intervals that do not overlap. Else it is
    ``UNCLEAR``; without intervals (one repeat) it is ``UNJUDGED``.
    """

    RAISED = "raised"
    LOWERED = "lowered"
    UNCLEAR = "unclear"
    UNJUDGED = "unjudged"


@dataclass(frozen=True, slots=True)
class Contrast:
    """Two rows of the same metric, and what may be said of their difference."""

    before: Row
    after: Row

    @property
    def clear(self) -> bool:
        """Whether a difference may be claimed."""
        return self.verdict in (Verdict.RAISED, Verdict.LOWERED)

    @property
    def verdict(self) -> Verdict:
        """What the intervals allow to say."""
        first, second = self.before, self.after
        if min(len(first.stated), len(second.stated)) < 2:
            return Verdict.UNJUDGED
        if (paired := self.paired_ratio) is not None:
            apart = paired.low > 1 or paired.high < 1
            return _direction(first, second) if apart else Verdict.UNCLEAR
        if first.interval and second.interval:
            if first.interval.overlaps(second.interval):
                return Verdict.UNCLEAR
            return _direction(first, second)
        kinds = {_finiteness(first), _finiteness(second)}
        return _direction(first, second) if kinds == {"finite", "infinite"} else Verdict.UNCLEAR

    @property
    def paired_ratio(self) -> Interval | None:
        """The 95 % interval of how many times larger the second is, repeat by repeat."""
        first, second = self.before.by_repeat, self.after.by_repeat
        if first.keys() != second.keys():
            return None
        return ratio_interval(list(first.values()), [second[repeat] for repeat in first])

    @property
    def ratio(self) -> str:
        """How many times larger or smaller the second is."""
        return ratio(self.before.mean or 0.0, self.after.mean or 0.0)


def contrast(before: Row | None, after: Row | None) -> Contrast | None:
    """Return the contrast of two rows that have a value of the same metric."""
    if before is None or after is None or before.mean is None or after.mean is None:
        return None
    return Contrast(before, after) if before.metric == after.metric else None


def _direction(first: Row, second: Row) -> Verdict:
    return Verdict.RAISED if (second.mean or 0.0) > (first.mean or 0.0) else Verdict.LOWERED


def _finiteness(row: Row) -> str:
    finite = [math.isfinite(value) for value in row.stated]
    if all(finite):
        return "finite"
    return "mixed" if any(finite) else "infinite"
