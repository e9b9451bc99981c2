# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether the links are what is asked of them: which pairs to measure, how, and when.

Pure. A pair is directed, (from, to): its rate and its loss are those of that direction. Of the two
delays only the sum can be measured, for the clocks of two machines differ by more than that; so a
round trip stands for both directions, and is measured once for both.

Measurements that would disturb one another are put into different rounds, and what does not fit
into the time that there is stays unmeasured. What is right, and how far off it may be, is in
verdicts.py.
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .quality import UNSHAPED, Quality
from .units import duration, show_duration
from .verdicts import (
    LONG_FRAME,
    Measured,
    Verdict,
    count_for_loss,
    count_for_trips,
    judge,
    streams_needed,
    why_no_goodput,
    why_no_loss,
)

Pair = tuple[str, str]
Matrix = Mapping[str, Mapping[str, Quality]]

PORT = 7068
RTT, LOSS, GOODPUT = "rtt", "loss", "goodput"
MOST_SAMPLED = 8
BUDGET_SECONDS = 60.0
# A pair that fails is measured again: a busy machine may delay one measurement, not three.
ATTEMPTS = 3
GOODPUT_SECONDS, MOST_GOODPUT_SECONDS = 1.0, 10.0
# A slow link is watched until so many frames have come, for the last may be only half there.
LEAST_FRAMES = 60
# A probe takes at most this share of a link, so that it does not measure its own queue.
PROBE_SHARE = 0.25
PING_SECONDS = 0.01
PING_BYTES, LOSS_BYTES = 64, 24
LIKELY_LOST = 0.2
HEADERS = 42  # of Ethernet, IPv4 and UDP
MOST_PACE = 2000.0
MOST_LOSS_SECONDS = 4.0
# To start a probe, to wait for its last packets, and to bring its answer back.
START_SECONDS = 0.25


@dataclass(frozen=True, slots=True)
class Measurement:
    """One thing to measure of a pair.

    Attributes:
        pair: from where to where.
        what: ``rtt``, ``loss`` or ``goodput``.
        options: how, as the probe's command line takes it.
        seconds: about how long it takes.
        streams: how many probes run side by side.
    """

    pair: Pair
    what: str
    options: tuple[str, ...] = ()
    seconds: float = 0.0
    streams: int = 1


@dataclass(slots=True)
class Round:
    """Measurements of one kind that run at once; ``busy`` is all that they use."""

    what: str
    measurements: list[Measurement] = field(default_factory=list)
    busy: set[str] = field(default_factory=set)
    seconds: float = 0.0


@dataclass(slots=True)
class Schedule:
    """What is measured, a round after another; ``left_out`` is what there is no time for."""

    rounds: list[Round] = field(default_factory=list)
    left_out: list[Measurement] = field(default_factory=list)
    seconds: float = 0.0


def choose(
    sites: Mapping[str, str], mode: str, rng: random.Random, count: int | None = None
) -> list[Pair]:
    """Return the directed pairs to measure.

    Args:
        sites: the site of each node.
        mode: ``none``, ``all``, or ``sample``, which covers every ordered pair of sites.
        rng: draws the sample.
        count: how many a sample has; those that cover the sites come first.
    """
    pairs = [(one, other) for one in sites for other in sites if one != other]
    if mode in ("none", "all"):
        return pairs if mode == "all" else []
    rng.shuffle(pairs)
    seen: set[Pair] = set()
    first: list[Pair] = []
    rest: list[Pair] = []
    for pair in pairs:
        between = (sites[pair[0]], sites[pair[1]])
        (rest if between in seen else first).append(pair)
        seen.add(between)
    return [*first, *rest][: max(MOST_SAMPLED, len(first)) if count is None else count]


def read_pairs(texts: Iterable[str], nodes: Iterable[str]) -> list[Pair]:
    """Return the pairs that texts such as ``edge-1:cloud-1`` name.

    Raises:
        ValueError: in one line.
    """
    known = set(nodes)
    found = []
    for text in texts:
        ends = text.split(":")
        if len(ends) != 2 or not all(ends) or ends[0] == ends[1]:
            raise ValueError(f"pair: {text!r} is no FROM:TO; write edge-1:cloud-1")
        for end in ends:
            if end not in known:
                raise ValueError(f"pair: there is no node {end!r}")
        found.append((ends[0], ends[1]))
    return found


def read_budget(value: object) -> float:
    """Return the seconds that a verification may take, such as ``30s``.

    Raises:
        ValueError: in one line.
    """
    try:
        seconds = duration(value)
    except ValueError as error:
        raise ValueError(f"budget: {error}") from error
    if seconds < 1:
        raise ValueError(f"budget: {show_duration(seconds)} is too short; give 1s at least")
    return seconds


def ask(pairs: Iterable[Pair], matrix: Matrix) -> dict[Pair, Verdict]:
    """Return what is asked of each pair, with nothing measured yet.

    Args:
        pairs: which.
        matrix: the quality of each directed pair now in force; what is not in it is unshaped.
    """
    return {
        (source, target): Verdict.of(
            source,
            target,
            matrix.get(source, {}).get(target, UNSHAPED),
            matrix.get(target, {}).get(source, UNSHAPED),
        )
        for source, target in pairs
    }


def schedule(
    asked: Mapping[Pair, Verdict], budget: float, shared: Mapping[str, str] | None = None
) -> Schedule:
    """Return what to measure within a time, in rounds in which nothing is used twice.

    Pairs come in their order, each with all that can be measured of it, so that a short time
    gives whole verdicts on few pairs and not parts of many.

    Args:
        asked: what is asked of each pair.
        budget: seconds.
        shared: by node, the site whose access it shares with other nodes, if it has such a one.
    """
    found = Schedule()
    known = set()
    for pair, verdict in asked.items():
        for each in measurements(pair, verdict):
            if each.what == RTT and (pair[1], pair[0]) in known:
                continue
            shares = shared if shared and each.what == GOODPUT else {}
            _place(found, each, uses(pair, shares), budget)
        known.add(pair)
    # Whatever fills links comes last, so that its queues have run dry before anything is timed.
    found.rounds.sort(key=lambda one: (RTT, LOSS, GOODPUT).index(one.what))
    return found


def uses(pair: Pair, shared: Mapping[str, str]) -> set[str]:
    """Return what a measurement needs for itself: its nodes, and the accesses that it crosses."""
    ways = {shared[end] for end in pair if end in shared}
    inside = shared.get(pair[0]) == shared.get(pair[1])
    return {*pair, *(f"access of {way}" for way in ways if not inside)}


def _place(found: Schedule, one: Measurement, needs: set[str], budget: float) -> None:
    """Put a measurement into the first round that has room, or into a new one, if time allows."""
    lasts = one.seconds + START_SECONDS
    for each in found.rounds:
        if each.what == one.what and not needs & each.busy:
            chosen, more = each, max(0.0, lasts - each.seconds)
            break
    else:
        chosen, more = Round(one.what), lasts
    if found.seconds + more > budget:
        found.left_out.append(one)
        return
    if not chosen.measurements:
        found.rounds.append(chosen)
    chosen.measurements.append(one)
    chosen.busy |= needs
    chosen.seconds += more
    found.seconds += more


def measurements(pair: Pair, asked: Verdict) -> list[Measurement]:
    """Return what can be measured of a pair."""
    found = [_trips(pair, asked)]
    if not why_no_loss(asked):
        found.append(_losses(pair, asked))
    if count := streams(asked):
        frames = LEAST_FRAMES * LONG_FRAME * 8 / (asked.asked_rate or math.inf)
        lasts = min(MOST_GOODPUT_SECONDS, max(GOODPUT_SECONDS, 1.5 * frames))
        options = ("--seconds", f"{lasts:g}", "--wait", f"{2 + 10 * asked.asked_rtt:.3f}")
        lasts += 2 * asked.asked_rtt
        found.append(Measurement(pair, GOODPUT, options, lasts, count))
    return found


def _trips(pair: Pair, asked: Verdict) -> Measurement:
    """Pings, far enough apart that none is held back by the one before it."""
    rates = [one.rate for one in (asked.there, asked.back) if one.rate is not None]
    share = (PING_BYTES + HEADERS) * 8 / (PROBE_SHARE * min(rates)) if rates else 0.0
    spread = 3 * (asked.there.jitter + asked.back.jitter)
    interval = max(PING_SECONDS, share, spread)
    count = count_for_trips(asked.there, asked.back)
    wait = min(10.0, 1.0 + 2 * (asked.asked_rtt + spread))
    options = ("--count", str(count), "--interval", f"{interval:.6f}", "--wait", f"{wait:.3f}")
    # What is lost is waited for.
    lost = count * (asked.there.loss + asked.back.loss)
    last = wait if asked.is_cut or lost > LIKELY_LOST else asked.asked_rtt + spread
    return Measurement(pair, RTT, options, count * interval + last)


def _losses(pair: Pair, asked: Verdict) -> Measurement:
    rate, there = asked.there.rate, asked.there
    frame = (LOSS_BYTES + HEADERS) * 8
    pace = MOST_PACE if rate is None else min(MOST_PACE, PROBE_SHARE * rate / frame)
    count = max(1, min(count_for_loss(there), int(pace * MOST_LOSS_SECONDS)))
    batch = max(1, min(20, int(pace / 100)))
    wait = 1.0 + 2 * asked.asked_rtt
    how = ("--count", str(count), "--pace", f"{pace:.3f}", "--batch", str(batch))
    options = (*how, "--size", str(LOSS_BYTES), "--wait", f"{wait:.3f}")
    # The far end waits in vain for what is lost.
    return Measurement(pair, LOSS, options, count / pace + wait)


def streams(asked: Verdict) -> int:
    """Return how many TCP streams together can fill the link; 0 if that cannot be measured."""
    return 0 if why_no_goodput(asked) else streams_needed(asked)


def read_answers(what: str, answers: Sequence[Mapping[str, Any]]) -> Measured:
    """Return what the probes of one measurement have found; empty if they could not measure."""
    if what == GOODPUT:
        carried = [answer.get("goodput") for answer in answers]
        if None in carried:
            return {}
        shortest = min(float(answer.get("seconds") or 0) for answer in answers)
        return {"goodput": math.fsum(filter(None, carried)), "seconds": shortest}
    answer = answers[0] if answers else {}
    if what == LOSS:
        return {"loss": answer.get("loss"), "loss_packets": answer.get("count")}
    came = int(answer.get("count") or 0) - int(answer.get("lost") or 0)
    trips = came if answer else None
    found = {"rtt_p50": answer.get("p50"), "rtt_p95": answer.get("p95")}
    return {**found, "trips": trips, "pings": answer.get("count")}


def read_output(text: str) -> dict[str, Any]:
    """Return the JSON object that a probe printed, an empty one if it printed none."""
    for line in reversed(text.splitlines()):
        if line.startswith("{"):
            answer: dict[str, Any] = json.loads(line)
            return answer
    return {}


def conclude(
    asked: Mapping[Pair, Verdict],
    found: Mapping[tuple[Pair, str], Measured],
    left_out: Iterable[Measurement] = (),
    excused: Mapping[Pair, str] | None = None,
) -> list[Verdict]:
    """Return the verdict on each pair.

    Args:
        asked: what is asked of each.
        found: what was measured, by pair and kind; a round trip counts for both its directions.
        left_out: what there was no time for.
        excused: why a pair cannot be judged, such as that its setting changed meanwhile.
    """
    late = {(each.pair, each.what) for each in left_out}
    late |= {((each.pair[1], each.pair[0]), RTT) for each in left_out if each.what == RTT}
    verdicts = []
    for pair, wanted in asked.items():
        if pair in (excused or {}):
            verdicts.append(wanted.unmeasured((excused or {})[pair]))
            continue
        measured: Measured = {}
        for key in ((pair[::-1], RTT), (pair, RTT), (pair, LOSS), (pair, GOODPUT)):
            measured = {**measured, **found.get(key, {})}
        lacking = [what for what in (RTT, LOSS, GOODPUT) if (pair, what) in late]
        verdicts.append(judge(wanted, measured, lacking))
    return verdicts


def again(asked: Mapping[Pair, Verdict], verdicts: Iterable[Verdict]) -> dict[Pair, Verdict]:
    """Return what is asked of the pairs that failed, to measure them once more."""
    failed = {(each.src, each.dst) for each in verdicts if each.verdict == "fail"}
    return {pair: wanted for pair, wanted in asked.items() if pair in failed}
