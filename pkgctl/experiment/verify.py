# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether the links are what was asked for: which pairs to measure, and the verdict on each.

Pure. Pairs are put into rounds in which no node stands twice, so that no two measurements share
a link; which pairs are sampled follows from the seed and covers every pair of sites.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from pkgctl.nodeside import Quality
from pkgctl.topology import Topology

Pair = tuple[str, str]

MOST_SAMPLED = 8
MOST_GOODPUT = 3
MOST_STREAMS = 8
PINGS = 25
# A round trip is two one-way delays, each of which may be off by 1 ms or 2 %.
ALLOWED_SECONDS, ALLOWED_SHARE = 0.001, 0.02
# How far the median of a normal sample strays: sqrt(pi / 2) standard errors, at 2.6 sigma (99 %).
MEDIAN_SPREAD = 1.2533 * 2.6
ALLOWED_RATE = 0.05
# Rates beyond this would measure this machine's processor and not the link.
MOST_RATE = 200_000_000
MOST_DELAY = 0.2
# Of an Ethernet frame of 1514 bytes, TCP with timestamps carries 1448.
MTU_PAYLOAD = 1448
PAYLOAD_SHARE = MTU_PAYLOAD / 1514
LOSS_PACKETS = 1000
SMALLEST_LOSS = 0.002


@dataclass(frozen=True)
class Verdict:
    """What was asked of a directed pair, what was measured, and whether that fits.

    Rates are bits/s, times seconds, losses 0..1; None was not asked or not measured.
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
    goodput: float | None = None
    goodput_expected: float | None = None
    loss: float | None = None
    verdict: str = "unmeasured"
    reason: str = ""

    def row(self) -> dict[str, Any]:
        """Return the verdict as a row of the links table."""
        return asdict(self)


def choose(topology: Topology, mode: str, rng: random.Random) -> list[Pair]:
    """Return the pairs to measure: none, all, or a sample that covers every pair of sites."""
    names = [node.name for node in topology.nodes]
    pairs = [(one, other) for i, one in enumerate(names) for other in names[i + 1 :]]
    if mode == "none" or mode == "all":
        return pairs if mode == "all" else []
    rng.shuffle(pairs)
    sites = {node.name: node.site for node in topology.nodes}
    seen: set[frozenset[str]] = set()
    first: list[Pair] = []
    rest: list[Pair] = []
    for pair in pairs:
        between = frozenset(sites[end] for end in pair)
        (rest if between in seen else first).append(pair)
        seen.add(between)
    return [*first, *rest][: max(MOST_SAMPLED, len(first))]


def rounds(pairs: Iterable[Pair]) -> list[list[Pair]]:
    """Return the pairs in rounds, in each of which a node stands at most once."""
    found: list[list[Pair]] = []
    for pair in pairs:
        for together in found:
            if not set(pair) & {end for other in together for end in other}:
                together.append(pair)
                break
        else:
            found.append([pair])
    return found


def asked(src: str, dst: str, matrix: Mapping[str, Mapping[str, Quality]]) -> Verdict:
    """Return what is asked of a pair, with nothing measured yet."""
    there, back = matrix[src][dst], matrix[dst][src]
    rtt = there.delay + back.delay
    jitter = math.hypot(there.jitter, back.jitter)
    allowed = max(2 * ALLOWED_SECONDS, ALLOWED_SHARE * rtt)
    return Verdict(
        src=src,
        dst=dst,
        asked_rate=there.rate,
        asked_delay=there.delay,
        asked_loss=there.loss,
        asked_rtt=rtt,
        tolerance_rtt=allowed + MEDIAN_SPREAD * jitter / math.sqrt(PINGS),
        goodput_expected=None if there.rate is None else there.rate * PAYLOAD_SHARE,
    )


def streams(pair: Verdict) -> int:
    """Return how many TCP streams together can fill the link; 0 if that cannot be measured.

    Random loss bounds one stream (Mathis et al., 1997); the bound leaves room for twice the rate.
    """
    rate = pair.asked_rate
    if rate is None or rate > MOST_RATE or pair.asked_rtt > MOST_DELAY:
        return 0
    if pair.asked_loss == 0 or pair.asked_rtt == 0:
        return 1
    bound = 1.22 * MTU_PAYLOAD * 8 / (pair.asked_rtt * math.sqrt(pair.asked_loss))
    needed = math.ceil(2 * rate / bound)
    return needed if needed <= MOST_STREAMS else 0


def has_measurable_loss(pair: Verdict) -> bool:
    """Return whether a thousand packets can tell the loss from none."""
    return SMALLEST_LOSS <= pair.asked_loss < 1


def judge(pair: Verdict, measured: Mapping[str, float | None]) -> Verdict:
    """Return the pair with what was measured of it, and the verdict.

    Args:
        pair: what is asked.
        measured: of rtt_p50, rtt_p95, goodput and loss what there is.
    """
    found: dict[str, Any] = {key: value for key, value in measured.items() if value is not None}
    known = replace(pair, **found)
    if known.rtt_p50 is None:
        return replace(known, verdict=_unreached(known), reason="no packet came back")
    reasons = [text for text in (_judge_rtt(known), _judge_rate(known), _judge_loss(known)) if text]
    return replace(known, verdict="fail" if reasons else "pass", reason="; ".join(reasons))


def _unreached(pair: Verdict) -> str:
    return "pass" if pair.asked_loss == 1 else "fail"


def _judge_rtt(pair: Verdict) -> str:
    found = pair.rtt_p50 or 0.0
    if abs(found - pair.asked_rtt) <= pair.tolerance_rtt:
        return ""
    return (
        f"round trip {found * 1e3:.1f} ms, asked {pair.asked_rtt * 1e3:.1f}"
        f" ± {pair.tolerance_rtt * 1e3:.1f} ms"
    )


def _judge_rate(pair: Verdict) -> str:
    if pair.goodput is None or pair.goodput_expected is None:
        return ""
    if abs(pair.goodput / pair.goodput_expected - 1) <= ALLOWED_RATE:
        return ""
    return (
        f"goodput {pair.goodput / 1e6:.2f} Mbit/s, expected {pair.goodput_expected / 1e6:.2f}"
        f" ± {ALLOWED_RATE:.0%}"
    )


def _judge_loss(pair: Verdict) -> str:
    if pair.loss is None:
        return ""
    sigma = math.sqrt(pair.asked_loss * (1 - pair.asked_loss) / LOSS_PACKETS)
    if abs(pair.loss - pair.asked_loss) <= 2.6 * sigma:
        return ""
    return f"loss {pair.loss:.2%}, asked {pair.asked_loss:.2%} ± {2.6 * sigma:.2%}"


def failed(verdicts: Sequence[Verdict]) -> list[Verdict]:
    """Return the verdicts that say that a link is not what was asked for."""
    return [each for each in verdicts if each.verdict == "fail"]
