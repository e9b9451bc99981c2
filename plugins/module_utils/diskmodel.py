# SPDX-License-Identifier: GPL-3.0-or-later
"""What layers ask of disks, how they add up, and what is to be done about it; nothing is done here.

Of several layers the harshest condition holds, and the one that holds back most of a disk. How much
that is, is worked out once, when the disk is there, and kept in the layer.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from . import condition, filling, layers, mounting
from .errors import DisturbanceError
from .filling import Room
from .mounting import MOUNTED, READONLY, UNMOUNTED, Seen
from .units import show_ratio, show_size

DETACHED = "detached"
# From the mildest to the harshest.
CONDITIONS = (MOUNTED, READONLY, UNMOUNTED, DETACHED)
HOWS = (mounting.CLEAN, mounting.LAZY, mounting.FORCE)
AMOUNTS = ("fill", "size")
KEYS = ("condition", "how", *AMOUNTS)
# What a layer's fill and size came to in bytes.
HELD = "held"
Body = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Wanted:
    """What all layers together ask of a disk.

    Attributes:
        condition: one of CONDITIONS.
        how: how it goes, as mounting.bring has it.
        held: bytes to hold back.
        pending: levels and sizes that are not worked out yet, in words.
    """

    condition: str = MOUNTED
    how: str = mounting.CLEAN
    held: int = 0
    pending: tuple[str, ...] = ()

    @property
    def place(self) -> str:
        """How it is mounted, if at all."""
        return UNMOUNTED if self.condition == DETACHED else self.condition

    def show(self) -> str:
        """Return it in words, such as ``mounted, 12Mi held back``."""
        held = [f"{show_size(self.held)} held back"] if self.held else []
        return ", ".join([self.condition, *held, *self.pending])


@dataclass(frozen=True, slots=True)
class Scene:
    """What there is of a node's disks, by name: mounts, and the room of those that are mounted."""

    seen: Mapping[str, Seen] = field(default_factory=dict)
    rooms: Mapping[str, Room] = field(default_factory=dict)


def check(names: Collection[str], body: Mapping[str, Body]) -> None:
    """Refuse what no disk can be.

    Raises:
        DisturbanceError: naming the first disk or key at fault.
    """
    for name, asked in body.items():
        if name not in names:
            known = ", ".join(sorted(names)) or "none"
            raise DisturbanceError(f"there is no disk {name!r}; the node's disks are: {known}")
        for key, value in asked.items():
            if key != HELD and (wrong := _fault(key, value)):
                raise DisturbanceError(f"{name}: {wrong}")


def _fault(key: str, value: object) -> str:
    if key not in KEYS:
        return f"{key}: unknown; known are {', '.join(KEYS)}"
    words = {"condition": CONDITIONS, "how": HOWS}.get(key)
    if words is not None:
        return (
            "" if value in words else f"{key}: {value!r} is unknown; known are {', '.join(words)}"
        )
    if isinstance(value, bool) or not isinstance(value, int | float):
        return f"{key}: {value!r} is no number"
    if key == "fill":
        return "" if 0 <= value <= 1 else f"fill: must be a share from 0 to 1, not {value}"
    return "" if value >= 1 else f"size: must be above zero, not {value}"


def kept(before: Mapping[str, Body], body: Mapping[str, Body]) -> layers.Body:
    """Return a layer's content with the amounts that were worked out for the same before."""
    return {name: _with_held(before.get(name, {}), asked) for name, asked in body.items()}


def _with_held(before: Body, asked: Body) -> layers.Body:
    body = {key: value for key, value in asked.items() if key != HELD}
    same = all(before.get(key) == body.get(key) for key in AMOUNTS)
    return {**body, HELD: before[HELD]} if same and HELD in before else body


def measured(stored: layers.Layers, rooms: Mapping[str, Room]) -> layers.Layers:
    """Return layers with the amounts worked out that can be: of the disks whose room is known."""
    return {
        layer: {name: _measured(asked, rooms.get(name)) for name, asked in body.items()}
        for layer, body in stored.items()
    }


def _measured(asked: layers.Body, room: Room | None) -> layers.Body:
    if room is None or not _is_pending(asked):
        return asked
    return {**asked, HELD: filling.amount(asked, room)}


def _is_pending(asked: Body) -> bool:
    return HELD not in asked and any(key in asked for key in AMOUNTS)


def composed(
    stored: layers.Layers, names: Collection[str], health: str = condition.RUNNING
) -> dict[str, Wanted]:
    """Return what the layers and the node's health add up to, for each disk."""
    return {
        name: _compose([body[name] for body in stored.values() if name in body], health)
        for name in names
    }


def _compose(bodies: list[layers.Body], health: str) -> Wanted:
    asked = [str(body.get("condition", MOUNTED)) for body in bodies]
    harshest = max(asked, key=CONDITIONS.index, default=MOUNTED)
    hows = [
        str(body.get("how", HOWS[0]))
        for body, each in zip(bodies, asked, strict=True)
        if each == harshest
    ]
    return Wanted(
        *_with_health(harshest, max(hows, key=HOWS.index, default=HOWS[0]), health),
        held=max((int(body.get(HELD, 0)) for body in bodies), default=0),
        pending=tuple(_words(body) for body in bodies if _is_pending(body)),
    )


def _with_health(harshest: str, how: str, health: str) -> tuple[str, str]:
    if harshest == DETACHED:
        return DETACHED, mounting.PULL
    if condition.is_off(health):
        # What was not synced is lost with the power, and kept by an orderly stop.
        return UNMOUNTED, mounting.CRASH if health == condition.CRASHED else mounting.FORCE
    return harshest, how


def _words(body: Body) -> str:
    fill = [f"fill to {show_ratio(body['fill'])}"] if "fill" in body else []
    size = [f"size {show_size(int(body['size']))}"] if "size" in body else []
    return " and ".join(fill + size)


def moves(seen: Seen, then: Wanted, *, lingers: bool = False) -> bool:
    """Return whether a disk has to be mounted otherwise, or taken away for good.

    Args:
        seen: what is at its place.
        then: what is asked.
        lingers: whether one that is unmounted, as is asked, is not yet away as is asked.
    """
    if seen.foreign:
        return False
    return seen.condition != then.place or (then.place == UNMOUNTED and lingers)


def to_hold(then: Wanted, room: Room | None) -> int | None:
    """Return the bytes to hold back from now on; None if that is not to be changed now."""
    if room is None or then.condition != MOUNTED:
        return None
    goal = filling.fitting(then.held, room)
    is_there = filling.is_near(goal, room.held, room.block)
    return None if is_there and (goal > 0) == (room.held > 0) else goal


def actions(scene: Scene, then: Mapping[str, Wanted], moving: Collection[str]) -> list[str]:
    """Return what is to be done to the disks, a line each."""
    found = []
    for name in sorted(then):
        wanted, seen = then[name], scene.seen[name]
        if seen.foreign:
            found.append(f"{name}: {seen.foreign} is in the way")
        if name in moving:
            found.append(f"{name}: {wanted.condition}")
        if wanted.condition == MOUNTED:
            found += [f"{name}: {words}" for words in wanted.pending]
        if (size := to_hold(wanted, scene.rooms.get(name))) is not None:
            found.append(f"{name}: {show_size(size)} held back")
    return found


def show(states: Mapping[str, str]) -> str:
    """Return the states of disks as text, one a line."""
    return "".join(f"{name}: {state}\n" for name, state in sorted(states.items()))


def show_now(scene: Scene, stored: Mapping[str, Wanted]) -> str:
    """Return what the disks are now, by the words in which it was asked where it is so."""
    return show({name: _now(scene, name, wanted) for name, wanted in stored.items()})


def _now(scene: Scene, name: str, stored: Wanted) -> str:
    seen, room = scene.seen[name], scene.rooms.get(name)
    if seen.foreign:
        return seen.foreign
    condition = stored.condition if seen.condition == stored.place else seen.condition
    held = stored.held if room is None else room.held
    return Wanted(condition, held=held, pending=stored.pending).show()


def show_then(scene: Scene, then: Mapping[str, Wanted]) -> str:
    """Return what the disks will be."""
    return show({name: _then(scene.rooms.get(name), wanted) for name, wanted in then.items()})


def _then(room: Room | None, wanted: Wanted) -> str:
    held = wanted.held if room is None else filling.fitting(wanted.held, room)
    return Wanted(wanted.condition, held=held, pending=wanted.pending).show()
