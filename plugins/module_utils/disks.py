# SPDX-License-Identifier: GPL-3.0-or-later
"""A node's data disks as layers: mounted, read-only, unmounted or detached, fuller or smaller.

Whatever becomes of a disk, its data stay; and of one that is away the kernel keeps nothing but what
its former users hold. What cannot be done while a disk is away or read-only is done when it is
back. A node that is switched off has no disk mounted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from . import condition, diskmodel, filling, layers, mounting, quotas
from .change import Change
from .diskmodel import CONDITIONS, HOWS, Body, Scene, Wanted
from .errors import DisturbanceError
from .identity import Identity

__all__ = ["CONDITIONS", "HOWS", "STORE", "attach", "change", "choose", "converge"]

STORE = "disk.json"

attach = mounting.attach


def choose(identity: Identity, disk: str | None) -> str:
    """Return the name of a disk of a node; None is its only one.

    Raises:
        DisturbanceError: if there is no such disk, or several and none was named.
    """
    names = sorted(identity.disks)
    if not names:
        raise DisturbanceError(f"{identity.name} has no data disk")
    if disk is None and len(names) == 1:
        return names[0]
    if disk is None or disk not in identity.disks:
        asked = "name one of them" if disk is None else f"there is no disk {disk!r}"
        raise DisturbanceError(f"{identity.name} has the disks {', '.join(names)}; {asked}")
    return disk


def change(
    identity: Identity,
    *,
    layer: str | None,
    body: Mapping[str, Body] | None = None,
    present: bool = True,
    dry_run: bool = False,
) -> Change:
    """Set or take away one layer of this node's disks and bring them to what all layers ask.

    Args:
        identity: the node, in whose mount namespace the caller is.
        layer: its name; None with present=False takes away all but base.
        body: what it asks, by disk: ``condition`` (CONDITIONS) and ``how`` (HOWS), ``fill``, the
            share of the disk to be in use, and ``size``, the bytes to be left of it; any of them.
        present: whether the layer should be there.
        dry_run: only say what would be done.

    Raises:
        DisturbanceError: one line; a busy disk names its users, a foreign mount is named. Then
            nothing is stored, and what was changed already is changed back.
    """
    named = (body or {}) if present else {}
    for disk in named:
        choose(identity, disk)
    diskmodel.check(identity.disks, named)
    with layers.locked(Path(identity.directory, STORE)):
        stored = layers.load(Path(identity.directory, STORE))
        own = diskmodel.kept(stored.get(layer or "", {}), named) if present else None
        work = _Work(identity, stored, layers.changed(stored, layer, own))
        work.refuse_foreign(lambda disk: disk in named or work.concerns(disk))
        if dry_run:
            work.refuse_busy()
        else:
            _carry_out_or_back(identity, work, stored)
    return work.outcome


def _carry_out_or_back(identity: Identity, work: _Work, stored: layers.Layers) -> None:
    try:
        work.carry_out()
    except DisturbanceError:
        layers.save(Path(identity.directory, STORE), stored)
        with suppress(DisturbanceError):
            _Work(identity, stored, stored).carry_out()
        raise


def converge(identity: Identity, *, dry_run: bool = False) -> Change:
    """Bring this node's disks to what the stored layers ask; a dry run's actions are the drift.

    Amounts that could not be worked out before are stored when they can be.

    Raises:
        DisturbanceError: one line, as for change; a foreign mount keeps no other disk from its due.
    """
    with layers.locked(Path(identity.directory, STORE)):
        stored = layers.load(Path(identity.directory, STORE))
        work = _Work(identity, stored, stored)
        if not dry_run:
            work.carry_out()
            work.refuse_foreign(lambda _: True)
    return work.outcome


class _Work:
    """What is to be done to a node's disks: found out at once, carried out if wanted."""

    def __init__(self, identity: Identity, stored: layers.Layers, fresh: layers.Layers) -> None:
        self._identity = identity
        self._stored = stored
        self._health = condition.load(identity.directory)
        self._scene = _look(identity)
        self._fresh = diskmodel.measured(fresh, self._scene.rooms)
        self._before = self._composed(stored)
        self._then = self._composed(self._fresh)
        self._moving = [name for name in sorted(identity.disks) if self._moves(name)]
        self.outcome = self._foretell()

    def _composed(self, stored: layers.Layers) -> dict[str, Wanted]:
        return diskmodel.composed(stored, self._identity.disks, self._health)

    def _moves(self, name: str) -> bool:
        disk, seen, then = self._identity.disks[name], self._scene.seen[name], self._then[name]
        is_away = seen.condition == then.place == mounting.UNMOUNTED
        return diskmodel.moves(seen, then, lingers=is_away and mounting.lingers(disk, then.how))

    def _foretell(self) -> Change:
        todo = diskmodel.actions(self._scene, self._then, self._moving)
        return Change(
            bool(todo) or self._fresh != self._stored,
            diskmodel.show_now(self._scene, self._before),
            diskmodel.show_then(self._scene, self._then),
            todo,
        )

    def concerns(self, name: str) -> bool:
        """Return whether something else is asked of a disk than before."""
        return self._before[name] != self._then[name]

    def refuse_foreign(self, matters: Callable[[str], bool]) -> None:
        """Refuse to go on if somebody else's mount is at the place of a disk that matters."""
        for name, seen in self._scene.seen.items():
            if seen.foreign and matters(name):
                raise DisturbanceError(
                    f"{self._identity.name}: {seen.foreign} is mounted on"
                    f" {self._identity.disks[name].mount}, the place of disk {name};"
                    " it is not ours to touch, so unmount it first"
                )

    def refuse_busy(self) -> None:
        """Refuse if a disk that should be unmounted cleanly is in use."""
        there = (mounting.MOUNTED, mounting.READONLY)
        for name in self._moving:
            then = self._then[name]
            goes = (then.place, then.how) == (mounting.UNMOUNTED, mounting.CLEAN)
            if goes and self._scene.seen[name].condition in there:
                mounting.refuse_busy(self._identity.disks[name])

    def carry_out(self) -> None:
        """Store the layers, then bring the disks to them; one that refuses keeps no other back."""
        self._save(self._stored)
        self._let_go()
        refused = [error for name in self._moving if (error := self._move(name))]
        if self._moving:
            quotas.throttle(self._identity)
            self._look_again()
        for name, room in self._scene.rooms.items():
            if (size := diskmodel.to_hold(self._then[name], room)) is not None:
                filling.hold(self._identity.disks[name].mount, size)
        if refused:
            raise refused[0]

    def _let_go(self) -> None:
        """Hold nothing back that waits in a device which is about to go."""
        going = {
            name: self._identity.disks[name]
            for name in self._moving
            if mounting.dies(
                self._identity.disks[name], self._scene.seen[name], self._then[name].how
            )
        }
        if going:
            quotas.let_go(self._identity, mounting.devices(going))

    def _move(self, name: str) -> DisturbanceError | None:
        then = self._then[name]
        try:
            mounting.bring(self._identity.disks[name], self._scene.seen[name], then.place, then.how)
        except DisturbanceError as error:
            return error
        return None

    def _look_again(self) -> None:
        """Work out what had to wait for a disk that is mounted now."""
        self._scene = _look(self._identity)
        before = self._fresh
        self._fresh = diskmodel.measured(before, self._scene.rooms)
        self._then = self._composed(self._fresh)
        self._save(before)

    def _save(self, before: layers.Layers) -> None:
        if self._fresh != before:
            layers.save(Path(self._identity.directory, STORE), self._fresh)


def _look(identity: Identity) -> Scene:
    seen = mounting.look(identity.disks)
    there = (mounting.MOUNTED, mounting.READONLY)
    return Scene(
        seen,
        {
            name: filling.room(identity.disks[name].mount)
            for name in seen
            if seen[name].condition in there
        },
    )
