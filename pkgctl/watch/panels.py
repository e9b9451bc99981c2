# SPDX-License-Identifier: GPL-3.0-or-later
"""The three tables of the live view: nodes, links and layers."""

from __future__ import annotations

from collections.abc import Sequence

from pkgctl.watch import numbers
from pkgctl.watch.columns import Column
from pkgctl.watch.layering import ON, Layer
from pkgctl.watch.lines import BAD, DIM, PLAIN, WARN
from pkgctl.watch.picture import Link, Node

_HEALTH = {"running": PLAIN, "paused": WARN}


def _level(value: float | None, warn: float, bad: float) -> str:
    if value is None or value < warn:
        return PLAIN
    return BAD if value >= bad else WARN


def _of(used: str, limit: str) -> str:
    return f"{used}/{limit}" if limit != numbers.UNKNOWN else used


def nodes(found: Sequence[Node]) -> list[Column[Node]]:
    """Return the columns for nodes; their state only where one of them does not run."""
    state: Column[Node] = Column(
        "STATE", lambda node: node.health, 7, rank=1, right=False, style=_health_style
    )
    ill = any(node.health != "running" for node in found)
    return [_NAME, *([state] if ill else []), *_FIGURES]


def _health_style(node: Node) -> str:
    return _HEALTH.get(node.health, BAD)


_NAME: Column[Node] = Column(
    "NODE", lambda node: node.name, 12, most=32, right=False, style=_health_style
)
_FIGURES: tuple[Column[Node], ...] = (
    Column("SITE", lambda node: node.site, 8, most=16, rank=9, right=False),
    Column(
        "CPU",
        lambda node: numbers.share(node.cpu_share),
        4,
        rank=1,
        style=lambda node: _level(node.cpu_share, 0.7, 0.9),
    ),
    Column(
        "CORES",
        lambda node: _of(numbers.cores(node.cpu), numbers.cores(node.cpu_limit)),
        9,
        rank=8,
    ),
    Column(
        "THR",
        lambda node: numbers.share(node.throttled),
        4,
        rank=4,
        style=lambda node: _level(node.throttled, 0.05, 0.25),
    ),
    Column(
        "MEMORY",
        lambda node: _of(numbers.size(node.memory), numbers.size(node.memory_limit)),
        9,
        most=11,
        rank=2,
        style=lambda node: _level(node.memory_share, 0.75, 0.9),
    ),
    Column(
        "DISK",
        lambda node: numbers.share(node.disk_share),
        4,
        rank=6,
        style=lambda node: _level(node.disk_share, 0.75, 0.9),
    ),
    Column("READ", lambda node: numbers.size(node.read), 5, rank=7),
    Column("WRITE", lambda node: numbers.size(node.write), 5, rank=7),
    Column("RX", lambda node: numbers.figure(node.rx), 5, rank=3),
    Column("TX", lambda node: numbers.figure(node.tx), 5, rank=3),
    Column("JOBS", lambda node: str(node.jobs), 4, rank=5),
)


def _asked_rate(link: Link) -> str:
    return "down" if link.asked.is_down else numbers.figure(link.asked.rate)


def _asked_delay(link: Link) -> str:
    delay, jitter = link.asked.delay, link.asked.jitter
    if not delay and not jitter:
        return numbers.UNKNOWN
    return numbers.time(delay) + (f"+-{numbers.time(jitter)}" if jitter else "")


def _part(link: Link) -> float | None:
    return None if link.seen is None or not link.asked.rate else link.seen / link.asked.rate


def links() -> list[Column[Link]]:
    """Return the columns for directed pairs."""
    return list(_LINKS)


_LINKS: tuple[Column[Link], ...] = (
    Column(
        "LINK",
        lambda link: f"{link.src} -> {link.dst}",
        18,
        most=48,
        right=False,
        style=lambda link: WARN if link.disturbed else PLAIN,
    ),
    Column(
        "ASKED", _asked_rate, 6, rank=2, style=lambda link: BAD if link.asked.is_down else PLAIN
    ),
    Column("SEEN", lambda link: numbers.figure(link.seen), 5, rank=1),
    Column(
        "OF",
        lambda link: numbers.share(_part(link)),
        5,
        rank=4,
        style=lambda link: _level(_part(link), 0.9, 1.1),
    ),
    Column("DELAY", _asked_delay, 7, most=14, rank=3),
    Column("LOSS", lambda link: numbers.ratio(link.asked.loss or None), 5, rank=5),
    Column("LOST", lambda link: numbers.ratio(link.lost), 5, rank=6),
    Column(
        "DROPS",
        lambda link: numbers.ratio(link.dropped),
        5,
        rank=7,
        style=lambda link: _level(link.dropped, 1e-9, 0.05),
    ),
)


def layers(now: float) -> list[Column[Layer]]:
    """Return the columns for layers at a moment of CLOCK_MONOTONIC."""
    return [
        Column("LAYER", lambda layer: layer.name, 8, most=24, right=False, style=_layer_style),
        Column("KIND", lambda layer: "+".join(layer.asked.kinds), 5, most=12, rank=5, right=False),
        Column("WHERE", lambda layer: layer.asked.where, 10, most=40, rank=3, right=False),
        Column(
            "SETTING", lambda layer: layer.asked.setting or "-", 8, most=48, rank=2, right=False
        ),
        Column("LEFT", lambda layer: layer.left(now), 10, most=40, rank=1, right=False),
    ]


def _layer_style(layer: Layer) -> str:
    return WARN if layer.times is None or layer.times.state == ON else DIM
