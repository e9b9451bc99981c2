# SPDX-License-Identifier: GPL-3.0-or-later
"""The named layers in force on a node, one store for each kind of disturbance.

The layer `base` is the node as its topology describes it; every other layer lies on top of it and
can be taken away by itself. A store is written and synced before the kernel is touched, so that a
node whose controller or agent died still knows what it was asked to be.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .errors import NodeError

BASE = "base"
Body = dict[str, Any]
Layers = dict[str, Body]


def load(path: Path) -> Layers:
    """Return the layers of a store, base first; a store that is not there is empty.

    Raises:
        NodeError: if the store cannot be read.
    """
    try:
        stored = json.loads(path.read_text())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise NodeError(f"{path} is not a store of layers: {error}") from error
    if not isinstance(stored, dict):
        raise NodeError(f"{path} is not a store of layers: it holds no mapping")
    return stored


def save(path: Path, layers: Layers, *, durable: bool = True) -> None:
    """Write a store, all at once; durable waits until it is on its disk. An empty one goes."""
    if not layers:
        path.unlink(missing_ok=True)
        return
    fresh = path.with_suffix(".new")
    with fresh.open("w") as file:
        file.write(json.dumps(layers))
        file.flush()
        if durable:
            os.fsync(file.fileno())
    fresh.replace(path)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a store against other writers while the block runs."""
    with path.with_suffix(".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextmanager
def working(path: Path) -> Iterator[bool]:
    """Mark that the node is being brought to a store's layers; the mark goes when that succeeded.

    The value is whether a mark was left by one who did not: then nothing is known of the kernel.
    """
    mark = path.with_suffix(".doing")
    resumed = mark.exists()
    mark.touch()
    yield resumed
    mark.unlink(missing_ok=True)


def stamp(path: Path) -> tuple[int, int] | None:
    """Return what is another one after each change of a store; None if it is not there."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_mtime_ns, status.st_ino


def is_unfinished(path: Path) -> bool:
    """Return whether a change of a store's layers was cut short."""
    return path.with_suffix(".doing").exists()


def changed(layers: Layers, layer: str | None, body: Body | None) -> Layers:
    """Return the layers with one set to body, or taken away.

    Args:
        layers: what is in force.
        layer: which one; None with no body takes away all but base.
        body: its content; None takes it away.
    """
    if body is not None and layer is not None:
        return {**layers, layer: body}
    if layer is None:
        return {name: content for name, content in layers.items() if name == BASE}
    return {name: content for name, content in layers.items() if name != layer}


def by_name(layers: Mapping[str, Body]) -> str:
    """Return the names of the layers beside base, for people."""
    return ", ".join(name for name in layers if name != BASE) or "none"
