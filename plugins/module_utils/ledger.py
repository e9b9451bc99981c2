# SPDX-License-Identifier: GPL-3.0-or-later
"""What the agent has taken on: armed timelines, steps under way, leases; and the journal of it.

A ledger is what its records add up to, so the same records make the same ledger again. Times are
CLOCK_MONOTONIC seconds.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .errors import AgentError
from .journal import Journal, Record
from .times import DEFAULT_LEASE, Times

Slot = tuple[str, str, str]
# The journal is written anew when it has grown to this, and to twice what it was after the last.
_LONGEST = 4 << 20


@dataclass(frozen=True, slots=True)
class Step:
    """One layer's part of one kind on one node, and when it is in force."""

    node: str
    kind: str
    layer: str
    body: Mapping[str, Any]
    times: Times

    @property
    def slot(self) -> Slot:
        """What only one step can have at a time."""
        return self.node, self.kind, self.layer

    @property
    def lease(self) -> float | None:
        """For how many seconds it may wait to begin; None for ever.

        What ends by itself may come without a lease, and still is not to wait for ever.
        """
        ends_itself = self.times.ends is not None
        return DEFAULT_LEASE if ends_itself and self.times.lease is None else self.times.lease

    @property
    def needs_lease(self) -> bool:
        """Whether it could stay, or wait, for ever once it has begun."""
        could = self.times.ends is None or self.times.is_conditional
        return could and self.lease is not None

    def to_dict(self) -> dict[str, Any]:
        """Return it ready for JSON."""
        own = {"node": self.node, "kind": self.kind, "layer": self.layer}
        return {**own, "body": self.body, "times": self.times.to_dict()}

    @classmethod
    def from_dict(cls, given: Mapping[str, Any]) -> Step:
        """Return the step that to_dict wrote."""
        node, kind, layer = (str(given[key]) for key in ("node", "kind", "layer"))
        return cls(node, kind, layer, dict(given["body"]), Times.from_dict(given["times"]))


@dataclass(slots=True, eq=False)
class Play:
    """A step that is under way.

    Attributes:
        timeline: whose it is.
        step: what is done.
        t0: when the timeline began.
        counted: what jobs had counted by then.
        met: when its condition came true; None if it has not, or has none.
        ending: whether it was ended, and is only to be healed.
    """

    timeline: str
    step: Step
    t0: float
    counted: Mapping[str, int] = field(default_factory=dict)
    met: float | None = None
    ending: bool = False

    @property
    def origin(self) -> float | None:
        """From when its times count; None as long as it waits for a condition."""
        return self.met if self.step.times.is_conditional else self.t0

    @property
    def ends(self) -> float | None:
        """When it is over for good; None if that is not known."""
        ends = self.step.times.ends
        return None if ends is None or self.origin is None else self.origin + ends


@dataclass(slots=True)
class Armed:
    """The steps of a timeline that may begin, and until when they are kept (None is for ever)."""

    steps: dict[Slot, Step] = field(default_factory=dict)
    seconds: float | None = None
    ends: float | None = None


@dataclass(slots=True)
class Lease:
    """For how long a layer stays on a node from its last renewal, and until when that is."""

    seconds: float | None
    ends: float | None


class Ledger:
    """What a sequence of records adds up to."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self.armed: dict[str, Armed] = {}
        self.plays: dict[Slot, Play] = {}
        self.leases: dict[tuple[str, str], Lease] = {}
        self._appliers: Mapping[str, Callable[[Record, float], None]] = {
            "arm": self._arm,
            "keep": self._keep,
            "disarm": lambda record, _: self._disarm(record),
            "start": self._start,
            "play": self._play,
            "met": self._met,
            "end": self._end,
            "done": self._done,
            "lease": self._lease,
            "unlease": lambda record, _: self._unlease(record),
        }

    def apply(self, record: Record) -> None:
        """Take a record into account; one that makes no sense is passed over."""
        applier = self._appliers.get(str(record.get("do")))
        try:
            if applier is not None:
                applier(record, float(record.get("shift", 0.0)))
        except (KeyError, TypeError, ValueError, AttributeError):
            return

    def of(self, timeline: str) -> list[Play]:
        """Return what is under way of a timeline."""
        return [play for play in self.plays.values() if play.timeline == timeline]

    def on(self, node: str, layer: str) -> list[Play]:
        """Return what is under way of a layer on a node."""
        return [
            play
            for play in self.plays.values()
            if (play.step.node, play.step.layer) == (node, layer)
        ]

    def records(self) -> Iterator[Record]:
        """Yield records that add up to this ledger."""
        for name, armed in self.armed.items():
            kept = {"timeline": name, "seconds": armed.seconds, "ends": armed.ends}
            for step in armed.steps.values():
                yield {"do": "arm", **kept, "step": step.to_dict()}
        for play in self.plays.values():
            own = {key: getattr(play, key) for key in ("timeline", "t0", "counted", "met")}
            yield {"do": "play", **own, "ending": play.ending, "step": play.step.to_dict()}
        for (node, layer), lease in self.leases.items():
            yield lease_record(node, layer, lease.seconds, lease.ends)

    def _arm(self, record: Record, shift: float) -> None:
        step = Step.from_dict(record["step"])
        self.armed.setdefault(str(record["timeline"]), Armed()).steps[step.slot] = step
        self._keep(record, shift)

    def _keep(self, record: Record, shift: float) -> None:
        armed = self.armed[str(record["timeline"])]
        armed.seconds, armed.ends = record["seconds"], _shifted(record["ends"], shift)

    def _disarm(self, record: Record) -> None:
        self.armed.pop(str(record["timeline"]), None)

    def _start(self, record: Record, shift: float) -> None:
        name, t0 = str(record["timeline"]), float(record["t0"]) + shift
        for slot, step in self.armed[name].steps.items():
            self.plays[slot] = Play(name, step, t0, dict(record["counted"]))
        if not record["keep"]:
            del self.armed[name]

    def _play(self, record: Record, shift: float) -> None:
        step = Step.from_dict(record["step"])
        t0, met = float(record["t0"]) + shift, _shifted(record["met"], shift)
        counted, ending = dict(record["counted"]), bool(record["ending"])
        self.plays[step.slot] = Play(str(record["timeline"]), step, t0, counted, met, ending)

    def _met(self, record: Record, shift: float) -> None:
        self.plays[slot_of(record)].met = float(record["at"]) + shift

    def _end(self, record: Record, _: float) -> None:
        self.plays[slot_of(record)].ending = True

    def _done(self, record: Record, _: float) -> None:
        self.plays.pop(slot_of(record), None)

    def _lease(self, record: Record, shift: float) -> None:
        key = str(record["node"]), str(record["layer"])
        self.leases[key] = Lease(record["seconds"], _shifted(record["ends"], shift))

    def _unlease(self, record: Record) -> None:
        node, layer = record["node"], record["layer"]
        for key in [key for key in self.leases if key[0] == node and layer in (None, key[1])]:
            del self.leases[key]


def _shifted(when: float | None, shift: float) -> float | None:
    return None if when is None else when + shift


def slot_of(record: Record) -> Slot:
    """Return the slot that a record names."""
    node, kind, layer = record["slot"]
    return str(node), str(kind), str(layer)


def lease_record(node: str, layer: str, seconds: float | None, ends: float | None) -> Record:
    """Return the record of a lease."""
    return {"do": "lease", "node": node, "layer": layer, "seconds": seconds, "ends": ends}


class Book(Ledger):
    """A ledger whose records are in a journal before they hold."""

    def __init__(self, path: Path) -> None:
        """Take up what the journal at path holds, and write it anew without what is over."""
        super().__init__()
        self._journal = Journal(path)
        for record in self._journal.replay():
            self.apply(record)
        self._compact()

    def note(self, *records: Record) -> None:
        """Write records down, then let them hold.

        Raises:
            AgentError: if they cannot be written; then they do not hold.
        """
        self._journal.append(records)
        for record in records:
            self.apply(record)
        self._written += 1
        self._compact_if_long()

    def settle(self, *records: Record) -> None:
        """Let records hold of what is over, or goes on, even if they cannot be written down.

        An agent that takes up the journal without them comes to the same once more.
        """
        try:
            self.note(*records)
        except AgentError as error:
            print(error, file=sys.stderr, flush=True)
            for record in records:
                self.apply(record)

    def _compact_if_long(self) -> None:
        if self._written % 64 == 0 and self._journal.size > max(_LONGEST, 2 * self._least):
            self._compact()

    def _compact(self) -> None:
        # Where there is no room for another journal, the long one serves as well.
        with suppress(OSError):
            self._journal.compact(self.records())
        self._least = self._journal.size
        self._written = 0
