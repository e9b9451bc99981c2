# SPDX-License-Identifier: GPL-3.0-or-later
"""Arrivals, and the processes that make them up."""

from __future__ import annotations

import math
import random
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

WorkClass = Literal["latency", "batch"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """One request or one job that arrives; what the source does not tell is None.

    Attributes:
        time: seconds after the start.
        work: CPU seconds that it takes.
        in_bytes: input, or a request's body.
        out_bytes: output, or an answer's body.
        cores: CPU that a job asks for while it runs.
        memory: bytes that a job asks for.
        duration: seconds that a job ran.
        work_class: latency or batch.
        name: what the source calls it.
    """

    time: float
    work: float | None = None
    in_bytes: int | None = None
    out_bytes: int | None = None
    cores: float | None = None
    memory: int | None = None
    duration: float | None = None
    work_class: WorkClass | None = None
    name: str | None = None


def poisson(rate: float, duration: float, rng: random.Random) -> tuple[Arrival, ...]:
    """Return the arrivals of a Poisson process.

    Args:
        rate: arrivals a second, on average.
        duration: seconds; no arrival lies at it or beyond.
        rng: the only source of chance.
    """
    _check(rate, duration)
    moments, moment = [], rng.expovariate(rate)
    while moment < duration:
        moments.append(moment)
        moment += rng.expovariate(rate)
    return at(moments)


def constant(rate: float, duration: float) -> tuple[Arrival, ...]:
    """Return arrivals at even distances, the first at once, none at the duration or beyond."""
    _check(rate, duration)
    # Each moment from its number: a sum of gaps would drift.
    moments = (number / rate for number in range(math.ceil(rate * duration) + 1))
    return at(moment for moment in moments if moment < duration)


def at(moments: Iterable[float]) -> tuple[Arrival, ...]:
    """Return one arrival at each of the moments, in the order of time."""
    return tuple(Arrival(time=moment) for moment in sorted(moments))


def requests(
    arrivals: Iterable[Arrival],
    service: str,
    *,
    work: float,
    in_bytes: int,
    out_bytes: int,
    start: float = 0.0,
) -> list[tuple[float, str, float, int, int]]:
    """Return the lines of a load generator's plan: when, to which service, and the cost of each.

    Args:
        arrivals: what arrives.
        service: to which service.
        work: CPU seconds of those that do not tell.
        in_bytes: the body of those that do not tell.
        out_bytes: the answer to those that do not tell.
        start: seconds by which all are later.
    """
    return [
        (
            start + arrival.time,
            service,
            work if arrival.work is None else arrival.work,
            in_bytes if arrival.in_bytes is None else arrival.in_bytes,
            out_bytes if arrival.out_bytes is None else arrival.out_bytes,
        )
        for arrival in arrivals
    ]


def _check(rate: float, duration: float) -> None:
    if not 0 < rate < math.inf:
        raise ValueError(f"a rate must be above zero arrivals a second, not {rate}")
    if not 0 <= duration < math.inf:
        raise ValueError(f"a duration must be zero or more seconds, not {duration}")
