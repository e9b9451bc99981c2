# SPDX-License-Identifier: GPL-3.0-or-later
"""A disk that is a block device of its own, as a virtual machine has them.

It is there whether or not it is mounted, and one file system at a time has it for itself, which the
kernel tells whoever asks to have it alone. A disk whose users are to lose it is taken from its
driver: the file system that they hold dies with the device, and the disk comes back as another one.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from . import formatting
from .backing import Mount
from .errors import CapabilityError, DisturbanceError, KernelError
from .identity import DIRECTORY
from .virtiodisk import BY_ID, VirtioDisk

FOLDER = Path(DIRECTORY, "devices")
_DEAD = "ext4 (/dev/vd"


@dataclass(frozen=True, slots=True)
class Block:
    """What is behind a disk that is a block device; see backing.Backing.

    Attributes:
        image: the device; one of virtio by the name that its serial gives it.
        folder: where it is remembered what becomes of disks.
        sysfs: where the kernel shows its devices.
    """

    image: str
    folder: Path = FOLDER
    sysfs: Path = field(default=Path("/sys"), compare=False)

    @property
    def _virtio(self) -> VirtioDisk | None:
        if not self.image.startswith(BY_ID):
            return None
        serial = self.image.removeprefix(BY_ID)
        return VirtioDisk(serial, self.folder / serial, self.sysfs)

    def _device(self) -> str:
        """Return the device's path; nothing if it is not there."""
        if self._virtio is not None:
            block = self._virtio.block()
            return f"/dev/{block}" if block else ""
        return os.path.realpath(self.image) if _is_block(self.image) else ""

    @property
    def _is_doomed(self) -> bool:
        return self._virtio is not None and self._virtio.is_doomed

    def behind(self, mount: Mount) -> tuple[str, bool] | None:
        """Return the device of a mount of it as a whole, and if it was, or was to be, parted."""
        if mount.root != "/":
            return None
        device = self._device()
        if device and mount.number == self._number(device):
            return device, self._is_doomed
        return ("", True) if self._is_dead(mount) else None

    def _is_dead(self, mount: Mount) -> bool:
        """Return whether a mount is of a virtio disk that went away from under it."""
        gone = not (self.sysfs / "dev" / "block" / mount.number).exists()
        return gone and self._virtio is not None and mount.what.startswith(_DEAD)

    def _number(self, device: str) -> str:
        """Return ``major:minor`` of the device."""
        try:
            return (self.sysfs / "class/block" / Path(device).name / "dev").read_text().strip()
        except OSError:
            return ""

    def in_use(self) -> str:
        """Return the device if a file system has it that is not to lose it."""
        device = self._device()
        return device if device and not self._is_doomed and _is_taken(device) else ""

    def lingers(self, *, spared: bool, gone: bool) -> bool:
        """Return whether the device is there, or gone, and should not; or is held on to."""
        device = self._device()
        if gone:
            return bool(device)
        return self._is_doomed or (not spared and bool(device) and _is_taken(device))

    def numbers(self, mounted: str) -> list[str]:
        """Return the number of the device, mounted or not: it is the node's whenever it is used."""
        device = mounted or self._device()
        number = self._number(device) if device else ""
        return [number] if number else []

    @contextmanager
    def fresh(self) -> Iterator[str]:
        """Have the device with an ext4 on it; a blank one is given one."""
        device = self._back()
        formatting.ensure(device, self.folder / f"{Path(self.image).name}.making")
        yield device

    def _back(self) -> str:
        """Return the device, given back to its driver and held by nobody who was to lose it."""
        virtio = self._virtio
        if virtio is None:
            if device := self._device():
                return device
            raise DisturbanceError(f"{self.image} is no block device, or not there")
        device = f"/dev/{virtio.plug()}"
        if virtio.is_doomed and _is_taken(device):
            virtio.unplug()
            device = f"/dev/{virtio.plug()}"
        virtio.forgive()
        return device

    @contextmanager
    def taken_up(self) -> Iterator[str]:
        """Have the device if a file system has it that is not to lose it."""
        yield self.in_use()

    def dies(self) -> bool:
        """Return whether it is a virtio disk, which goes at once."""
        return self._virtio is not None

    def doom(self) -> None:
        """Remember that the disk is about to go, and where it was."""
        if self._virtio is None:
            raise CapabilityError(f"{self.image} cannot be taken away: it is no virtio disk")
        self._virtio.doom()

    def part(self, device: str) -> None:
        """Take the disk from its driver; the kernel first writes out what it has taken in."""
        if not device:
            return
        self.doom()
        if self._virtio is not None:
            self._virtio.unplug()

    def settle(self, *, gone: bool) -> None:
        """Leave the disk with its driver, or without."""
        if gone:
            self.part(self._device())
        elif self._is_doomed:
            self._back()


def _is_block(path: str) -> bool:
    try:
        return stat.S_ISBLK(Path(path).stat().st_mode)
    except OSError:
        return False


def _is_taken(device: str) -> bool:
    """Return whether a file system, or another device, has a device for itself.

    Raises:
        KernelError: if it cannot be told.
    """
    try:
        os.close(os.open(device, os.O_RDONLY | os.O_EXCL | os.O_CLOEXEC))
    except OSError as error:
        if error.errno == errno.EBUSY:
            return True
        if error.errno in (errno.ENOENT, errno.ENXIO):
            return False
        raise KernelError(f"look at {device}", error.errno or errno.EIO) from error
    return False
