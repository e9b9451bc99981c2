# SPDX-License-Identifier: GPL-3.0-or-later
"""A note, for each node that is a machine of its own, of the layers that were sent there.

Their stores are on the machine, and nobody can look into one that is off. The note says whether
there may be anything left to take away; it may name a layer that has ended by itself meanwhile.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from ..module_utils import layers
from ..module_utils.identity import Identity

STORE = "carried.json"


def note(node: Identity, layer: str, kinds: Collection[str]) -> None:
    """Note that a layer is about to be sent.

    Raises:
        NodeError: if it cannot be written.
    """
    path = _path(node)
    with layers.locked(path):
        known = layers.load(path)
        carried = sorted({*known.get(layer, {}).get("kinds", ()), *kinds})
        if known.get(layer) != {"kinds": carried}:
            layers.save(path, {**known, layer: {"kinds": carried}})


def forget(node: Identity, layer: str | None, kinds: Collection[str]) -> None:
    """Note that a layer is gone in some kinds; None is every layer.

    Raises:
        NodeError: if it cannot be written.
    """
    path = _path(node)
    with layers.locked(path):
        known = layers.load(path)
        left = {
            name: {"kinds": [kind for kind in body["kinds"] if kind not in kinds]}
            if layer in (None, name)
            else body
            for name, body in known.items()
        }
        left = {name: body for name, body in left.items() if body["kinds"]}
        if left != known:
            layers.save(path, left)


def carries(node: Identity, layer: str | None, kinds: Collection[str]) -> bool:
    """Return whether a node may carry a layer in any of some kinds; None is any layer.

    Raises:
        NodeError: if the note cannot be read.
    """
    return any(
        layer in (None, name) and not set(kinds).isdisjoint(body["kinds"])
        for name, body in layers.load(_path(node)).items()
    )


def _path(node: Identity) -> Path:
    folder = Path(node.directory)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder / STORE
