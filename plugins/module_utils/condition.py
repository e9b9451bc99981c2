# SPDX-License-Identifier: GPL-3.0-or-later
"""What a node's layers ask of its health, as one word: the harshest of them holds."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from . import layers, syscalls
from .errors import NodeError

STORE = "health.json"
RUNNING: Final = "running"
PAUSED: Final = "paused"
STOPPED: Final = "stopped"
CRASHED: Final = "crashed"
# From the mildest to the harshest.
CONDITIONS = (RUNNING, PAUSED, STOPPED, CRASHED)
_OUTAGE = "outage.json"


def composed(stored: layers.Layers) -> str:
    """Return the harshest condition that any layer asks for; running without layers."""
    asked = [str(body.get("health", RUNNING)) for body in stored.values()]
    return max((one for one in asked if one in CONDITIONS), key=CONDITIONS.index, default=RUNNING)


def load(directory: str | Path) -> str:
    """Return the condition in which the node in a directory should be.

    Raises:
        NodeError: if its store cannot be read.
    """
    return composed(layers.load(Path(directory, STORE)))


def is_up(condition: str) -> bool:
    """Return whether a node in a condition runs what is started on it."""
    return condition == RUNNING


def check_up(directory: str | Path, name: str) -> None:
    """Refuse to begin anything on a node that is not running.

    Raises:
        NodeError: in one line.
    """
    if not is_up(now := load(directory)):
        raise NodeError(f"node {name} is {now}: nothing starts there")


def is_off(condition: str) -> bool:
    """Return whether a node in a condition is as without power: no process, memory or disk."""
    return condition in (STOPPED, CRASHED)


def note_outage(directory: str | Path, condition: str) -> None:
    """Note that a node goes down now, before anything on it is ended."""
    body = {"condition": condition, "at": syscalls.monotonic()}
    layers.save(Path(directory, _OUTAGE), {"outage": body}, durable=False)


def outage(directory: str | Path, since: float) -> str | None:
    """Return as what the node went down last, if that was after a moment (CLOCK_MONOTONIC)."""
    noted = layers.load(Path(directory, _OUTAGE)).get("outage")
    return None if noted is None or noted["at"] < since else str(noted["condition"])
