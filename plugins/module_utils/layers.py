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
from collections.abc import Iterator
from contextlib import contextmanager, suppress
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
    """Write a store, all at once; durable waits until it is on its disk. An empty one goes.

    Raises:
        NodeError: if it cannot be written; then it is as it was.
    """
    if not layers:
        path.unlink(missing_ok=True)
        if durable:
            _sync_folder(path.parent)
        return
    text, fresh = json.dumps(layers), path.with_suffix(".new")
    try:
        _write(fresh, text, durable=durable)
        fresh.replace(path)
        if durable:
            _sync_folder(path.parent)
    except OSError as error:
        with suppress(OSError):
            fresh.unlink()
        raise _unwritten(path, error) from error


def _write(path: Path, text: str, *, durable: bool) -> None:
    with path.open("w") as file:
        file.write(text)
        file.flush()
        if durable:
            os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    """Wait until the names in a folder are on its disk: a file's own sync does not see to that."""
    opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def _unwritten(path: Path, error: OSError) -> NodeError:
    return NodeError(f"{path} cannot be written: {error.strerror}")


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a store against other writers while the block runs.

    Who holds several takes them in this order: health; links; disk; quota; stress.

    Raises:
        NodeError: if it cannot be held, as where its node is gone.
    """
    try:
        file = path.with_suffix(".lock").open("w")
    except OSError as error:
        raise _unwritten(path, error) from error
    with file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextmanager
def working(path: Path) -> Iterator[bool]:
    """Mark that the node is being brought to a store's layers; the mark goes when that succeeded.

    The value is whether a mark was left by one who did not: then nothing is known of the kernel.

    Raises:
        NodeError: if it cannot be marked.
    """
    mark = path.with_suffix(".doing")
    resumed = mark.exists()
    try:
        mark.touch()
    except OSError as error:
        raise _unwritten(path, error) from error
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
