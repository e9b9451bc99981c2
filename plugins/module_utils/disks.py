# SPDX-License-Identifier: GPL-3.0-or-later
"""A node's data disks: mounted, read-only or unmounted, as layers.

A disk is an image behind a loop device that frees itself when it is unmounted, so its data stay and
nothing of it is left in the kernel. Of several layers the harshest holds.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from pathlib import Path

from . import layers, quotas, syscalls
from .change import Change
from .errors import DisturbanceError, KernelError
from .identity import Disk, Identity

STORE = "disk.json"
# From the mildest to the harshest.
STATES = ("mounted", "readonly", "unmounted")
_FLAGS = syscalls.MS_NOSUID | syscalls.MS_NODEV


def composed(stored: layers.Layers, names: Mapping[str, Disk]) -> dict[str, str]:
    """Return the state that the layers add up to, for each disk."""
    return {
        name: max(
            (body.get(name, STATES[0]) for body in stored.values()),
            key=STATES.index,
            default=STATES[0],
        )
        for name in names
    }


def read(disk: Disk, mounts: str) -> str:
    """Return a disk's state, given the text of /proc/self/mounts."""
    for line in reversed(mounts.splitlines()):
        _, place, _, options = line.split(" ")[:4]
        if place == disk.mount:
            return "readonly" if "ro" in options.split(",") else "mounted"
    return "unmounted"


def show(states: Mapping[str, str]) -> str:
    """Return the states of disks as text, one a line."""
    return "".join(f"{name}: {state}\n" for name, state in sorted(states.items()))


def change(
    identity: Identity,
    *,
    layer: str | None,
    disk: str | None = None,
    state: str = "mounted",
    present: bool = True,
    dry_run: bool = False,
) -> Change:
    """Set or take away one layer of this node's disks and bring the mounts to what all layers ask.

    Args:
        identity: the node, in whose mount namespace the caller is.
        layer: its name; None with present=False takes away all but base.
        disk: the disk's name; None is the only one.
        state: ``mounted``, ``readonly`` or ``unmounted``.
        present: whether the layer should be there.
        dry_run: only say what would be done.

    Raises:
        DisturbanceError: one line; a busy disk names its holders.
    """
    path = Path(identity.directory, STORE)
    with layers.locked(path):
        stored = layers.load(path)
        body = {_choose(identity, disk): _checked(state)} if present else None
        if body is not None and layer is not None:
            body = {**stored.get(layer, {}), **body}
        fresh = layers.changed(stored, layer, body)
        mounts = Path("/proc/self/mounts").read_text()
        now = {name: read(known, mounts) for name, known in identity.disks.items()}
        then = composed(fresh, identity.disks)
        todo = [f"{name}: {then[name]}" for name in sorted(then) if then[name] != now[name]]
        if not dry_run:
            if todo:
                for name in identity.disks:
                    _converge(identity.disks[name], now[name], then[name])
            if fresh != stored:
                layers.save(path, fresh)
    if todo and not dry_run and any(wanted != "unmounted" for wanted in then.values()):
        quotas.change(identity, layer=layers.BASE, limits=_base_limits(identity), force=True)
    return Change(bool(todo) or fresh != stored, show(now), show(then), todo)


def _base_limits(identity: Identity) -> quotas.Limits:
    """Return the base limits as stored: setting them again puts throttles on fresh devices."""
    stored = layers.load(Path(identity.directory, quotas.STORE))
    return stored.get(layers.BASE, {})


def _choose(identity: Identity, disk: str | None) -> str:
    names = sorted(identity.disks)
    if not names:
        raise DisturbanceError(f"{identity.name} has no data disk")
    if disk is None and len(names) == 1:
        return names[0]
    if disk is None or disk not in identity.disks:
        asked = "name one of them" if disk is None else f"there is no disk {disk!r}"
        raise DisturbanceError(f"{identity.name} has the disks {', '.join(names)}; {asked}")
    return disk


def _checked(state: str) -> str:
    if state not in STATES:
        raise DisturbanceError(f"{state!r} is no state of a disk; known are {', '.join(STATES)}")
    return state


def _converge(disk: Disk, now: str, then: str) -> None:
    if now == then:
        return
    if then == "unmounted":
        _unmount(disk)
    elif now == "unmounted":
        attach(disk, read_only=then == "readonly")
    else:
        _remount(disk, read_only=then == "readonly")


def attach(disk: Disk, *, read_only: bool = False) -> None:
    """Mount a disk's image at its place in the caller's mount namespace."""
    device, held = syscalls.attach_loop(disk.image, read_only=False)
    try:
        Path(disk.mount).mkdir(parents=True, exist_ok=True)
        flags = _FLAGS | (syscalls.MS_RDONLY if read_only else 0)
        syscalls.mount(device, disk.mount, "ext4", flags)
    finally:
        os.close(held)


def _remount(disk: Disk, *, read_only: bool) -> None:
    flags = _FLAGS | syscalls.MS_REMOUNT | (syscalls.MS_RDONLY if read_only else 0)
    try:
        syscalls.mount(None, disk.mount, None, flags)
    except KernelError as error:
        if error.errno == errno.EBUSY:
            raise _busy(disk) from error
        raise


def _unmount(disk: Disk) -> None:
    try:
        syscalls.unmount(disk.mount)
    except KernelError as error:
        if error.errno == errno.EBUSY:
            raise _busy(disk) from error
        raise


def _busy(disk: Disk) -> DisturbanceError:
    held = ", ".join(
        f"{name} (pid {pid})" for pid, name in holders(Path(disk.mount).stat().st_dev)[:5]
    )
    return DisturbanceError(
        f"{disk.mount} is in use by {held or 'a process elsewhere'}; stop it first"
    )


def holders(device: int) -> list[tuple[int, str]]:
    """Return (pid, command) of the processes with a file, folder or root on a device."""
    found = []
    for entry in os.scandir("/proc"):
        if entry.name.isdigit() and _holds(entry.path, device):
            found.append((int(entry.name), _command(entry.path)))
    return sorted(found)


def _holds(process: str, device: int) -> bool:
    try:
        places = [
            f"{process}/cwd",
            f"{process}/root",
            *(e.path for e in os.scandir(f"{process}/fd")),
        ]
    except OSError:
        return False
    return any(_device(place) == device for place in places)


def _device(place: str) -> int | None:
    try:
        return Path(place).stat().st_dev
    except OSError:
        return None


def _command(process: str) -> str:
    try:
        return Path(process, "comm").read_text().strip()
    except OSError:
        return "?"
