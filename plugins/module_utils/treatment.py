# SPDX-License-Identifier: GPL-3.0-or-later
"""What becomes of each packet of a pair: lost, doubled, damaged, and when it may go on.

Pure arithmetic on drawn numbers, one call a stage; whoever calls does to the packet what it says.

The distributions are drawn with mean 0 and deviation 1, then scaled by the jitter; they and the
model of bursts are in distributions.py.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial

from .distributions import empirical, gilbert, pareto, uniform
from .quality import NORMAL, UNSHAPED, Quality

# Seconds, and deviations: beyond them is a mistake, and a number that no clock can hold.
_LONGEST, _FARTHEST = 86400.0, 1e6


def impairment(quality: Quality) -> Quality | None:
    """Return what a quality asks beside its rate, of the delay line or of netem; None if nothing.

    A dead link is cut where it arrives, so nothing of it is left to be delayed.
    """
    rest = quality.unbounded
    return None if quality.is_down or rest == UNSHAPED else rest


def is_single(quality: Quality) -> bool:
    """Return whether each frame must be judged by itself, and a super-packet not as a whole."""
    return bool(quality.loss or quality.duplicate or quality.corrupt)


def deviate(quality: Quality, source: random.Random) -> Callable[[], float]:
    """Return what draws from the quality's distribution, with mean 0 and deviation 1."""
    shape = quality.distribution
    if shape == NORMAL:
        return partial(source.gauss, 0.0, 1.0)
    if isinstance(shape, str):
        formula, draw = uniform if shape == "uniform" else pareto, source.random
        return lambda: formula(draw())
    if not all(abs(each) <= _FARTHEST for each in shape):
        raise ValueError(f"quantiles must lie within {_FARTHEST:g} deviations")
    measured, draw = shape, source.random
    return lambda: empirical(measured, draw())


class Treatment:
    """What the packets of one directed pair meet.

    Attributes:
        quality: what was asked, without its rate.
        last: when the last packet that kept its place is due, in nanoseconds.
        met: packets of which it was drawn whether they are lost.
        lost: those of them that were.
    """

    __slots__ = (
        "_bad",
        "_bursty",
        "_delay",
        "_deviate",
        "_draw",
        "_jitter",
        "_loss",
        "_p",
        "_r",
        "_reorder",
        "last",
        "lost",
        "met",
        "quality",
    )

    def __init__(
        self, quality: Quality, source: random.Random, before: Treatment | None = None
    ) -> None:
        """Treat packets as a quality asks, by numbers from source.

        What is under way by the treatment before is not overtaken, and a bad spell goes on.

        Raises:
            ValueError: for a distribution of which a packet could come too late to count.
        """
        self.quality = quality
        self.last: int = before.last if before else 0
        self.met = self.lost = 0
        self._draw = source.random
        self._delay = round(min(quality.delay, _LONGEST) * 1e9)
        self._jitter = min(quality.jitter, _LONGEST) * 1e9
        self._deviate = deviate(quality, source)
        self._reorder = quality.reorder
        self._loss = quality.loss
        self._bursty = bool(quality.loss and quality.burst)
        self._bad = False
        if self._bursty:
            self._p, self._r = gilbert(quality.loss, quality.burst)
            known = before if before and before._bursty else None
            self._bad = known._bad if known else self._draw() < quality.loss

    def due(self, now: int) -> int:
        """Return when a packet that came at now may go on; both in nanoseconds."""
        if self._reorder and self._draw() < self._reorder:
            return now
        due = now + self._delay
        if self._jitter:
            due = max(now, due + round(self._jitter * self._deviate()))
        if due > self.last:
            self.last = due
        return self.last

    def loses(self) -> bool:
        """Return whether the next packet is lost."""
        if not self._loss:
            return False
        if self._bursty:
            self._bad = self._draw() < ((1.0 - self._r) if self._bad else self._p)
            lost = self._bad
        else:
            lost = self._draw() < self._loss
        self.met += 1
        self.lost += lost
        return lost

    def doubles(self) -> bool:
        """Return whether the next packet arrives twice."""
        return self.quality.duplicate > 0 and self._draw() < self.quality.duplicate

    def damages(self) -> bool:
        """Return whether a bit of the next packet is flipped."""
        return self.quality.corrupt > 0 and self._draw() < self.quality.corrupt
