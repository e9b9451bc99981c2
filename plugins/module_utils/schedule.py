# SPDX-License-Identifier: GPL-3.0-or-later
"""A layer in time: the contents that it has, one after another, as phases.

A phase is the offset in seconds at which a layer takes a content, and that content; None is the
layer taken away. Offsets count from the layer's origin: the beginning of its timeline, or the
moment at which its condition came true. Phases are made as they are asked for, since a layer may
repeat for ever, and those of one layer are the same on every node and in every run with its seed.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable, Iterator, Mapping
from heapq import merge
from itertools import count
from operator import itemgetter
from typing import Any

from .times import Times

Body = Mapping[str, Any]
Phase = tuple[float, Body | None]
Values = Iterator[tuple[float, Body]]

# A linear ramp is updated so often.
UPDATE = 0.1
# Spells of a random flap are at least so long.
_SHORTEST_SPELL = 0.01
# From where a ramp starts if nothing says so: more than any node's network or disk carries.
_FAST: Mapping[str, int] = {
    "rate": 1_000_000_000,
    "read_bps": 1 << 30,
    "write_bps": 1 << 30,
    "read_iops": 100_000,
    "write_iops": 100_000,
}
_WHOLE = frozenset({*_FAST, "memory", "pids", "io"})
# What is added to a link, so that a ramp of it starts from nothing.
_ADDED = frozenset({"delay", "jitter", "loss", "duplicate", "reorder", "corrupt"})


def phases(kind: str, body: Body, times: Times, base: Body) -> Iterator[Phase]:
    """Yield the phases of one layer's part of one kind, in rising order.

    Args:
        kind: "link", "quota", "disk", "health" or "stress".
        body: the layer's content when it is fully in force.
        times: when that is.
        base: what the node's other layers add up to, from which ramps start.

    Yields:
        Phases whose contents differ from the one before, at offsets that rise; the last takes the
        layer away, at the end of its time. A layer without an end has no such phase.
    """
    held: Phase | None = None
    told: Body | None = None
    for offset, content in _raw(kind, body, times, base):
        if held is not None and offset > held[0]:
            if held[1] != told:
                yield held
                told = held[1]
            held = None
        held = (offset, content)
    if held is not None and (held[1] != told or held[1] is None):
        yield held


def at(parts: Iterable[Phase], offset: float) -> tuple[Phase | None, Iterator[Phase]]:
    """Return the phase in force at an offset, None before the first, and those that follow."""
    rest = iter(parts)
    current: Phase | None = None
    for phase in rest:
        if phase[0] > offset:
            return current, _chain(phase, rest)
        current = phase
    return current, iter(())


def _chain(first: Phase, rest: Iterator[Phase]) -> Iterator[Phase]:
    yield first
    yield from rest


def _raw(kind: str, body: Body, times: Times, base: Body) -> Iterator[Phase]:
    length = math.inf if times.duration is None else times.duration
    for number, onset in _onsets(times):
        values = _values(kind, body, times, base)
        for offset, content in _gated(values, _windows(times, number), length):
            yield onset + offset, content
        if length < math.inf:
            yield onset + length, None


def _onsets(times: Times) -> Iterator[tuple[int, float]]:
    """Yield the number and the offset of each time that the layer sets in."""
    if times.repeat is None:
        yield 0, times.start
        return
    numbers = count() if times.repeat.count is None else range(times.repeat.count)
    for number in numbers:
        yield number, times.start + number * times.repeat.period


def _windows(times: Times, number: int) -> Iterator[tuple[float, bool]]:
    """Yield when a flapping layer is on and off, from its onset."""
    now = 0.0
    if times.flap is None:
        yield now, True
        return
    rng = random.Random(f"{times.seed}/flap/{number}")
    for round_ in count():
        for is_on, mean in ((True, times.flap.on), (False, times.flap.off)):
            if times.flap.random:
                yield now, is_on
                now += max(rng.expovariate(1 / mean), _SHORTEST_SPELL)
            else:
                # Multiplied, not summed up: a flap of days drifts by nothing.
                lead = 0.0 if is_on else times.flap.on
                yield round_ * (times.flap.on + times.flap.off) + lead, is_on


def _gated(values: Values, windows: Iterator[tuple[float, bool]], length: float) -> Iterator[Phase]:
    """Yield the values while a window is open, and None while it is shut, up to a length."""
    current: Body | None = None
    is_open = False
    both: Iterator[tuple[float, Any]] = merge(values, windows, key=itemgetter(0))
    for offset, change in both:
        if offset >= length:
            return
        if isinstance(change, bool):
            is_open = change
        else:
            current = change
        if is_open or isinstance(change, bool):
            yield offset, current if is_open else None


def _values(kind: str, body: Body, times: Times, base: Body) -> Values:
    if times.trace is not None and kind == "link":
        return _traced(body, times.trace)
    if times.ramp is not None and kind in _MIXERS:
        seconds = times.ramp.seconds
        steps = times.ramp.steps or max(math.ceil(seconds / UPDATE), 1)
        return _ramp(_MIXERS[kind], body, base, seconds, steps)
    return iter([(0.0, body)])


def _traced(body: Body, trace: Iterable[tuple[float, Mapping[str, Any]]]) -> Values:
    """Yield a link's content as a recording goes on: the layer's own, and over it the row's."""
    if not trace or next(iter(trace))[0] > 0:
        yield 0.0, body
    for offset, row in trace:
        yield (
            offset,
            {
                way: {peer: {**numbers, **row} for peer, numbers in peers.items()}
                for way, peers in body.items()
            },
        )


Mixer = Callable[[Body, Body, float], Body]


def _ramp(mix: Mixer, body: Body, base: Body, seconds: float, steps: int) -> Values:
    """Yield contents that go from base, or from nothing, to the setting in equal steps."""
    for step in range(steps):
        # Stress begins with nothing at all, which is no content.
        if content := mix(body, base, step / steps):
            yield seconds * step / steps, content
    yield seconds, body


def _mix_link(body: Body, base: Body, share: float) -> Body:
    return {
        way: {
            peer: _mixed_quality(numbers, base.get(way, {}).get(peer, {}), share)
            for peer, numbers in peers.items()
        }
        for way, peers in body.items()
    }


def _mixed_quality(numbers: Body, base: Body, share: float) -> Body:
    mixed = dict(numbers)
    for key, value in numbers.items():
        if key == "rate" and value is not None:
            mixed[key] = _between(key, base.get(key) or _FAST[key], value, share)
        elif key in _ADDED:
            mixed[key] = _between(key, 0.0, value, share)
    return mixed


def _mix_limits(body: Body, base: Body, share: float) -> Body:
    return {
        key: _between(key, base.get(key, _FAST.get(key, limit)), limit, share)
        for key, limit in body.items()
    }


def _mix_disks(body: Body, base: Body, share: float) -> Body:
    """Fill disks by degrees; whatever else becomes of them does so at once."""
    return {
        disk: {
            key: _between(key, 0.0, value, share) if key == "fill" else value
            for key, value in part.items()
            if key != "fill" or share
        }
        for disk, part in body.items()
    }


def _mix_stress(body: Body, base: Body, share: float) -> Body:
    mixed = {key: _between(key, 0.0, value, share) for key, value in body.items()}
    return {key: value for key, value in mixed.items() if value}


def _between(key: str, first: float, last: float, share: float) -> float | int:
    value = first + (last - first) * share
    return round(value) if key in _WHOLE else value


_MIXERS: Mapping[str, Mixer] = {
    "link": _mix_link,
    "quota": _mix_limits,
    "disk": _mix_disks,
    "stress": _mix_stress,
}
