# SPDX-License-Identifier: GPL-3.0-or-later
"""A layer of a node's health set or taken away, around the acts that bring the node there.

The acts are of this machine's kernel or of libvirt; what comes before and after them is the same.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from . import channel, condition, layers
from .change import Change
from .condition import STORE, is_off
from .errors import AgentError, DisturbanceError
from .identity import Identity

HEALTHS = condition.CONDITIONS[1:]


@dataclass(frozen=True, slots=True)
class Acts:
    """How a node is brought to a condition.

    Attributes:
        check: refuses a condition that cannot be had, before anything is written or done.
        foresee: returns the steps that lead to a condition.
        bring: takes them, and returns them.
    """

    check: Callable[[str], object]
    foresee: Callable[[str], list[str]]
    bring: Callable[[str], list[str]]


def body(health: str | None) -> layers.Body:
    """Return the content of a layer of health.

    Raises:
        DisturbanceError: if a node cannot be like that.
    """
    if health not in HEALTHS:
        raise DisturbanceError(f"{health!r} is no health of a node; known are {', '.join(HEALTHS)}")
    return {"health": health}


def change(
    identity: Identity,
    acts: Acts,
    layer: str | None,
    content: layers.Body | None,
    *,
    dry_run: bool = False,
) -> Change:
    """Set or take away one layer of a node's health and bring the node to what all layers ask.

    Args:
        identity: the node.
        acts: how it is brought there.
        layer: the layer's name; None without content takes away all but base.
        content: what the layer is to hold; None takes it away.
        dry_run: only say what would be done.

    Raises:
        DisturbanceError: one line; the layer stays stored, to be tried again.
    """
    path = Path(identity.directory, STORE)
    with layers.locked(path):
        stored = layers.load(path)
        fresh = layers.changed(stored, layer, content)
        before, after = condition.composed(stored), condition.composed(fresh)
        if fresh != stored:
            acts.check(after)
        if not dry_run and fresh != stored:
            if is_off(before) and not is_off(after):
                # What was cut short while it went down is not to come back alive.
                with suppress(DisturbanceError):
                    acts.bring(before)
            layers.save(path, fresh)
        done = acts.foresee(after) if dry_run else acts.bring(after)
    if before != after and not dry_run:
        _tell(identity)
    return Change(bool(done) or fresh != stored, show(before), show(after), done)


def show(asked: str) -> str:
    """Return a condition as a change shows it."""
    return f"health: {asked}\n"


def _tell(identity: Identity) -> None:
    """Let the agent know; it may be the caller itself, so nobody waits for an answer."""
    with suppress(AgentError, OSError):
        channel.tell(identity.agent, "node-changed", node=identity.name)
