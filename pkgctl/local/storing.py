# SPDX-License-Identifier: GPL-3.0-or-later
"""The layers that all nodes have stored, read again only where they have changed."""

from __future__ import annotations

from collections.abc import Mapping, Set
from pathlib import Path
from typing import Any

from pkgctl.local import overview
from pkgctl.nodeside import Quality, condition, layers, links
from pkgctl.watch import layering
from pkgctl.watch.layering import Asked, Layer

Stamp = tuple[int, ...]


class Stored:
    """What the layers of a testbed's nodes add up to.

    Attributes:
        asked: the quality in force toward each peer, by node.
        disturbed: the peers toward which a layer beside base acts, by node.
    """

    def __init__(self, state: Mapping[str, Any]) -> None:
        """Read the stores of the nodes of a testbed."""
        self.asked: dict[str, Mapping[str, Quality]] = {}
        self.disturbed: dict[str, Set[str]] = {}
        self._folders = {name: Path(node["directory"]) for name, node in state["nodes"].items()}
        self._stamps: dict[str, Stamp] = {}
        self._stores: dict[str, dict[str, layers.Layers]] = {}
        self._layers: dict[str, Asked] = {}
        self.refresh()

    def refresh(self) -> None:
        """Read what has changed since."""
        changed = [name for name in self._folders if self._read(name)]
        if changed:
            self._layers = layering.asked(self._stores, len(self._folders))

    def _read(self, name: str) -> bool:
        stamp = _stamp(self._folders[name])
        if self._stamps.get(name) == stamp:
            return False
        stored = overview.read_stores(self._folders[name])
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
        return condition.composed(self._stores[name]["health"])

    def layers(self, outline: Mapping[str, Any] | None, now: float) -> list[Layer]:
        """Return all layers, with what the agent's layer-list says of their times."""
        return layering.listing(self._layers, outline, now, len(self._folders))


def _stamp(folder: Path) -> Stamp:
    return tuple(_written(folder / store) for store in overview.STORES.values())


def _written(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:
        return 0
