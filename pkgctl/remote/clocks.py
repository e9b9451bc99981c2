# SPDX-License-Identifier: GPL-3.0-or-later
"""What a node's clock shows, learnt from round trips. Pure: nothing here reads a clock.

A question is sent at ``a``, the node stamps it ``m`` by its own CLOCK_MONOTONIC, and the answer is
here at ``b``, both by ours. The stamp was made between the two, so the node's clock was ahead of
ours by something between ``m - b`` and ``m - a``, whatever the way there and back took. Clocks
drift against one another by no more than ``DRIFT``, the most by which a kernel lets its clock be
slewed; so ``t`` seconds later the interval has grown at both ends by ``t · DRIFT``, and no more.
The offset lies in all intervals of the last round trips, so in what they have in common:

    ahead  = middle of  ⋂ [mᵢ - bᵢ - tᵢ·DRIFT, mᵢ - aᵢ + tᵢ·DRIFT]
    bound  = half of its length  ≤  half of the shortest round trip + its age · DRIFT

This is what NTP does with the sample of the least round trip, for that has the narrowest interval.
Where intervals have nothing in common the clock has jumped, as that of a machine that was suspended
does, and what was known before counts for stamps from before only.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from dataclasses import dataclass

DRIFT = 500e-6
_KEPT = 16
# So often the offset is noted, in seconds, for stamps that are asked about later.
_NOTED = 5.0
_MOST_NOTES = 4096


@dataclass(frozen=True, slots=True)
class Trip:
    """One round trip: sent and received by our clock, and the node's stamp between them."""

    sent: float
    stamp: float
    received: float

    def interval(self, now: float) -> tuple[float, float]:
        """Return between which values the node's clock is ahead of ours at a time."""
        grown = DRIFT * max(now - self.sent, 0.0)
        return self.stamp - self.received - grown, self.stamp - self.sent + grown


class Clock:
    """One node's clock."""

    def __init__(self) -> None:
        """Know nothing yet: until the first round trip the clock is taken for ours."""
        self._trips: deque[Trip] = deque(maxlen=_KEPT)
        self._ahead = 0.0
        # From which of the node's stamps on it was ahead by how much.
        self._notes: list[tuple[float, float]] = []

    @property
    def is_known(self) -> bool:
        """Whether there was any round trip."""
        return bool(self._trips)

    @property
    def ahead(self) -> float:
        """How many seconds the node's clock is ahead of ours, as was last learnt."""
        return self._ahead

    def learn(self, sent: float, stamp: float, received: float) -> None:
        """Take note of a round trip."""
        before = self._trips[-1] if self._trips else None
        if before is not None and stamp < before.stamp:
            self.restart()
        fresh = Trip(sent, stamp, received)
        self._trips.append(fresh)
        low, high = self._common(received)
        has_jumped = low > high
        if has_jumped:
            # Of the trips before nothing holds any more.
            self._trips.clear()
            self._trips.append(fresh)
            low, high = fresh.interval(received)
        self._ahead = (low + high) / 2
        # A question that was under way meanwhile was stamped when the clock went on.
        self._note(before.stamp if has_jumped and before else stamp, is_new=has_jumped)

    def _common(self, now: float) -> tuple[float, float]:
        intervals = [trip.interval(now) for trip in self._trips]
        return max(low for low, _ in intervals), min(high for _, high in intervals)

    def _note(self, stamp: float, *, is_new: bool) -> None:
        if is_new or not self._notes or stamp - self._notes[-1][0] >= _NOTED:
            self._notes.append((stamp, self._ahead))
        else:
            self._notes[-1] = (self._notes[-1][0], self._ahead)
        del self._notes[:-_MOST_NOTES]

    def bound(self, now: float) -> float:
        """Return by how many seconds a translation at a time may be wrong, at most."""
        low, high = self._common(now)
        return (high - low) / 2

    def restart(self) -> None:
        """Forget all: the node was started again, and its clock began anew."""
        self._trips.clear()
        self._notes.clear()

    def ours(self, stamp: float) -> float:
        """Return a time of the node's clock by ours.

        One of the past is translated by what was known of the clock then, so that it stays the same
        whenever it is asked about, and whatever the clock did since.
        """
        if not self._notes:
            return stamp - self._ahead
        place = bisect_right(self._notes, (stamp, float("inf")))
        return stamp - self._notes[max(place - 1, 0)][1]

    def theirs(self, moment: float) -> float:
        """Return a time of our clock by the node's, as far as is known now."""
        return moment + self._ahead
