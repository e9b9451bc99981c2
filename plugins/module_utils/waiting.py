# SPDX-License-Identifier: GPL-3.0-or-later
"""Judging whether what a step waits for has come true."""

from __future__ import annotations

from collections.abc import Callable

from . import jobs, syscalls
from .condition import is_up
from .errors import DisturbanceError
from .ledger import Book, Play
from .stage import Stage
from .triggers import After, Count, State, read_after, read_when


class Judge:
    """Knows the nodes, the jobs and the other steps of a testbed."""

    def __init__(
        self,
        book: Book,
        stage: Stage,
        counts: Callable[[], dict[str, int]],
        job: Callable[[str], str | None],
    ) -> None:
        """Judge by what these say.

        Args:
            book: the steps under way.
            stage: the nodes.
            counts: returns what all jobs have counted so far, by name.
            job: returns the status of a job; None if there is none of that name.
        """
        self._book = book
        self._stage = stage
        self._job = job
        self.counts = counts

    def met(self, play: Play) -> float | None:
        """Return when all that a step waits for is there; None if something is not."""
        moments = [play.t0]
        times = play.step.times
        if times.when is not None:
            if not self._holds(play, read_when(times.when)):
                return None
            moments.append(syscalls.monotonic())
        if times.after is not None:
            moment = self._followed(play, read_after(times.after))
            if moment is None:
                return None
            moments.append(moment)
        return max(moments)

    def _holds(self, play: Play, asked: Count | State) -> bool:
        if isinstance(asked, Count):
            before = play.counted.get(asked.name, 0)
            return self.counts().get(asked.name, 0) - before >= asked.least
        if asked.what == "node":
            return self._is_up(asked.name) is (asked.state == "ready")
        status = self._job(asked.name)
        return status == "running" if asked.state == "ready" else status in jobs.ENDED

    def _is_up(self, node: str) -> bool | None:
        try:
            return is_up(self._stage.health(node))
        except DisturbanceError:
            return None

    def _followed(self, play: Play, asked: After) -> float | None:
        """Return when to follow a layer: of the same timeline, else of any, else a lasting one."""
        named = [each for each in self._book.plays.values() if each.step.layer == asked.layer]
        found = [each for each in named if each.timeline == play.timeline] or named
        if not found:
            there = self._is_stored(play.step.node, asked.layer)
            return syscalls.monotonic() + asked.pause if there else None
        moments = [over for each in found if (over := _over(each)) is not None]
        return max(moments) + asked.pause if len(moments) == len(found) else None

    def _is_stored(self, node: str, layer: str) -> bool:
        try:
            return self._stage.holds(node, layer)
        except DisturbanceError:
            return False


def _over(play: Play) -> float | None:
    """Return when a step ends, or sets in if it has no end; None if that is not known yet."""
    if play.origin is None:
        return None
    return play.origin + play.step.times.start if play.ends is None else play.ends
