# SPDX-License-Identifier: GPL-3.0-or-later
"""The layers that all nodes have stored, read again only where they have changed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from typing import Any

from pkgctl.local.reach import Stores
from pkgctl.nodeside import Quality, condition, layers, links
from pkgctl.watch import layering
from pkgctl.watch.layering import Asked, Layer


class Stored:
    """What the layers of a testbed's nodes add up to.

    Attributes:
        asked: the quality in force toward each peer, by node.
        disturbed: the peers toward which a layer beside base acts, by node.
    """

    def __init__(self, names: Iterable[str], stores: Stores) -> None:
        """Read the stores of the nodes of a testbed, when they are refreshed."""
        self.asked: dict[str, Mapping[str, Quality]] = {}
        self.disturbed: dict[str, Set[str]] = {}
        self._names = tuple(names)
        self._source = stores
        self._stamps: dict[str, object] = {}
        self._stores: dict[str, dict[str, layers.Layers]] = {}
        self._layers: dict[str, Asked] = {}

    def refresh(self) -> None:
        """Read what has changed since."""
        self._source.refresh()
        changed = [name for name in self._names if self._read(name)]
        if changed:
            self._layers = layering.asked(self._stores, len(self._names))

    def _read(self, name: str) -> bool:
        stamp = self._source.stamp(name)
        if self._stamps.get(name) == stamp:
            return False
        stored = self._source.read(name)
        self._stamps[name], self._stores[name] = stamp, stored
        self.asked[name] = links.wanted(stored["link"]).egress
        self.disturbed[name] = {
            peer
            for layer, body in stored["link"].items()
            if layer != layers.BASE
            for peer in body.get("egress", {})
        }
        return True

    def health(self, name: str) -> str:
        """Return a node's condition."""
        stored = self._stores.get(name) or self._source.read(name, ("health",))
        return condition.composed(stored["health"])

    def layers(self, outline: Mapping[str, Any] | None, now: float) -> list[Layer]:
        """Return all layers, with what the agent's layer-list says of their times."""
        return layering.listing(self._layers, outline, now, len(self._names))
