# SPDX-License-Identifier: GPL-3.0-or-later
"""Mounting a disk and taking it away, softly or not.

A disk is told by what is behind the device that is mounted (see backing.py), not by its place
alone: somebody else's mount there is not ours to touch. A file system that is still in use is used
again; one that was shut down is parted from the disk first, so that what it has in memory can never
get there.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from . import syscalls
from .backing import Backing, Mount
from .blockdisk import Block
from .errors import DisturbanceError, KernelError
from .holders import busy
from .identity import Disk
from .loopdisk import Loop

MOUNTED, READONLY, UNMOUNTED = "mounted", "readonly", "unmounted"
# What a disk may be found in beside these, and is never asked to be.
DEAD, FOREIGN = "dead", "foreign"
# How a disk that is in use goes: not at all, behind its users' backs, with errors for them. The
# other two are for no one to choose: a disk that is pulled, and one whose node lost its power.
CLEAN, LAZY, FORCE, PULL, CRASH = "clean", "lazy", "force", "pull", "crash"
_FSTYPE = "ext4"
_FLAGS = syscalls.MS_NOSUID | syscalls.MS_NODEV
_DEVICES = "/dev/"
_OWN_MOUNTS = Path("/proc/thread-self/mountinfo")


@dataclass(frozen=True, slots=True)
class Seen:
    """What is at a disk's place: its condition, its device, and the foreign mount there."""

    condition: str = UNMOUNTED
    device: str = ""
    foreign: str = ""


def backing(disk: Disk) -> Backing:
    """Return what is behind a disk."""
    return Block(disk.image) if disk.image.startswith(_DEVICES) else Loop(disk.image)


def tops(mountinfo: str) -> dict[str, Mount]:
    """Return the mount on top of each place, given the text of /proc/self/mountinfo."""
    found = {}
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        _, _, number, root, place, options = before.split(" ")[:6]
        fstype, source, *rest = after.split(" ")
        words = {*options.split(","), *(rest[0].split(",") if rest else ())}
        found[plain(place)] = Mount(
            number, root, f"{fstype} ({plain(source)})", "ro" in words, "shutdown" in words
        )
    return found


def plain(text: str) -> str:
    """Undo the kernel's escapes for blanks and backslashes."""
    for escaped, letter in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        text = text.replace(escaped, letter)
    return text


def judge(mount: Mount | None, *, ours: bool, cut: bool) -> str:
    """Return the condition of a disk.

    Args:
        mount: what is on top at its place.
        ours: whether the disk is behind that.
        cut: whether its device was parted from the disk.
    """
    if mount is None:
        return UNMOUNTED
    if not ours:
        return FOREIGN
    if cut or mount.shut_down:
        return DEAD
    return READONLY if mount.read_only else MOUNTED


def look(disks: Mapping[str, Disk]) -> dict[str, Seen]:
    """Return what is at the place of each disk in the caller's mount namespace."""
    if not disks:
        return {}
    mounts = tops(_OWN_MOUNTS.read_text())
    return {name: _look(disk, mounts) for name, disk in disks.items()}


def _look(disk: Disk, mounts: Mapping[str, Mount]) -> Seen:
    mount = mounts.get(os.path.realpath(disk.mount))
    if mount is None:
        return Seen()
    found = backing(disk).behind(mount)
    device, cut = found or ("", False)
    condition = judge(mount, ours=found is not None, cut=cut)
    return Seen(condition, device, "" if found else mount.what)


def in_use(disk: Disk) -> str:
    """Return the device on which a disk is in use, mounted anywhere or held open; else nothing.

    A device that was parted from the disk does not count.
    """
    return backing(disk).in_use()


def lingers(disk: Disk, how: str) -> bool:
    """Return whether a disk that went as how says, and is mounted no longer, is not yet away."""
    return backing(disk).lingers(spared=how in (CLEAN, LAZY), gone=how == PULL)


def dies(disk: Disk, seen: Seen, how: str) -> bool:
    """Return whether bringing a disk elsewhere may take its device from under what waits in it."""
    return (how not in (CLEAN, LAZY) or seen.condition == DEAD) and backing(disk).dies()


def devices(disks: Mapping[str, Disk]) -> list[str]:
    """Return ``major:minor`` of each disk's device that this node's users may use."""
    return [
        number
        for name, seen in look(disks).items()
        for number in backing(disks[name]).numbers(seen.device)
    ]


def attach(disk: Disk, *, read_only: bool = False) -> None:
    """Mount a disk that nobody uses at its place in the caller's mount namespace."""
    with backing(disk).fresh() as device:
        _mount(device, disk, read_only=read_only)


def attach_again(disk: Disk, *, read_only: bool) -> None:
    """Mount a disk; if former users still hold its file system, that same one.

    Raises:
        KernelError: if the kernel refuses.
    """
    for _ in range(8):
        if not _reattach(disk, read_only=read_only):
            return attach(disk, read_only=read_only)
        if look({"": disk})[""].condition != DEAD:
            return None
        cut_off(disk)
    raise KernelError(f"mount {disk.image} on {disk.mount}", errno.EIO)


def _reattach(disk: Disk, *, read_only: bool) -> bool:
    """Mount a disk from the device on which it is in use; return whether there was one."""
    with backing(disk).taken_up() as device:
        if device:
            _mount(device, disk, read_only=read_only)
        return bool(device)


def _mount(device: str, disk: Disk, *, read_only: bool) -> None:
    Path(disk.mount).mkdir(parents=True, exist_ok=True)
    wanted, other = (_FLAGS | flag for flag in _either(read_only))
    try:
        syscalls.mount(device, disk.mount, _FSTYPE, wanted)
    except KernelError as error:
        if error.errno != errno.EBUSY:
            raise
        # Former users hold it the other way.
        syscalls.mount(device, disk.mount, _FSTYPE, other)
        _turn(disk, read_only=read_only)


def _either(read_only: bool) -> tuple[int, int]:
    return (syscalls.MS_RDONLY, 0) if read_only else (0, syscalls.MS_RDONLY)


def _turn(disk: Disk, *, read_only: bool) -> None:
    """Change a fresh mount's way; what is written elsewhere keeps only this mount from writing."""
    try:
        _remount(disk, read_only=read_only)
    except KernelError as error:
        if error.errno != errno.EBUSY:
            raise
        _remount(disk, read_only=read_only, alone=True)


def _remount(disk: Disk, *, read_only: bool, alone: bool = False) -> None:
    flags = _FLAGS | _either(read_only)[0] | syscalls.MS_REMOUNT
    syscalls.mount(None, disk.mount, None, flags | (syscalls.MS_BIND if alone else 0))


def bring(disk: Disk, seen: Seen, then: str, how: str) -> None:
    """Bring a disk from what was seen to mounted, readonly or unmounted.

    Args:
        disk: the disk.
        seen: what is at its place; nothing foreign.
        then: what should be.
        how: what to do about those who use it: CLEAN to CRASH.

    Raises:
        DisturbanceError: if it is in use and should go cleanly; it names the users.
    """
    now = seen.condition
    if now == DEAD:
        cut_off(disk)
        now = UNMOUNTED
    if then == UNMOUNTED:
        _take_away(disk, now, how)
    elif now == UNMOUNTED:
        attach_again(disk, read_only=then == READONLY)
    elif then != now:
        _change_way(disk, how, read_only=then == READONLY)


def _change_way(disk: Disk, how: str, *, read_only: bool) -> None:
    try:
        return _remount(disk, read_only=read_only)
    except KernelError as error:
        if error.errno != errno.EBUSY:
            raise
        if how == CLEAN:
            raise busy(disk.mount) from error
    if how == LAZY:
        syscalls.unmount(disk.mount, syscalls.MNT_DETACH)
    else:
        pull(disk)
    attach_again(disk, read_only=read_only)
    return None


def _take_away(disk: Disk, now: str, how: str) -> None:
    if now != UNMOUNTED:
        _unmount(disk, how)
    if how in (FORCE, PULL, CRASH):
        _pull_from_former_users(disk)
    backing(disk).settle(gone=how == PULL)


def _unmount(disk: Disk, how: str) -> None:
    if how in (PULL, CRASH):
        return pull(disk, flush_log=how == PULL)
    try:
        return syscalls.unmount(disk.mount, syscalls.MNT_DETACH if how == LAZY else 0)
    except KernelError as error:
        if error.errno != errno.EBUSY:
            raise
        if how == CLEAN:
            raise busy(disk.mount) from error
    return pull(disk)


def refuse_busy(disk: Disk) -> None:
    """Refuse a mounted disk that is in use, as unmounting it cleanly would; it stays mounted.

    The kernel unmounts what is to expire at the second time of asking, unless it was looked at in
    between; and refuses at the first if somebody uses it.
    """
    place = Path(disk.mount)
    place.stat()
    try:
        syscalls.unmount(disk.mount, syscalls.MNT_EXPIRE)
    except KernelError as error:
        if error.errno == errno.EBUSY:
            raise busy(disk.mount) from error
        if error.errno != errno.EAGAIN:
            raise
    finally:
        place.stat()


def pull(disk: Disk, *, flush_log: bool = True) -> None:
    """Take a disk away as if it had been pulled: whoever uses it gets EIO."""
    backing(disk).doom()
    with suppress(KernelError):  # One that cannot be shut down fails when it is cut off.
        syscalls.shut_down(disk.mount, flush_log=flush_log)
    cut_off(disk)


def cut_off(disk: Disk) -> None:
    """Part the file system at a disk's place from the disk, and unmount it for good."""
    seen = look({"": disk})[""]
    if seen.foreign or seen.condition == UNMOUNTED:
        raise DisturbanceError(f"{disk.mount} is not the disk that it was")
    backing(disk).part(seen.device)
    syscalls.unmount(disk.mount, syscalls.MNT_DETACH)


def _pull_from_former_users(disk: Disk) -> None:
    # To reach a file system that is mounted nowhere here, it is mounted once more.
    for _ in range(8):
        if not _reattach(disk, read_only=False):
            return
        pull(disk)
