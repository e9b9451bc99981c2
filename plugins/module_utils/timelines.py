# SPDX-License-Identifier: GPL-3.0-or-later
"""Changes that were armed beforehand and happen on time, whoever is busy then.

A timeline is a set of steps: one layer's part of one kind on one node, and its times. It is armed
step by step, and begins at once for all of them. Each request is in the journal before it is done.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from . import kinds, syscalls, words
from .background import Child, Result
from .errors import AgentError
from .journal import Record
from .ledger import Book, Play, Slot, Step, lease_record
from .loop import Loop
from .player import Player, Tell, one_line, switched
from .stage import Stage
from .times import number
from .triggers import read_after
from .waiting import Judge

Body = dict[str, Any]
_MOST_STEPS = 50_000
# A clock that is read elsewhere may be off by so much, and nobody waits for longer.
_FARTHEST = 366 * 86_400.0


class Timelines:
    """The armed changes of a testbed, by timeline."""

    def __init__(
        self,
        loop: Loop,
        stage: Stage,
        book: Book,
        judge: Judge,
        tell: Tell,
    ) -> None:
        """Change the nodes of stage.

        Args:
            loop: where to wait.
            stage: the nodes.
            book: where it is written what was taken on.
            judge: knows whether what steps wait for has come true.
            tell: is told of each change.
        """
        self._loop = loop
        self._stage = stage
        self._book = book
        self._judge = judge
        self._tell = tell
        self._player = Player(loop, stage, tell, self._done)
        self._mind_leases: Callable[[], None] = lambda: None

    def attach(self, mind_leases: Callable[[], None]) -> None:
        """Let someone know whenever leases may have changed."""
        self._mind_leases = mind_leases

    def next_due(self) -> float | None:
        """Return when something is to be switched next."""
        return self._player.next_due()

    # Requests.

    def arm(self, request: Body) -> Body:
        """Keep a change for when its timeline begins; the same one again changes nothing."""
        name = words.read_name("timeline", request["timeline"])
        step = self._read(request)
        if self._is_known(name, step):
            return {"changed": False}
        self._check(step)
        if not request.get("dry_run"):
            armed = self._book.armed.get(name)
            seconds = step.lease if armed is None else _longer(armed.seconds, step.lease)
            ends = None if seconds is None else syscalls.monotonic() + seconds
            kept = {"timeline": name, "seconds": seconds, "ends": ends}
            self._book.note({"do": "arm", **kept, "step": step.to_dict()})
            self._mind_leases()
        return {"changed": True}

    def _read(self, request: Body) -> Step:
        if not isinstance(request["body"], dict):
            raise AgentError("body: must be a mapping")
        node = self._stage.node(str(request["node"])).name
        kind = str(request["kind"])
        kinds.kind(kind)
        layer = words.read_name("name", request["layer"])
        given = {"node": node, "kind": kind, "layer": layer, "body": request["body"]}
        return Step.from_dict({**given, "times": request.get("times") or {}})

    def _is_known(self, timeline: str, step: Step) -> bool:
        armed = self._book.armed.get(timeline)
        if armed is not None and step.slot in armed.steps:
            return armed.steps[step.slot] == step
        play = self._book.plays.get(step.slot)
        return (
            play is not None and not play.ending and (play.timeline, play.step) == (timeline, step)
        )

    def _check(self, step: Step) -> None:
        """Refuse what the node could never be, or never by this machine."""
        if step.times.after is not None and read_after(step.times.after).layer == step.layer:
            raise AgentError(f"after: {step.layer} cannot wait for itself")
        if sum(len(armed.steps) for armed in self._book.armed.values()) >= _MOST_STEPS:
            raise AgentError(f"{_MOST_STEPS} steps are armed already; drop a timeline first")
        self._stage.set(*step.slot, step.body, dry_run=True)

    def start(self, request: Body) -> Body:
        """Let a timeline run: its times count from t0 on CLOCK_MONOTONIC.

        With ``keep`` it stays armed, so that it can be run again. What is under way already goes
        on, unless something else was armed in its place.
        """
        name, now = str(request["timeline"]), syscalls.monotonic()
        t0 = number("t0", request["t0"], max(now - _FARTHEST, 0.0), now + _FARTHEST)
        armed = self._book.armed.get(name)
        if armed is None:
            return {"steps": 0}
        steps, keep = dict(armed.steps), bool(request.get("keep"))
        leases = [
            lease_record(step.node, step.layer, step.lease, max(t0, now) + step.lease)
            for step in steps.values()
            if step.needs_lease and step.lease is not None
        ]
        begun = {"timeline": name, "t0": t0, "keep": keep, "counted": self._judge.counts()}
        self._book.note({"do": "start", **begun}, *leases)
        for slot in steps:
            self._player.begin(self._book.plays[slot])
        self._mind_leases()
        self.reconsider()
        return {"steps": len(steps)}

    def drop(self, request: Body) -> Body:
        """Forget a timeline; one that runs ends now, and so does what it has in force."""
        name = str(request["timeline"])
        plays, armed = self._book.of(name), self._book.armed.get(name)
        slots = {play.step.slot for play in plays} | set(armed.steps if armed else ())
        self._book.note(
            *([{"do": "disarm", "timeline": name}] if armed else []),
            *({"do": "end", "slot": list(play.step.slot)} for play in plays),
        )
        for play in plays:
            self._player.end(play)
        self._mind_leases()
        return {"steps": len(slots)}

    def cancel(self, request: Body) -> Body:
        """Forget what running timelines still hold for a node: it is about to be healed.

        The request names the node, the kinds, and the layer; no layer is every one.
        """
        node, layer, meant = str(request["node"]), request.get("layer"), set(request["kinds"])
        found = [
            play
            for play in self._book.plays.values()
            if play.step.node == node
            and play.step.kind in meant
            and layer in (None, play.step.layer)
        ]
        if not request.get("dry_run"):
            self._book.note(*self._leases_of_cancelled(found))
            for play in found:
                self._player.forget(play.step.slot)
            self._book.settle(*(_done(play.step.slot) for play in found))
            self._mind_leases()
        return {"steps": len(found)}

    def _leases_of_cancelled(self, plays: Iterable[Play]) -> list[Record]:
        """Return leases for layers that nothing would end if the caller died before it heals."""
        now = syscalls.monotonic()
        return [
            lease_record(play.step.node, play.step.layer, lease, now + lease)
            for play in plays
            if (lease := play.step.lease) is not None
            and (play.step.node, play.step.layer) not in self._book.leases
        ]

    def listing(self) -> Body:
        """Return all timelines: the steps of each that are under way, and those only armed."""
        found = self.steps()
        return {"timelines": [{**each, "steps": [*map(_bare, each["steps"])]} for each in found]}

    def steps(self) -> list[Body]:
        """Return all timelines with their steps, and what each step asks."""
        names = dict.fromkeys(play.timeline for play in self._book.plays.values())
        found = [self._show_running(name) for name in names]
        for name, armed in self._book.armed.items():
            steps = [
                _show(step, on=False, following=None, ends=None)
                for step in armed.steps.values()
                if not self._is_under_way(name, step)
            ]
            if steps:
                found.append({"timeline": name, "state": "armed", "t0": None, "steps": steps})
        return found

    def _is_under_way(self, name: str, step: Step) -> bool:
        play = self._book.plays.get(step.slot)
        return play is not None and (play.timeline, play.step) == (name, step)

    def _show_running(self, name: str) -> Body:
        plays = self._book.of(name)
        steps = []
        for play in plays:
            on, following = self._player.status(play.step.slot)
            shown = _show(play.step, on=on, following=following, ends=play.ends)
            steps.append({**shown, "since": _since(play)})
        t0 = max(play.t0 for play in plays)
        return {"timeline": name, "state": "running", "t0": t0, "steps": steps}

    # What goes on by itself.

    def resume(self) -> None:
        """Go on with what another process had taken on."""
        for play in list(self._book.plays.values()):
            if play.ending:
                self._player.end(play)
            else:
                self._player.begin(play, resumed=True)
        self.reconsider()

    def _done(self, play: Play) -> None:
        slot = play.step.slot
        if self._book.plays.get(slot) is not play:
            return
        records = [_done(slot)]
        node, layer = play.step.node, play.step.layer
        if play.step.needs_lease and len(self._book.on(node, layer)) == 1:
            records.append({"do": "unlease", "node": node, "layer": layer})
        self._book.settle(*records)
        self._mind_leases()

    def heal(self, node: str, layer: str, due: float, then: Callable[[bool], None]) -> None:
        """Take all of a layer off a node, because its lease has run out.

        Args:
            node: where.
            layer: its name.
            due: when that was to happen.
            then: is told whether the layer is gone.
        """
        plays = self._book.on(node, layer)
        for play in plays:
            self._player.forget(play.step.slot)
        self._book.settle(*(_done(play.step.slot) for play in plays))
        timeline = plays[0].timeline if plays else None
        actual = syscalls.monotonic()

        def told(result: Result) -> None:
            errors = {**result.get("errors", {})}
            if "error" in result:
                errors["link"] = result["error"]
            for kind in {*result.get("changed", ()), *errors}:
                slot = (node, kind, layer)
                self._tell_off(timeline, slot, (due, actual), errors.get(kind))
            then(not errors)

        Child(self._loop, lambda: self._heal_all(node, layer), told)

    def _heal_all(self, node: str, layer: str) -> Result:
        """Take a layer off a node in all kinds; a node that is gone has none."""
        changed, errors = [], {}
        self._stage.detach()
        if node not in self._stage.names():
            return {}
        for kind in reversed(kinds.NAMES):
            try:
                if self._stage.set(node, kind, layer, None).changed:
                    changed.append(kind)
            except Exception as error:
                errors[kind] = one_line(error)
        return {"changed": changed, "errors": errors}

    def _tell_off(
        self, timeline: str | None, slot: Slot, moment: tuple[float, float], error: str | None
    ) -> None:
        event = switched(*slot, "off", moment, error)
        self._tell({"event": "layer", "timeline": timeline, **event})

    def reconsider(self) -> None:
        """Begin the steps whose conditions have come true."""
        fresh = True
        while fresh:
            fresh = False
            for play in list(self._book.plays.values()):
                if play.origin is None and not play.ending:
                    fresh = self._reconsider(play) or fresh

    def _reconsider(self, play: Play) -> bool:
        """Return whether a waiting step may begin, having begun it."""
        met = self._judge.met(play)
        if met is None:
            return False
        self._book.settle({"do": "met", "slot": list(play.step.slot), "at": met})
        node, layer = play.step.node, play.step.layer
        others = [other for other in self._book.on(node, layer) if other is not play]
        if play.step.times.ends is not None and not any(each.step.needs_lease for each in others):
            # From now on it has an end of its own.
            self._book.settle({"do": "unlease", "node": node, "layer": layer})
        self._player.begin(play)
        return True


def _longer(one: float | None, other: float | None) -> float | None:
    """Return the longer of two leases; None lasts for ever."""
    return None if one is None or other is None else max(one, other)


def _done(slot: Slot) -> Record:
    return {"do": "done", "slot": list(slot)}


def _show(step: Step, *, on: bool, following: float | None, ends: float | None) -> Body:
    own = {"node": step.node, "kind": step.kind, "layer": step.layer, "body": step.body}
    # Of a trace only its length: the rows of a few would be more than a message can hold.
    times = {**replace(step.times, trace=None).to_dict(), "trace": len(step.times.trace or ())}
    return {**own, "times": times, "on": on, "next": following, "ends": ends}


def _since(play: Play) -> float | None:
    return None if play.origin is None else play.origin + play.step.times.start


def _bare(step: Body) -> Body:
    return {key: value for key, value in step.items() if key != "body"}
