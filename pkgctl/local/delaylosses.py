# SPDX-License-Identifier: GPL-3.0-or-later
"""What the delay line has lost of the packets of some pairs, as it was asked to."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Any

from pkgctl.local import overview
from pkgctl.local.paths import Paths
from pkgctl.nodeside import delayclient
from pkgctl.watch.figures import Pair
from pkgctl.watch.picture import Link

# The delay line has packets to release: it is asked for the links that a reader sees first.
_MOST = 50
_ADDRESSES = ("address", "address6")


def read(
    paths: Paths, state: Mapping[str, Any], links: Iterable[Link]
) -> dict[Pair, tuple[int, int]]:
    """Return (packets met, packets lost) of the first links that have a loss, by their ends."""
    lossy = (link for link in links if link.asked.loss and not link.asked.is_down)
    keys = {(each.src, each.dst): _keys(state, each) for each in islice(lossy, _MOST)}
    if not keys:
        return {}
    named = [key for found in keys.values() for key in found]
    answer = overview.ask(paths, delayclient.SOCKET, "losses", pairs=named)
    known = answer["losses"] if answer else {}
    return {pair: _sum(known[key] for key in found if key in known) for pair, found in keys.items()}


def _keys(state: Mapping[str, Any], link: Link) -> list[str]:
    """Return a pair's keys as the delay line knows them: source and destination side by side."""
    ends = [state["nodes"][name] for name in (link.src, link.dst)]
    kinds = [kind for kind in _ADDRESSES if all(end.get(kind) for end in ends)]
    return ["".join(ipaddress.ip_address(end[kind]).packed.hex() for end in ends) for kind in kinds]


def _sum(counts: Iterable[tuple[int, int]]) -> tuple[int, int]:
    met, lost = (sum(each) for each in zip((0, 0), *counts, strict=True))
    return met, lost
