# SPDX-License-Identifier: GPL-3.0-or-later
"""What is asked of a directed pair, how far a measurement may be off, and the verdict.

Pure. Every tolerance is that of the link itself (1 ms or 2 % of each way's delay, 5 % of the
goodput) widened by what chance does to so many packets, at 99 %: a link that is right fails once
in a hundred measurements, and one that fails is measured again.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from .distributions import gilbert, quantile
from .quality import UNSHAPED, Quality
from .units import show_rate, show_ratio

Measured = Mapping[str, Any]
PASS, FAIL, UNMEASURED = "pass", "fail", "unmeasured"

# A round trip is two one-way delays, each of which may be off by 1 ms or 2 %.
ALLOWED_SECONDS, ALLOWED_SHARE = 0.001, 0.02
ALLOWED_RATE = 0.05
# 99 % of a normal distribution lie within so many standard deviations.
SIGMAS = 2.6
# Rates beyond this would measure this machine's processor and not the link.
MOST_RATE = 200_000_000
MOST_RTT = 0.2
MOST_STREAMS = 8
# Of an Ethernet frame of 1514 bytes, TCP with timestamps carries 1448.
LONG_PAYLOAD, LONG_FRAME = 1448, 1514
PAYLOAD_SHARE = LONG_PAYLOAD / LONG_FRAME
LEAST_TRIPS, MOST_TRIPS = 25, 50
LEAST_PACKETS, MOST_PACKETS = 1000, 6000
SMALLEST_LOSS = 0.002
LEAST_ECHOES = 0.05
# Nothing that comes back is no news if chance does it as often as this.
CHANCE = 0.01
_POINTS = 64


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was asked of a directed pair, what was measured, and whether that fits.

    Rates are bits/s, times seconds, losses 0..1; None was not asked or not measured. Each verdict
    is ``pass``, ``fail`` or ``unmeasured``; that of the whole fails if any part does.
    """

    src: str
    dst: str
    asked_rate: int | None
    asked_delay: float
    asked_loss: float
    asked_rtt: float
    tolerance_rtt: float
    rtt_p50: float | None = None
    rtt_p95: float | None = None
    verdict_rtt: str = UNMEASURED
    goodput_expected: float | None = None
    tolerance_goodput: float | None = None
    goodput: float | None = None
    verdict_goodput: str = UNMEASURED
    loss_expected: float = 0.0
    tolerance_loss: float | None = None
    loss: float | None = None
    verdict_loss: str = UNMEASURED
    verdict: str = UNMEASURED
    reason: str = ""
    there: Quality = UNSHAPED
    back: Quality = UNSHAPED

    @classmethod
    def of(cls, src: str, dst: str, there: Quality, back: Quality) -> Verdict:
        """Return what is asked of a pair whose two directions have these qualities."""
        rtt = there.delay + back.delay
        expected, allowed = goodput_of(there)
        return cls(
            src=src,
            dst=dst,
            asked_rate=there.rate,
            asked_delay=there.delay,
            asked_loss=there.loss,
            asked_rtt=rtt,
            tolerance_rtt=tolerance_of_trips(there, back, count_for_trips(there, back)),
            goodput_expected=expected,
            tolerance_goodput=allowed,
            loss_expected=lost_share(there),
            there=there,
            back=back,
        )

    @property
    def is_cut(self) -> bool:
        """Whether nothing can come back."""
        return self.there.is_down or self.back.is_down

    def unmeasured(self, reason: str) -> Verdict:
        """Return this without a verdict, for a reason."""
        return replace(self, verdict=UNMEASURED, reason=reason)

    def row(self) -> dict[str, Any]:
        """Return the verdict as a row of the links table."""
        names = [each.name for each in fields(self)]
        return {name: getattr(self, name) for name in names if name not in ("there", "back")}


def goodput_of(one: Quality) -> tuple[float | None, float | None]:
    """Return the TCP goodput in bits/s that a direction gives, and by how much it may be missed.

    The rate bounds what is sent, so what is lost was part of it; but in a short while more can be
    delivered than that leaves, when a gap is filled and all that waited behind it counts.
    """
    if one.rate is None:
        return None, None
    whole, lost = one.rate * PAYLOAD_SHARE, lost_share(one)
    return whole * (1 - lost / 2), whole * (ALLOWED_RATE + lost / 2)


def lost_share(one: Quality) -> float:
    """Return the share of packets that do not arrive whole.

    A flipped bit fails the checksum of UDP or TCP, so for a program the packet is lost.
    """
    return 1 - (1 - one.loss) * (1 - one.corrupt)


def loss_inflation(one: Quality) -> float:
    """Return by how much bursts widen the variance of a share of lost packets.

    In Gilbert's chain the good state is left with probability p and the bad one with r. The states
    of two packets that are k apart correlate as (1 - p - r) ** k, so the variance of the mean of
    many is that of independent packets times (1 + c) / (1 - c) with c = 1 - p - r (Gabriel,
    Biometrika 46, 1959, on the successes in dependent trials).
    """
    if not one.burst or not 0 < one.loss < 1:
        return 1.0
    correlation = 1 - sum(gilbert(one.loss, one.burst))
    return max(1.0, (1 + correlation) / (1 - correlation))


def delays(one: Quality) -> list[float]:
    """Return equally likely one-way delays of a direction; those that overtake have none."""
    if not one.jitter and not one.reorder:
        return [one.delay]
    shares = [(index + 0.5) / _POINTS for index in range(_POINTS)]
    found = [max(0.0, one.delay + one.jitter * quantile(one.distribution, at)) for at in shares]
    early = round(_POINTS * one.reorder)
    return [0.0] * early + [found[round(at * (_POINTS - 1))] for at in shares[early:]]


def count_for_trips(there: Quality, back: Quality) -> int:
    """Return how many pings tell a round trip: more of them the more it scatters."""
    jitter = math.hypot(there.jitter, back.jitter)
    allowed = _allowed(there.delay + back.delay)
    wanted = (1.2533 * SIGMAS * jitter / allowed) ** 2
    arriving = (1 - lost_share(there)) * (1 - lost_share(back))
    return max(LEAST_TRIPS, min(MOST_TRIPS, round(wanted / max(arriving, LEAST_ECHOES))))


def _allowed(rtt: float) -> float:
    return max(2 * ALLOWED_SECONDS, ALLOWED_SHARE * rtt)


def tolerance_of_trips(there: Quality, back: Quality, count: int) -> float:
    """Return how far the median of so many round trips may be from the sum of the two delays.

    The median of a sample lies, whatever the distribution, between the quantiles
    1/2 ± SIGMAS / (2 sqrt(count)) of what it is drawn from.
    """
    rtt = there.delay + back.delay
    sums = sorted(one + other for one in delays(there) for other in delays(back))
    reach = min(0.5, SIGMAS / (2 * math.sqrt(max(count, 1))))
    low, high = (sums[round((0.5 + way * reach) * (len(sums) - 1))] for way in (-1, 1))
    return _allowed(rtt) + max(rtt - low, high - rtt)


def count_for_loss(one: Quality) -> int:
    """Return how many packets tell a loss to half of itself, within bounds."""
    share = lost_share(one)
    wanted = (SIGMAS / 0.5) ** 2 * (1 - share) / max(share, 1e-9) * loss_inflation(one)
    return round(max(LEAST_PACKETS, min(MOST_PACKETS, wanted)))


def tolerance_of_loss(one: Quality, count: int) -> float:
    """Return how far the share of lost packets may be from what is asked."""
    share = lost_share(one)
    variance = share * (1 - share) / count * loss_inflation(one)
    return SIGMAS * math.sqrt(variance) + 0.5 / count


def why_no_loss(asked: Verdict) -> str:
    """Return why the loss of a pair is not measured by itself; nothing if it is."""
    share, echoes = asked.loss_expected, 1 - lost_share(asked.back)
    if asked.is_cut:
        return "nothing can come back"
    if share == 0:
        return "no loss is asked"
    if share < SMALLEST_LOSS:
        return f"a loss of {percent(share)} is too small to be seen"
    if (1 - share) * echoes < LEAST_ECHOES:
        return "too much is lost to ask the far end what came"
    return ""


def why_no_goodput(asked: Verdict) -> str:
    """Return why the rate of a pair is not measured; nothing if TCP can show it."""
    if asked.asked_rate is None:
        return "no rate is asked"
    if asked.is_cut:
        return "nothing can come back"
    if asked.asked_rate > MOST_RATE:
        return f"beyond {show_rate(MOST_RATE)} the processor would be measured"
    if asked.asked_rtt > MOST_RTT:
        return f"a round trip of {asked.asked_rtt * 1e3:.0f} ms takes TCP too long"
    if asked.there.reorder or asked.back.reorder:
        return "TCP takes packets that overtake for lost ones"
    if any(one.burst and one.loss for one in (asked.there, asked.back)):
        return "bursts of loss stop TCP for longer than a measurement lasts"
    if streams_needed(asked) > MOST_STREAMS:
        return f"at this loss not even {MOST_STREAMS} TCP streams fill the link"
    return ""


def streams_needed(asked: Verdict) -> int:
    """Return how many TCP streams it takes to fill a link with a rate.

    Random loss bounds one stream (Mathis et al., 1997); the bound leaves room for twice the rate.
    """
    rate, loss = asked.asked_rate, asked.loss_expected
    if rate is None or loss == 0 or asked.asked_rtt == 0:
        return 1
    bound = 1.22 * LONG_PAYLOAD * 8 / (asked.asked_rtt * math.sqrt(loss))
    return math.ceil(2 * rate / bound)


def judge(asked: Verdict, measured: Measured, late: Collection[str] = ()) -> Verdict:
    """Return the pair with what was measured of it, and the verdict.

    Args:
        asked: what is asked.
        measured: of rtt_p50, rtt_p95, trips, goodput, seconds, loss and loss_packets what there is.
        late: what there was no time for: ``rtt``, ``goodput``, ``loss``.
    """
    keys = ("rtt_p50", "rtt_p95", "goodput", "loss")
    found = replace(asked, **{key: measured[key] for key in keys if key in measured})
    reasons: dict[str, list[str]] = {PASS: [], FAIL: [], UNMEASURED: []}
    for part, look in (("rtt", _judge_rtt), ("goodput", _judge_goodput), ("loss", _judge_loss)):
        found, verdict, reason = look(found, measured)
        if verdict == UNMEASURED and part in late:
            reason = f"{part}: no time left"
        told: dict[str, Any] = {f"verdict_{part}": verdict}
        found = replace(found, **told)
        reasons[verdict].append(reason)
    whole = next((each for each in (FAIL, PASS) if reasons[each]), UNMEASURED)
    texts = reasons[FAIL] or reasons[PASS] + reasons[UNMEASURED]
    return replace(found, verdict=whole, reason="; ".join(text for text in texts if text))


_Look = tuple[Verdict, str, str]


def _judge_rtt(pair: Verdict, measured: Measured) -> _Look:
    trips, median = measured.get("trips"), pair.rtt_p50
    if trips is None and median is None:
        return pair, UNMEASURED, "round trip: not measured"
    if pair.is_cut:
        text = "packets come back, though the link is down"
        return pair, *((FAIL, text) if median is not None else (PASS, "nothing comes back"))
    if median is None:
        return pair, *_judge_silence(pair)
    tolerance = tolerance_of_trips(pair.there, pair.back, trips or LEAST_TRIPS)
    pair = replace(pair, tolerance_rtt=tolerance)
    if abs(median - pair.asked_rtt) <= tolerance:
        return pair, PASS, ""
    return (
        pair,
        FAIL,
        f"round trip {median * 1e3:.1f} ms, asked {pair.asked_rtt * 1e3:.1f}"
        f" ± {tolerance * 1e3:.1f} ms",
    )


def _judge_silence(pair: Verdict) -> tuple[str, str]:
    """Judge that nothing came back where something should have, but for chance."""
    arriving = (1 - lost_share(pair.there)) * (1 - lost_share(pair.back))
    spells = max(loss_inflation(pair.there), loss_inflation(pair.back))
    chance = (1 - arriving) ** (count_for_trips(pair.there, pair.back) / spells)
    if chance > CHANCE:
        return UNMEASURED, f"no packet came back, as a loss of {1 - arriving:.0%} may have it"
    return FAIL, "no packet came back"


def _judge_goodput(pair: Verdict, measured: Measured) -> _Look:
    expected, goodput = pair.goodput_expected, pair.goodput
    if goodput is None or expected is None:
        reason = why_no_goodput(pair)
        asked = expected is not None and not pair.is_cut
        return pair, UNMEASURED, f"goodput: {reason or 'not measured'}" if asked else ""
    window = measured.get("seconds") or 2 / 3
    tolerance = max(pair.tolerance_goodput or 0.0, 2 * LONG_PAYLOAD * 8 / window)
    pair = replace(pair, tolerance_goodput=tolerance)
    if abs(goodput - expected) <= tolerance:
        return pair, PASS, ""
    return (
        pair,
        FAIL,
        f"goodput {goodput / 1e6:.2f} Mbit/s, expected {expected / 1e6:.2f}"
        f" ± {tolerance / expected:.0%}",
    )


def _judge_loss(pair: Verdict, measured: Measured) -> _Look:
    share, loss = pair.loss_expected, pair.loss
    count = int(measured.get("loss_packets") or LEAST_PACKETS)
    if loss is None and share == 0 and lost_share(pair.back) == 0:
        return _judge_no_loss(pair, measured)
    if loss is None:
        reason = why_no_loss(pair)
        told = "" if pair.is_cut or share == 0 else f"loss: {reason or 'not measured'}"
        return pair, UNMEASURED, told
    tolerance = tolerance_of_loss(pair.there, count)
    pair = replace(pair, tolerance_loss=tolerance)
    if abs(loss - share) <= tolerance:
        return pair, PASS, ""
    return pair, FAIL, f"loss {loss:.2%}, asked {share:.2%} ± {tolerance:.2%}"


def _judge_no_loss(pair: Verdict, measured: Measured) -> _Look:
    """Judge a direction that should lose nothing by the pings that did not come back."""
    trips = measured.get("trips")
    if trips is None or not trips:
        return pair, UNMEASURED, ""
    sent = max(int(measured.get("pings") or trips), trips)
    pair = replace(pair, loss=1 - trips / sent, tolerance_loss=1 / sent)
    if sent - trips <= 1:
        return pair, PASS, ""
    return pair, FAIL, f"{sent - trips} of {sent} pings were lost, and no loss is asked"


def percent(share: float) -> str:
    """Return a share as text, to three digits."""
    return show_ratio(float(f"{share:.3g}"))
