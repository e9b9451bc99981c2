# SPDX-License-Identifier: GPL-3.0-or-later
"""A node's health: running, paused, stopped or crashed, as layers; the harshest holds.

  paused   everything stands still where it is; nothing arrives, nothing leaves
  stopped  processes are asked to end, then made to; disks are unmounted; memory is lost
  crashed  all at once: processes killed, disks gone without a sync; memory is lost

A node's processes are those in its control group, and in that of the units that it keeps running.
What a node is now is read from the kernel: the closed links, the frozen group, its processes, what
is mounted, what is left in memory. So a transition that was cut short is resumed where it was. The
network closes first and opens last: of what happens in between, others hear nothing.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from . import (
    condition,
    disks,
    layers,
    links,
    mounting,
    nftables,
    stress,
    supervision,
    transition,
    volatile,
)
from .cgroups import Group, group
from .change import Change
from .condition import CRASHED, PAUSED, STORE, is_off, is_up
from .errors import CapabilityError, DisturbanceError
from .identity import Identity
from .netlink import NETLINK_NETFILTER, Socket
from .transition import Acts, show

__all__ = ["STORE", "State", "change", "converge", "read", "steps"]

GRACE = 2.0
_PATIENCE = 10.0
# A crash waits no longer for all to stand still before it kills.
_HASTE = 0.5


@dataclass(frozen=True, slots=True)
class State:
    """What the kernel has of a node's health.

    Attributes:
        closed: whether nothing arrives at it.
        frozen: whether its processes stand still; None if some do.
        processes: how many it has.
        mounted: its data disks that are mounted.
        unmounted: its data disks that are not.
        memory: what holds anything that is lost when it is switched off.
    """

    closed: bool = False
    frozen: bool | None = False
    processes: int = 0
    mounted: tuple[str, ...] = ()
    unmounted: tuple[str, ...] = ()
    memory: tuple[str, ...] = ()


def read(identity: Identity) -> State:
    """Return the state of the node in whose namespaces the caller is."""
    places = mounting.look(identity.disks)
    seen = {name: place for name, place in places.items() if not place.foreign}
    return State(
        closed=_is_closed(),
        frozen=_is_frozen(identity),
        processes=len(_processes(identity)),
        mounted=tuple(name for name in seen if seen[name].condition != mounting.UNMOUNTED),
        unmounted=tuple(name for name in seen if seen[name].condition == mounting.UNMOUNTED),
        memory=tuple(volatile.held(identity)),
    )


def _is_closed() -> bool:
    with Socket(NETLINK_NETFILTER) as tables:
        return nftables.exists(tables, nftables.SHAPING) and nftables.is_closed(tables)


def _groups(identity: Identity) -> list[Group]:
    """Return the groups that hold a node's processes: its own, and its units' if it has any."""
    system = group(supervision.system_of(identity))
    return [group(identity.cgroup), *([system] if system.exists() else [])]


def _processes(identity: Identity) -> list[int]:
    found = (each for one in _groups(identity) for each in one.descend())
    return [pid for each in found for pid in each.processes()]


def _is_frozen(identity: Identity) -> bool | None:
    """Return whether all of a node stands still, or None if a part does."""
    found = {each.is_frozen() for each in _groups(identity)}
    return found.pop() if len(found) == 1 else None


def steps(now: State, then: str) -> list[str]:
    """Return what brings a node from a state to a condition, in order; none if it is there."""
    found = ["close links"] * (not is_up(then) and not now.closed)
    if is_off(then):
        return found + _steps_down(now, "kill" if then == CRASHED else "end")
    frozen = then == PAUSED
    moves = ["freeze" if frozen else "thaw"] * (now.frozen != frozen)
    moves += ["open links"] * (is_up(then) and now.closed)
    comes_back = bool(moves) and now.closed
    return found + ["take up disks"] * (comes_back and bool(now.unmounted)) + moves


def _steps_down(now: State, how: str) -> list[str]:
    return (
        [f"{how} processes"] * bool(now.processes)
        + ["thaw"] * (now.frozen is not False and not now.processes)
        + ["let go of disks"] * bool(now.mounted)
        + ["lose memory"] * bool(now.memory)
    )


def change(
    identity: Identity,
    *,
    layer: str | None,
    health: str | None = None,
    present: bool = True,
    dry_run: bool = False,
) -> Change:
    """Set or take away one layer of this node's health and bring the node to what all layers ask.

    Args:
        identity: the node, in whose namespaces the caller is, but not in its control group.
        layer: its name; None with present=False takes away all but base.
        health: ``paused``, ``stopped`` or ``crashed``.
        present: whether the layer should be there.
        dry_run: only say what would be done.

    Raises:
        DisturbanceError: one line; the layer stays stored, to be tried again.
    """
    acts = Acts(
        check=lambda then: _check(identity, then),
        foresee=lambda then: _preview(identity, then),
        bring=lambda then: _bring(identity, then),
    )
    content = transition.body(health) if present else None
    return transition.change(identity, acts, layer, content, dry_run=dry_run)


def converge(identity: Identity, *, dry_run: bool = False) -> Change:
    """Bring the node to what its stored layers ask for; the actions of a dry run are the drift.

    Raises:
        DisturbanceError: one line.
    """
    with layers.locked(Path(identity.directory, STORE)):
        asked = condition.load(identity.directory)
        done = _preview(identity, asked) if dry_run else _bring(identity, asked)
    return Change(bool(done), show(asked), show(asked), done)


def _check(identity: Identity, then: str) -> None:
    """Refuse what cannot be done here, before anything is."""
    if is_up(then):
        return
    volatile.check_apart()
    if then == PAUSED and not group(identity.cgroup).machine.has("freezer"):
        raise CapabilityError("this machine has no cgroup controller freezer: nodes cannot pause")
    if os.getpid() in _processes(identity):
        raise DisturbanceError(
            f"this process runs on {identity.name} itself and cannot take it down;"
            " run it with pkgctl_limits: false"
        )


def _preview(identity: Identity, then: str) -> list[str]:
    return steps(read(identity), then)


def _bring(identity: Identity, then: str) -> list[str]:
    """Take the steps to a condition and return them."""
    todo = steps(read(identity), then)
    if todo and is_off(then):
        condition.note_outage(identity.directory, then)
    for step in todo:
        _ACTS[step](identity)
    if todo:
        stress.converge(identity)
    return todo


def _end(identity: Identity) -> None:
    """Ask every process to end, and kill what is left when the grace is over."""
    _set_frozen(identity, frozen=False)
    _signal(identity, signal.SIGTERM)
    deadline = time.monotonic() + GRACE
    while _processes(identity) and time.monotonic() < deadline:
        time.sleep(0.005)
    _kill(identity)


def _kill(identity: Identity) -> None:
    """Kill every process; first all stand still, so that none sees the others go."""
    _set_frozen(identity, frozen=True)
    _await(lambda: _is_frozen(identity) is True, _HASTE)
    _signal(identity, signal.SIGKILL)
    left = [pid for each in _groups(identity) for pid in each.kill(patience=_PATIENCE)]
    _set_frozen(identity, frozen=False)
    if left:
        raise DisturbanceError(f"{identity.name}: processes {left[:5]} do not end")


def _set_frozen(identity: Identity, *, frozen: bool) -> None:
    for each in _groups(identity):
        each.freeze(frozen=frozen)


def _signal(identity: Identity, number: int) -> None:
    for pid in _processes(identity):
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def _freeze(identity: Identity) -> None:
    _set_frozen(identity, frozen=True)
    if not _await(lambda: _is_frozen(identity) is True, _PATIENCE):
        raise DisturbanceError(f"{identity.name}: its processes do not come to a stop")


def _thaw(identity: Identity) -> None:
    _set_frozen(identity, frozen=False)


def _await(is_so: Callable[[], bool], patience: float) -> bool:
    deadline = time.monotonic() + patience
    while not is_so():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.001)
    return True


def _links(identity: Identity) -> None:
    links.converge(identity)


def _disks(identity: Identity) -> None:
    disks.converge(identity)


def _lose_memory(identity: Identity) -> None:
    volatile.lose(identity)


_ACTS: Mapping[str, Callable[[Identity], None]] = {
    "close links": _links,
    "kill processes": _kill,
    "end processes": _end,
    "let go of disks": _disks,
    "lose memory": _lose_memory,
    "take up disks": _disks,
    "freeze": _freeze,
    "thaw": _thaw,
    "open links": _links,
}
