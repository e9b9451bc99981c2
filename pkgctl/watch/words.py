# SPDX-License-Identifier: GPL-3.0-or-later
"""Short texts for where a layer acts, and for how long something takes."""

from __future__ import annotations

from collections.abc import Collection

Pair = tuple[str, str]
_FEW = 2


def names(nodes: Collection[str], everyone: int = 0) -> str:
    """Return names of nodes in short: ``edge-1, edge-2``, ``edge-1 +5``, ``all 7``."""
    if len(nodes) == everyone > _FEW:
        return f"all {everyone}"
    first = sorted(nodes)
    return ", ".join(first) if len(first) <= _FEW else f"{first[0]} +{len(first) - 1}"


def pairs(found: Collection[Pair], everyone: int = 0) -> str:
    """Return directed pairs in short: ``edge-1 <-> cloud-1``, ``edge-1 -> edge-2 +4``."""
    if not found:
        return ""
    both = all((far, near) in found for near, far in found)
    couples = {pair for pair in found if pair[0] < pair[1]} if both else set(found)
    arrow = "<->" if both else "->"
    sides = _sides(couples) if both else (_ends(couples, 0), _ends(couples, 1))
    if sides is not None and len(couples) == len(sides[0]) * len(sides[1]):
        near, far = sides
        rest = "others" if len(near) <= _FEW < everyone == len(near) + len(far) else ""
        return f"{names(near)} {arrow} {rest or names(far)}"
    nodes = _ends(couples, 0) | _ends(couples, 1)
    if len(found) == len(nodes) * (len(nodes) - 1):
        return f"among {names(nodes, everyone)}"
    return f"{len(couples)} {'links' if both else 'directions'} of {len(nodes)} nodes"


def _ends(couples: Collection[Pair], side: int) -> set[str]:
    return {pair[side] for pair in couples}


def _sides(couples: Collection[Pair]) -> tuple[set[str], set[str]] | None:
    """Return two sets of nodes of which each of one is coupled with each of the other."""
    neighbours: dict[str, set[str]] = {}
    for near, far in couples:
        neighbours.setdefault(near, set()).add(far)
        neighbours.setdefault(far, set()).add(near)
    far_side = neighbours[min(neighbours)]
    near_side = neighbours[min(far_side)]
    if near_side & far_side:
        return None
    return (near_side, far_side) if len(near_side) <= len(far_side) else (far_side, near_side)


def seconds(duration: float) -> str:
    """Return a time to wait in short: ``0.8s``, ``42s``, ``9m12s``, ``2h05m``."""
    duration = max(duration, 0.0)
    if duration < 9.95:
        return f"{duration:.1f}s"
    whole = round(duration)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02}s"
    return f"{whole // 3600}h{whole % 3600 // 60:02}m"
