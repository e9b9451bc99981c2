# SPDX-License-Identifier: GPL-3.0-or-later
"""From the nodes that the words name to the links between them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from . import words
from .selection import Node

Pairs = set[tuple[str, str]]
EVERY_PEER = "*"


def both(given: Mapping[str, frozenset[str]]) -> frozenset[str]:
    """Return the nodes that both node and site name, as far as they are given.

    Raises:
        ValueError: if they have none in common.
    """
    chosen = frozenset.intersection(*(given[word] for word in words.PLACE_WORDS if word in given))
    if not chosen:
        raise ValueError("node: names no node of the site")
    return chosen


def couples(given: Mapping[str, frozenset[str]], nodes: Sequence[Node]) -> Pairs:
    """Return (near end, far end) of each link; directions are counted from the near end.

    An end that nobody named is everything else: the nodes beyond the named end.

    Args:
        given: the nodes of src, dst, site and node, as far as they were given.
        nodes: all nodes.
    """
    everyone = frozenset(node.name for node in nodes)
    if "src" in given or "dst" in given:
        near = given.get("src") or everyone - given["dst"] or everyone
        far = given.get("dst") or everyone - given["src"] or everyone
    elif "node" in given:
        near, far = both(given), everyone
    else:
        near = given.get("site", everyone)
        far = everyone - near or everyone
    return {(one, other) for one in near for other in far if one != other}


def directed(pairs: Pairs, direction: str) -> Pairs:
    """Return the directed pairs that a direction ("to", "from", "both") means."""
    mirrored = {(far, near) for near, far in pairs}
    return {"to": pairs, "from": mirrored, "both": pairs | mirrored}[direction]


def grouped(pairs: Pairs, order: Sequence[str]) -> dict[str, list[str]]:
    """Return the second ends of each first end; all of them are written as ``*``."""
    found: dict[str, set[str]] = {}
    for first, second in pairs:
        found.setdefault(first, set()).add(second)
    everyone = len(order) - 1
    return {
        name: [EVERY_PEER]
        if len(peers) == everyone > 1
        else [peer for peer in order if peer in peers]
        for name, peers in found.items()
    }
