# SPDX-License-Identifier: GPL-3.0-or-later
"""A virtio disk by its serial: found, taken from its driver, and given back to it.

A disk without its driver is gone for the node, as if pulled out of the machine: /dev and /sys/block
have it no longer, and who still holds it gets errors. Its serial can be read no longer either, so a
link in the node's folder remembers on which virtio device it was. The link is made before the disk
goes and removed after it has come back: whoever finds both link and disk knows that somebody was
stopped half-way. It does no harm that it outlives a reboot, after which all disks are there.
"""

from __future__ import annotations

import errno
import time
from dataclasses import dataclass
from pathlib import Path

from .errors import CapabilityError, DisturbanceError, KernelError

BY_ID = "/dev/disk/by-id/virtio-"
_DRIVER = "virtio_blk"
_PATIENCE = 5.0


@dataclass(frozen=True, slots=True)
class VirtioDisk:
    """The virtio disk with a serial, there or not.

    Attributes:
        serial: what the hypervisor calls it.
        memory: the link that remembers where it was.
        sysfs: where the kernel shows its devices.
        by_id: the link that udev makes to it; it comes and goes a little late.
    """

    serial: str
    memory: Path
    sysfs: Path = Path("/sys")
    by_id: str = ""

    def block(self) -> str:
        """Return what the kernel calls the disk, such as ``vdc``; nothing if it is not there."""
        likely = self._linked()
        if self._has_serial(likely):
            return likely
        known = sorted((self.sysfs / "block").glob("vd*"))
        return next((each.name for each in known if self._has_serial(each.name)), "")

    def _linked(self) -> str:
        try:
            # Not resolve(): it fails if udev removes the link after it has seen it.
            return Path(self.by_id or f"{BY_ID}{self.serial}").readlink().name
        except OSError:
            return ""

    def _has_serial(self, block: str) -> bool:
        try:
            return (self.sysfs / "block" / block / "serial").read_text().strip() == self.serial
        except OSError:
            return False

    @property
    def is_doomed(self) -> bool:
        """Whether it is to go, or has not been said to be back."""
        return self.memory.is_symlink()

    def doom(self) -> None:
        """Remember where the disk is, since it is about to go.

        Raises:
            CapabilityError: if it is no virtio disk, so that it cannot be taken away.
        """
        device = (self.sysfs / "block" / self.block() / "device").resolve()
        if not (device / "driver").resolve().name == _DRIVER:
            raise CapabilityError(
                f"disk {self.serial} cannot be taken away: {device} has not the driver {_DRIVER}"
            )
        self.memory.parent.mkdir(parents=True, exist_ok=True)
        fresh = self.memory.with_suffix(".new")
        fresh.unlink(missing_ok=True)
        fresh.symlink_to(device)
        fresh.replace(self.memory)

    def unplug(self) -> None:
        """Take the disk from its driver; it was doomed before.

        Raises:
            KernelError: if the kernel refuses.
        """
        if self.block():
            self._tell("unbind")

    def plug(self) -> str:
        """Return what the kernel calls the disk, given back to its driver if it was taken away.

        Raises:
            DisturbanceError: if it is not there.
        """
        if not self.block() and self.is_doomed:
            self._tell("bind")
            self._await()
        if block := self.block():
            return block
        raise DisturbanceError(
            f"there is no virtio disk with the serial {self.serial}: whoever runs this machine has"
            " taken it away"
        )

    def forgive(self) -> None:
        """Forget that it was doomed: it is back, and nobody holds what it was before."""
        self.memory.unlink(missing_ok=True)

    def _tell(self, word: str) -> None:
        device = self.memory.readlink().name
        file = self.sysfs / "bus/virtio/drivers" / _DRIVER / word
        try:
            file.write_text(device)
        except OSError as error:
            raise KernelError(
                f"{word} {device}, disk {self.serial}", error.errno or errno.EIO
            ) from error

    def _await(self) -> None:
        deadline = time.monotonic() + _PATIENCE
        while not self.block() and time.monotonic() < deadline:
            time.sleep(0.01)
