# SPDX-License-Identifier: GPL-3.0-or-later
"""Playing steps: switching a layer's contents on a node when they are due, and telling of it."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

from . import schedule, syscalls
from .background import Child, Result
from .errors import AgentError, DisturbanceError
from .ledger import Play, Slot
from .loop import Loop, Timer
from .schedule import Phase
from .stage import Stage

Tell = Callable[[dict[str, Any]], None]
# What is to be switched is made ready so many seconds before.
AHEAD = 0.5
# A layer that does not heal is tried again so often, a second apart.
TRIES = 60
_PAUSE = 1.0
# These may take seconds, in which others are due.
SLOW = frozenset({"disk", "health", "stress"})


@dataclass(slots=True, eq=False)
class _Part:
    """A step that is played: the phases still to come, and whether the layer is there now."""

    play: Play
    origin: float
    rest: Iterator[Phase] = field(default_factory=lambda: iter(()))
    upcoming: Phase | None = None
    on: bool = False
    doubtful: bool = False
    tries: int = 0
    timer: Timer | None = None
    child: Child | None = None

    def advance(self) -> None:
        """Go on to the next phase; if it cannot be made, the layer goes at once."""
        try:
            self.upcoming = next(self.rest, None)
        except Exception as error:
            one_line(error)
            self.upcoming, self.rest = (0.0, None), iter(())

    def call_off(self) -> None:
        """Wait for nothing any more."""
        if self.timer is not None:
            self.timer.cancel()


class Player:
    """Plays the steps whose origin is known."""

    def __init__(self, loop: Loop, stage: Stage, tell: Tell, done: Callable[[Play], None]) -> None:
        """Change the nodes of stage.

        Args:
            loop: where to wait.
            stage: the nodes.
            tell: is told of each change.
            done: is called when a step is over, and healed.
        """
        self._loop = loop
        self._stage = stage
        self._tell = tell
        self._done = done
        self._parts: dict[Slot, _Part] = {}

    def next_due(self) -> float | None:
        """Return when something is to be switched next."""
        found = [part.timer.when for part in self._parts.values() if part.timer is not None]
        return min(found, default=None)

    def status(self, slot: Slot) -> tuple[bool, float | None]:
        """Return whether a step's layer is there, and when it will change."""
        part = self._parts.get(slot)
        if part is None:
            return False, None
        return part.on, None if part.upcoming is None else part.origin + part.upcoming[0]

    def begin(self, play: Play, *, resumed: bool = False) -> None:
        """Play a step from where it should be now; nothing is in force of one that waits.

        Args:
            play: the step.
            resumed: whether another process played it until now.
        """
        slot, now = play.step.slot, syscalls.monotonic()
        part = _Part(play, play.origin or now, on=self.forget(slot), doubtful=resumed)
        self._parts[slot] = part
        if resumed:
            part.on = self._is_stored(play)
        if play.origin is None:
            # It waits; what an earlier run has left goes.
            self._switch(part, None, now)
            return
        try:
            phases = self._phases(play)
            current, rest = schedule.at(phases, now - part.origin)
        except (DisturbanceError, ValueError) as error:
            self._told(part, "on", (part.origin, syscalls.monotonic()), one_line(error))
            self._finish(part)
            return
        part.rest = rest if current is None else chain((current,), rest)
        part.advance()
        if current is None and part.on:
            # Its new times begin later than those that it had until now.
            self._switch(part, None, syscalls.monotonic())
        else:
            self._await(part)

    def _is_stored(self, play: Play) -> bool:
        try:
            return play.step.layer in self._stage.stored(play.step.node, play.step.kind)
        except DisturbanceError:
            return False

    def _phases(self, play: Play) -> Iterator[Phase]:
        step = play.step
        base = (
            self._stage.standing(step.node, step.kind, step.layer, step.body)
            if step.times.ramp is not None
            else {}
        )
        return schedule.phases(step.kind, step.body, step.times, base)

    def forget(self, slot: Slot) -> bool:
        """Play a step no longer, and leave what is in force; return whether its layer is there."""
        part = self._parts.pop(slot, None)
        if part is None:
            return False
        part.call_off()
        if part.child is not None:
            # It must not put back what the caller is about to take away.
            part.child.wait()
            return True
        return part.on

    def end(self, play: Play) -> None:
        """Take a step's layer away now, and see to it until it is gone."""
        slot = play.step.slot
        known = slot in self._parts
        there = self.forget(slot)
        now = syscalls.monotonic()
        # What another process played may be there or not.
        part = _Part(play, now, on=there or not known, doubtful=not known)
        self._parts[slot] = part
        self._switch(part, None, now)

    def _await(self, part: _Part) -> None:
        """Wait for the next phase, and make it ready shortly before."""
        if part.upcoming is None:
            waits = part.play.origin is None
            if part.play.ending or (part.play.step.times.ends is not None and not waits):
                self._finish(part)
            return
        due = part.origin + part.upcoming[0]
        if due - syscalls.monotonic() > AHEAD:
            part.timer = self._loop.at(due - AHEAD, lambda: self._prepare(part, due))
        else:
            self._prepare(part, due)

    def _prepare(self, part: _Part, due: float) -> None:
        step = part.play.step
        part.timer = self._loop.at(due, lambda: self._turn(part))
        if part.upcoming is not None:
            try:
                self._stage.prepare(step.node, step.kind, step.layer, part.upcoming[1])
            except (DisturbanceError, ValueError, OSError):
                return  # It will fail again when it is due, and be told then.

    def _turn(self, part: _Part) -> None:
        """Switch to the phase that is due."""
        if part.upcoming is None:
            return
        offset, body = part.upcoming
        part.advance()
        now = syscalls.monotonic()
        while (
            body is not None
            and part.upcoming is not None
            and part.upcoming[1] is not None
            and part.origin + part.upcoming[0] <= now
        ):
            # Of the steps of a ramp that could not keep up only the last counts.
            offset, body = part.upcoming
            part.advance()
        part.tries = 0
        self._switch(part, body, part.origin + offset)

    def _switch(self, part: _Part, body: schedule.Body | None, planned: float) -> None:
        """Bring a node to a content of a layer, and tell of it."""
        part.timer = None
        if body is None and not part.on:
            self._await(part)
            return
        step, actual = part.play.step, syscalls.monotonic()

        def work() -> Result:
            if step.kind in SLOW:
                self._stage.detach()
            try:
                return {"changed": self._stage.set(*step.slot, body).changed}
            except Exception as failure:
                return {"error": one_line(failure)}

        def then(result: Result) -> None:
            part.child = None
            self._switched(part, body, (planned, actual), result)

        if step.kind in SLOW:
            part.child = Child(self._loop, work, then)
        else:
            then(work())

    def _switched(
        self,
        part: _Part,
        body: schedule.Body | None,
        moment: tuple[float, float],
        result: Result,
    ) -> None:
        """Tell of a change, and go on: to the next phase, or to the next attempt to heal."""
        error = result.get("error")
        action = "off" if body is None else "change" if part.on else "on"
        # A layer that was refused may be stored all the same.
        part.on = body is not None or error is not None
        if error is not None and not self._is_there(part.play.step.node):
            part.tries = TRIES
            self._told(part, action, moment, error)
            self._finish(part)
            return
        if error is not None or not part.doubtful or result.get("changed"):
            self._told(part, action, moment, error)
        part.doubtful = False
        if body is None and error is not None and part.tries < TRIES:
            self._try_again(part, moment[0])
        else:
            self._await(part)

    def _try_again(self, part: _Part, planned: float) -> None:
        again = syscalls.monotonic() + _PAUSE
        part.tries += 1
        if part.upcoming is not None and part.origin + part.upcoming[0] < again:
            self._await(part)
        else:
            part.timer = self._loop.at(again, lambda: self._switch(part, None, planned))

    def _is_there(self, node: str) -> bool:
        try:
            self._stage.node(node)
        except DisturbanceError as error:
            return not isinstance(error, AgentError)
        return True

    def _told(
        self, part: _Part, action: str, moment: tuple[float, float], error: str | None
    ) -> None:
        if error is None or part.tries in (0, TRIES):
            # Of many failures to heal the first and the last are news.
            step = part.play.step
            event = switched(*step.slot, action, moment, error)
            self._tell({"event": "layer", "timeline": part.play.timeline, **event})

    def _finish(self, part: _Part) -> None:
        self._parts.pop(part.play.step.slot, None)
        self._done(part.play)


def switched(
    node: str,
    kind: str,
    layer: str,
    action: str,
    moment: tuple[float, float],
    error: str | None,
) -> dict[str, Any]:
    """Return the part of a layer's event that says what was switched where, and when.

    Args:
        node: where.
        kind: the kind of disturbance.
        layer: the layer's name.
        action: ``on``, ``change`` or ``off``.
        moment: when it was to happen and when it began, CLOCK_MONOTONIC seconds.
        error: why it failed, in one line.
    """
    (planned, actual), done = moment, syscalls.monotonic()
    wall = time.time() - done
    return {
        **{"layer": layer, "node": node, "kind": kind, "action": action},
        **{"planned": planned, "actual": actual, "done": done},
        **{"planned_wall": planned + wall, "actual_wall": actual + wall, "error": error},
    }


def one_line(error: Exception) -> str:
    """Return an error in one line; one that nobody foresaw goes to the log as well."""
    words = " ".join(str(error).split())[:500]
    if isinstance(error, (DisturbanceError, ValueError)):
        return words
    print(f"unforeseen: {error!r}"[:1000], file=sys.stderr, flush=True)
    return f"{type(error).__name__}: {words}"
