# SPDX-License-Identifier: GPL-3.0-or-later
"""Pictures of testbeds that never were."""

from __future__ import annotations

from pkgctl.nodeside import Quality
from pkgctl.watch.layering import OFF, Asked, Layer, Times
from pkgctl.watch.picture import Link, Node, Picture

NOW = 100.0


def node(number: int, **changes: object) -> Node:
    """Return a node of which every figure is known."""
    known = {
        "cpu": 0.1 * (number % 7),
        "cpu_limit": 1.0,
        "throttled": 0.03 * (number % 5),
        "memory": (number * 37 % 380) << 20,
        "memory_limit": 384 << 20,
        "disk": 10 << 20,
        "disk_size": 64 << 20,
        "read": 1.5e6,
        "write": 0.0,
        "rx": 1e6 * number,
        "tx": 23_400.0,
        "jobs": number % 3,
    }
    return Node(f"edge-{number}", f"site-{number % 4}", **{**known, **changes})  # type: ignore[arg-type]


LAYERS = (
    Layer(
        "slow",
        Asked(("link",), ("edge-1",), "edge-1 <-> others", "5mbit 40ms 2%"),
        Times(since=NOW - 3, ends=NOW + 30),
    ),
    Layer(
        "flap",
        Asked(("link",), ("edge-1", "edge-2"), "edge-1 <-> edge-2", "down"),
        Times(OFF, since=NOW - 3, turns=NOW + 1.2, ends=NOW + 40),
    ),
)


def picture(count: int, **changes: object) -> Picture:
    """Return a picture of so many nodes, each linked with the two next to it."""
    nodes = [node(number) for number in range(count)]
    links = [
        Link(
            f"edge-{number}",
            f"edge-{(number + step) % count}",
            Quality(5_000_000, 0.04, 0.002, 0.02),
            4.9e6,
            0.01,
            number < 2,
            0.019,
            1000,
        )
        for number in range(count)
        for step in (1, 2)
    ]
    known = {"nodes": nodes, "links": links, "layers": LAYERS, "delay_line": {"pairs": 8}}
    return Picture("test", "made", 1e9, NOW, 1.0, **{**known, **changes})  # type: ignore[arg-type]
