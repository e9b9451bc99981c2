# SPDX-License-Identifier: GPL-3.0-or-later
"""From counters to figures: what nodes and pairs did between two readings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from pkgctl.nodeside import Quality
from pkgctl.watch.picture import Link

Row = Mapping[str, Any]
Pair = tuple[str, str]
Qualities = Mapping[str, Mapping[str, Quality]]


class Carried(NamedTuple):
    """A pair's counters at a moment: bytes of frames, packets, packets that were dropped."""

    bytes: int
    packets: int
    drops: int
    mono: float


def use(before: Row | None, after: Row) -> dict[str, dict[str, Any]]:
    """Return each node's use between two samples of the agent, as fields of a Node.

    Args:
        before: the earlier sample; None knows only what is in use now.
        after: the later one.
    """
    old = _node_rows(before) if before else {}
    seconds = after["mono"] - before["mono"] if before else 0.0
    jobs = Counter(row["node"] for row in after["rows"] if row["job"] is not None)
    return {
        name: {**_use(old.get(name), row, seconds), "jobs": jobs[name]}
        for name, row in _node_rows(after).items()
    }


def _node_rows(sample: Row) -> dict[str, Row]:
    return {row["node"]: row for row in sample["rows"] if row["job"] is None}


def _use(old: Row | None, row: Row, seconds: float) -> dict[str, Any]:
    def rate(key: str, factor: int = 1) -> float | None:
        grown = growth(old[key] if old else None, row[key], seconds)
        return None if grown is None else grown * factor

    return {
        "memory": row["memory_bytes"],
        "cpu": rate("cpu_seconds"),
        "throttled": rate("throttled_seconds"),
        "read": rate("read_bytes"),
        "write": rate("write_bytes"),
        "rx": rate("rx_bytes", 8),
        "tx": rate("tx_bytes", 8),
    }


def growth(before: float | None, after: float | None, seconds: float) -> float | None:
    """Return how fast a counter grew; None if it began anew or is not known."""
    if before is None or after is None or seconds <= 0 or after < before:
        return None
    return (after - before) / seconds


def links(
    asked: Qualities,
    disturbed: Mapping[str, Iterable[str]],
    before: Mapping[Pair, Carried],
    after: Mapping[Pair, Carried],
) -> list[Link]:
    """Return the pairs that are shaped or carry something: the busiest first, then the disturbed.

    Args:
        asked: the quality in force toward each peer, by node.
        disturbed: the peers toward which a layer beside base acts, by node.
        before: the counters of each pair that has some.
        after: the same, later.
    """
    found = [
        Link(src, dst, quality, *_seen(before.get((src, dst)), after.get((src, dst))), dst in marks)
        for src, qualities in asked.items()
        for marks in (frozenset(disturbed.get(src, ())),)
        for dst, quality in qualities.items()
    ]
    return sorted(found, key=lambda link: (-(link.seen or 0.0), not link.disturbed))


def with_losses(links: Sequence[Link], losses: Mapping[Pair, Sequence[int]]) -> list[Link]:
    """Return the links with what was lost of the packets met, as (met, lost) of some pairs."""
    found = []
    for link in links:
        met, lost = losses.get((link.src, link.dst), (0, 0))
        found.append(replace(link, lost=lost / met, met=met) if met else link)
    return found


def _seen(before: Carried | None, after: Carried | None) -> tuple[float | None, float | None]:
    """Return bits a second, and the share of packets that the queue dropped."""
    if before is None or after is None:
        return None, None
    seconds = after.mono - before.mono
    rate = growth(before.bytes, after.bytes, seconds)
    packets, drops = after.packets - before.packets, after.drops - before.drops
    if rate is None or packets < 0 or drops < 0:
        return None, None
    return rate * 8, drops / (drops + packets) if drops + packets else None
