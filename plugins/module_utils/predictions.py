# SPDX-License-Identifier: GPL-3.0-or-later
"""What is known before a setting is applied: what a machine, or a measurement, cannot do with it.

Pure. Nothing here refuses a setting; each line says what will be otherwise than it was asked.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from . import rtnl, shaping
from .quality import NORMAL, UNSHAPED, Quality
from .units import show_duration, show_rate, show_size
from .verdicts import MOST_PACKETS, SMALLEST_LOSS, lost_share, percent

# Delays end on this grid: packets that are due together leave together.
GRID_SECONDS = 0.0001
_ETHERNET_BYTES = 14
# So many spells must be expected before their share means anything.
_LEAST_SPELLS = 5


@dataclass(frozen=True, slots=True)
class Machine:
    """What a machine does without any shaping; None is not known.

    Attributes:
        rate: bits/s that one TCP connection carries between two nodes.
        delay: seconds that a packet takes one way.
        mtu: bytes of the nodes' interfaces.
    """

    rate: int | None = None
    delay: float | None = None
    mtu: int = 1500

    def to_dict(self) -> dict[str, Any]:
        """Return it ready for JSON."""
        return asdict(self)


def foresee(
    quality: Quality, machine: Machine, back: Quality = UNSHAPED, *, measured: bool = True
) -> list[str]:
    """Return what will not be as asked of one direction of a link, a line each.

    Args:
        quality: what is asked of the direction.
        machine: what the machine does.
        back: what is asked of the other direction.
        measured: also tell what no measurement can show.
    """
    if quality.is_down:
        return []
    return [
        *_about_rate(quality, machine),
        *_about_queue(quality, back, machine),
        *_about_delay(quality, machine),
        *(_about_loss(quality) if measured else ()),
    ]


def _about_rate(quality: Quality, machine: Machine) -> Iterator[str]:
    if quality.rate is not None and machine.rate is not None and quality.rate > machine.rate:
        yield (
            f"rate {show_rate(quality.rate)}: this machine carries about"
            f" {show_rate(_rounded(machine.rate))}"
        )


def _about_queue(quality: Quality, back: Quality, machine: Machine) -> Iterator[str]:
    if quality.rate is None:
        return
    rate, frame = max(quality.rate // 8, 1), machine.mtu + _ETHERNET_BYTES
    burst, queue = rtnl.burst(rate), shaping.queue(rate, quality.delay).limit
    needed = int(rate * (quality.delay + back.delay))
    if burst < frame:
        yield (
            f"rate {show_rate(quality.rate)}: its burst of {burst} bytes is below a frame of"
            f" {frame}, so the rate is not reached"
        )
    if queue < needed:
        yield (
            f"rate {show_rate(quality.rate)} with a round trip of"
            f" {_time(quality.delay + back.delay)}: the queue of"
            f" {show_size(queue >> 10 << 10)} is smaller than rate × delay"
            f" ({show_size(needed >> 10 << 10)}), so one TCP connection may not fill the link"
        )


def _about_delay(quality: Quality, machine: Machine) -> Iterator[str]:
    delay = quality.delay
    if machine.delay is not None and 0 < delay < machine.delay:
        yield (
            f"delay {_time(delay)}: this machine itself takes about {_time(machine.delay)} one way,"
            " which comes on top"
        )
    elif 0 < delay < GRID_SECONDS:
        yield f"delay {_time(delay)}: below the {_time(GRID_SECONDS)} that can be told apart"
    if quality.jitter and _earliest(quality) < 0:
        yield (
            f"jitter {_time(quality.jitter)} with a delay of {_time(delay)}: no packet is early"
            " by more than its delay, so the mean is higher and the jitter smaller"
        )


def _earliest(quality: Quality) -> float:
    """Return the delay of about the earliest packet in a hundred."""
    if isinstance(quality.distribution, tuple):
        return quality.delay + quality.jitter * quality.distribution[0]
    reach = {NORMAL: 2.33, "uniform": 1.73, "pareto": 0.58}[quality.distribution]
    return quality.delay - reach * quality.jitter


def _about_loss(quality: Quality) -> Iterator[str]:
    share = lost_share(quality)
    if 0 < share < SMALLEST_LOSS:
        yield (
            f"loss {percent(share)}: too small for a verification to tell it from none"
            f" (below {percent(SMALLEST_LOSS)})"
        )
    elif quality.burst and MOST_PACKETS * quality.loss / quality.burst < _LEAST_SPELLS:
        spell = round(quality.burst / quality.loss)
        yield (
            f"loss {percent(quality.loss)} in bursts of {quality.burst:g}: one burst in"
            f" {spell} packets is too rare to be seen"
        )


def foresee_all(
    links: Mapping[str, Mapping[str, Quality]],
    machine: Machine,
    *,
    measured: bool = True,
    most: int = 8,
) -> list[str]:
    """Return what will not be as asked of any link: each line with one pair and how many more.

    Args:
        links: the quality of each directed pair.
        machine: what the machine does.
        measured: also tell what no measurement can show.
        most: how many different lines.
    """
    found: dict[str, list[str]] = {}
    known: dict[tuple[int, int], list[str]] = {}
    for source, row in links.items():
        for target, quality in row.items():
            back = links.get(target, {}).get(source, UNSHAPED)
            key = (id(quality), id(back))
            if key not in known:
                known[key] = foresee(quality, machine, back, measured=measured)
            for line in known[key]:
                found.setdefault(line, []).append(f"{source} → {target}")
    lines = [_counted(line, pairs) for line, pairs in found.items()]
    more = len(lines) - most
    return lines if more <= 0 else [*lines[:most], f"and {more} more of this kind"]


def _counted(line: str, pairs: list[str]) -> str:
    more = len(pairs) - 1
    others = f" and {more} more" if more else ""
    return f"link {pairs[0]}{others}: {line}"


def _time(seconds: float) -> str:
    return show_duration(round(float(f"{seconds:.3g}"), 6))


def _rounded(rate: int) -> int:
    return int(float(f"{rate:.2g}"))
