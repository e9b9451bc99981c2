# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs with which the machine could not keep up, in words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pkgctl.measure.record import Run
from pkgctl.report.numbers import show
from pkgctl.report.sentences import Kind, Sentence, Strong

# Beyond these a reader has to know of it.
LATE, BUSY, GAP = 0.01, 0.9, 2.0


def strain_sentences(runs: Sequence[Run]) -> Iterator[Sentence]:
    """Yield what has to be known of the measured runs before their numbers are believed."""
    for name, bound, unit, lead, rest in (
        ("busy", BUSY, "share", "the machine's processors had work to do for up to ",
         " of the time; what runs there waits for them, so times are longer than on a larger one."),
        ("late_p99", LATE, "s", "1 % of the requests left their generator more than ",
         " after they were due; latency contains that."),
        ("gap", GAP, "s", "use was not sampled for up to ", " at a stretch."),
    ):  # fmt: skip
        known = [run.strain[name] for run in runs if name in run.strain]
        beyond = [value for value in known if value > bound]
        if beyond:
            count = Strong(f"{len(beyond)} of {len(known)}")
            worst = Strong(show(max(beyond), unit))
            yield Sentence(("In ", count, f" runs {lead}", worst, rest), Kind.CAUTION)
