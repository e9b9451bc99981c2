# SPDX-License-Identifier: GPL-3.0-or-later
"""What a disk's bytes are kept in: an image that a loop device lends its blocks, or a block device.

mounting.py says what happens to a disk; what is done to a device for that is said here and in
loopdisk.py and blockdisk.py.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Mount:
    """A line of mountinfo: what is mounted, from where, and if it was shut down."""

    number: str
    root: str
    what: str
    read_only: bool
    shut_down: bool


class Backing(Protocol):
    """What is behind one disk. Devices are paths such as ``/dev/loop3``; none is an empty one."""

    def behind(self, mount: Mount) -> tuple[str, bool] | None:
        """Return the device of a mount of this disk, and if it is parted; None if it is another."""

    def in_use(self) -> str:
        """Return the device with this disk's file system at work, mounted anywhere or held open."""

    def lingers(self, *, spared: bool, gone: bool) -> bool:
        """Return whether a disk that is mounted nowhere here is not yet away as it should be.

        Args:
            spared: whether former users may hold on to it.
            gone: whether it should be as if it had been pulled out.
        """

    def numbers(self, mounted: str) -> list[str]:
        """Return ``major:minor`` of the devices to bound, given the one that is mounted, if any."""

    def fresh(self) -> AbstractContextManager[str]:
        """Have a device to mount, which nobody uses, while the block runs.

        Raises:
            DisturbanceError: if there is none, or it has another's content.
        """

    def taken_up(self) -> AbstractContextManager[str]:
        """Have the device that is in use, which stays what it is while the block runs; or none."""

    def dies(self) -> bool:
        """Return whether the device goes from under what waits in it when it is parted."""

    def doom(self) -> None:
        """Get ready to part the device, so that whoever comes after a kill goes on with it.

        Raises:
            DisturbanceError: if it cannot be parted.
        """

    def part(self, device: str) -> None:
        """Part a device from the bytes, which nothing that still holds it reads or changes then.

        Raises:
            DisturbanceError: if the kernel refuses.
        """

    def settle(self, *, gone: bool) -> None:
        """Leave the device of a disk that is mounted no longer there, or gone.

        Raises:
            DisturbanceError: if the kernel refuses.
        """
