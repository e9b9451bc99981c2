# SPDX-License-Identifier: GPL-3.0-or-later
"""Making a disk fuller, or smaller: bytes of it are held back by one hidden file.

The file is allocated and never written, so it costs no time and no space on the machine.
"""

from __future__ import annotations

import errno
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from .errors import KernelError

FILE = ".pkgctl-reserve"
Number = int | float
# In which the kernel counts what a file has.
_UNIT = 512
_NEAR_BLOCKS = 16


@dataclass(frozen=True, slots=True)
class Room:
    """The bytes of a mounted disk that ordinary users could ever have, and what became of them.

    Attributes:
        total: all of them; neither the file system's own nor those kept for root.
        free: what nobody has.
        held: what the hidden file has.
        block: the size of a block.
    """

    total: int
    free: int
    held: int
    block: int = 4096

    @property
    def used(self) -> int:
        """What others than the hidden file have."""
        return self.total - self.free - self.held


def room(place: str) -> Room:
    """Return the room of the disk that is mounted at a place.

    Raises:
        KernelError: if it cannot be read.
    """
    try:
        found = os.statvfs(place)
        held = _size(Path(place, FILE))
    except OSError as error:
        raise KernelError(f"read the room of {place}", error.errno or errno.EIO) from error
    total = found.f_blocks - found.f_bfree + found.f_bavail
    return Room(total * found.f_frsize, found.f_bavail * found.f_frsize, held, found.f_frsize)


def _size(file: Path) -> int:
    try:
        # A file that has nothing yet is there nevertheless.
        return max(file.lstat().st_blocks * _UNIT, 1)
    except FileNotFoundError:
        return 0


def amount(asked: Mapping[str, Number], there: Room) -> int:
    """Return the bytes to hold back, in whole blocks, for a level and a size.

    Args:
        asked: ``fill``, the share of the disk that is to be in use, counted as ``df`` does; and
            ``size``, the bytes that are to be left of the disk, used and free. Either or both.
        there: the room of the disk.
    """
    bytes_back = max(
        math.floor(there.total * asked["fill"]) - there.used if "fill" in asked else 0,
        there.total - int(asked["size"]) if "size" in asked else 0,
    )
    return max(bytes_back, 0) // there.block * there.block


def fitting(asked: int, there: Room) -> int:
    """Return how much of what is to be held back there is room for."""
    return min(asked, there.held + there.free // there.block * there.block)


def is_near(size: int, other: int, block: int) -> bool:
    """Return whether two amounts are the same but for what no file system lets one choose."""
    return abs(size - other) <= _NEAR_BLOCKS * block


def hold(place: str, size: int) -> None:
    """Hold back some bytes of the disk that is mounted at a place; zero gives all back.

    Raises:
        KernelError: if the kernel refuses.
    """
    file = Path(place, FILE)
    try:
        if size:
            _allocate(file, size)
        else:
            file.unlink(missing_ok=True)
    except OSError as error:
        raise KernelError(f"hold back {size} bytes of {place}", error.errno or errno.EIO) from error


def _allocate(file: Path, size: int) -> None:
    opened = os.open(file, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        os.ftruncate(opened, min(size, os.fstat(opened).st_size))
        _extend(opened, size)
        # What the file system needs to know where the file's parts are counts as held back too.
        if (excess := os.fstat(opened).st_blocks * _UNIT - size) > 0:
            os.ftruncate(opened, size - excess)
    finally:
        os.close(opened)


def _extend(opened: int, size: int) -> None:
    # The kernel may refuse a large piece where smaller ones still find room.
    piece = size
    while (left := size - os.fstat(opened).st_size) > 0:
        piece = min(piece, left)
        try:
            os.posix_fallocate(opened, size - left, piece)
        except OSError as error:
            found = os.fstat(opened)
            # What it writes about the file's parts may be what does not fit any more.
            if error.errno == errno.ENOSPC and is_near(
                found.st_blocks * _UNIT, size, found.st_blksize
            ):
                return
            if error.errno != errno.ENOSPC or piece <= found.st_blksize:
                raise
            piece //= 2
            # What was given back a moment ago is free only when the journal has it.
            os.fsync(opened)
