# SPDX-License-Identifier: GPL-3.0-or-later
"""A disk that is an image behind a loop device.

The device frees itself with its last user. One that is still in use is used again, for two file
systems at work on one image would ruin it; one whose file system was shut down is cut off from the
image first, so that what it has in memory can never get there.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from . import syscalls
from .backing import Mount

_LOOP = 7


@dataclass(frozen=True, slots=True)
class Loop:
    """What is behind a disk whose bytes are in an image; see backing.Backing."""

    image: str

    def behind(self, mount: Mount) -> tuple[str, bool] | None:
        """Return the loop device of a mount of this image, and if it is cut off."""
        device = _loop_of(mount)
        ours, cut = (_behind(device, self._image()) if device else None) or (False, False)
        return (device, cut) if ours else None

    def in_use(self) -> str:
        """Return the loop device that has the image, mounted anywhere or held open.

        A device that was cut off does not count.
        """
        image = self._image()
        for place in sorted(Path("/sys/block").glob("loop*/loop")) if image else ():
            device = f"/dev/{place.parent.name}"
            if _behind(device, image) == (True, False):
                return device
        return ""

    def lingers(self, *, spared: bool, gone: bool) -> bool:
        """Return whether former users who are not spared hold on to it."""
        return not spared and bool(self.in_use())

    def numbers(self, mounted: str) -> list[str]:
        """Return the number of the device: mounted here, or held by former users."""
        device = mounted or self.in_use()
        return [f"{_LOOP}:{device.removeprefix('/dev/loop')}"] if device else []

    @contextmanager
    def fresh(self) -> Iterator[str]:
        """Have the image behind a free loop device, which is kept until it is mounted."""
        device, held = syscalls.attach_loop(self.image)
        try:
            yield device
        finally:
            os.close(held)

    @contextmanager
    def taken_up(self) -> Iterator[str]:
        """Have the loop device that has the image, if there is one."""
        device = self.in_use()
        if not device:
            yield ""
            return
        with _opened(device):
            # Its last user may have gone since; held open, it stays what it is now.
            yield device if _behind(device, self._image()) == (True, False) else ""

    def dies(self) -> bool:
        """Return that the device stays as long as anybody holds it."""
        return False

    def doom(self) -> None:
        """Do nothing: a device that is half parted tells so itself."""

    def part(self, device: str) -> None:
        """Cut a loop device off from the image."""
        syscalls.cut_loop(device)

    def settle(self, *, gone: bool) -> None:
        """Do nothing: without users the device has freed itself."""

    def _image(self) -> tuple[int, int] | None:
        """Return (device number, inode) of the image, by which a loop device knows it."""
        try:
            found = Path(self.image).stat()
        except OSError:
            return None
        return found.st_dev, found.st_ino


def _loop_of(mount: Mount) -> str:
    """Return the path of the loop device that is mounted as a whole; else nothing."""
    major, _, minor = mount.number.partition(":")
    return f"/dev/loop{minor}" if int(major) == _LOOP and mount.root == "/" else ""


def _behind(device: str, image: tuple[int, int] | None) -> tuple[bool, bool] | None:
    """Return whether an image is behind a device, and if it is cut off; None if nothing is."""
    with suppress(OSError), _opened(device) as opened:
        behind, cut = syscalls.loop_behind(opened)
        return behind == image, cut
    return None


@contextmanager
def _opened(device: str) -> Iterator[int]:
    opened = os.open(device, os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield opened
    finally:
        os.close(opened)
