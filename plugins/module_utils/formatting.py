# SPDX-License-Identifier: GPL-3.0-or-later
"""Giving a blank disk a file system, and never any other.

Blank is a disk with nothing but zeros: of a large one, at both ends and in 256 places between. One
that we were making a file system on when somebody stopped us is not blank any more: a note beside
the disk, written before the first byte is, holds the identity of that file system. It is made anew
if the disk has that one or nothing that anybody knows.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import uuid
from pathlib import Path

from .errors import CapabilityError, DisturbanceError

EXT, BLANK = "ext", "nothing"
_UNKNOWN = "data of a kind that is not known"
# No room kept for root; tables that are zero anyway are not written.
OPTIONS = ("-t", "ext4", "-m", "0", "-E", "lazy_itable_init=1,lazy_journal_init=1,nodiscard")
# Read at once, and of a large disk so many times.
_PART, _PARTS = 1 << 20, 256
_EXT_MAGIC, _EXT_UUID = 1080, 1128
_SIGNATURES = (
    (_EXT_MAGIC, b"\x53\xef", EXT),
    (0, b"XFSB", "an XFS file system"),
    (0, b"LUKS\xba\xbe", "an encrypted volume (LUKS)"),
    (0, b"hsqs", "a squashfs file system"),
    (0, b"QFI\xfb", "a disk image (qcow2)"),
    (3, b"NTFS    ", "an NTFS file system"),
    (82, b"FAT32", "a FAT file system"),
    (512, b"EFI PART", "a partition table (GPT)"),
    (512, b"LABELONE", "a volume of LVM"),
    (1024, b"\x10\x20\xf5\xf2", "an F2FS file system"),
    (4086, b"SWAPSPACE2", "swap space"),
    (4096, b"\xfc\x4e\x2b\xa9", "a part of a RAID"),
    (32769, b"CD001", "an ISO 9660 file system"),
    (65600, b"_BHRfS_M", "a btrfs file system"),
    (510, b"\x55\xaa", "a partition table"),
)


def content(device: str) -> str:
    """Return what a disk holds: EXT, BLANK, or in words what else.

    Raises:
        DisturbanceError: if it cannot be read.
    """
    try:
        with Path(device).open("rb", buffering=0) as opened:
            size = opened.seek(0, os.SEEK_END)
            head = os.pread(opened.fileno(), _PART, 0)
            for at, magic, name in _SIGNATURES:
                if head[at : at + len(magic)] == magic:
                    return name
            return BLANK if _is_blank(opened.fileno(), size) else _UNKNOWN
    except OSError as error:
        raise DisturbanceError(f"{device} cannot be read: {error.strerror}") from error


def _is_blank(opened: int, size: int) -> bool:
    step = max(size // _PARTS, _PART)
    places = [*range(0, size, step), max(size - _PART, 0)]
    return all(_is_zero(os.pread(opened, _PART, at)) for at in places)


def _is_zero(data: bytes) -> bool:
    return data.count(0) == len(data)


def ensure(device: str, note: Path) -> None:
    """Have an ext4 on a disk that nobody uses: the one that is there, or a new one if it is blank.

    Args:
        device: the disk.
        note: the file that remembers a file system in the making.

    Raises:
        DisturbanceError: if it holds anything else, which stays as it is.
        CapabilityError: if mke2fs is not there.
    """
    found, begun = content(device), _begun(note)
    half_made = bool(begun) and (found == _UNKNOWN or (found == EXT and _identity(device) == begun))
    if found == BLANK or half_made:
        own = begun or str(uuid.uuid4())
        _note(note, own)
        make(device, "-U", own, *(["-F"] if half_made else []))
    elif found != EXT:
        raise DisturbanceError(
            f"{device} holds {found}, no ext4, and is left as it is; if it may go, wipe it with"
            f" `dd if=/dev/zero of={device}`"
        )
    note.unlink(missing_ok=True)


def _begun(note: Path) -> str:
    try:
        return note.read_text().strip()
    except OSError:
        return ""


def _note(note: Path, identity: str) -> None:
    note.parent.mkdir(parents=True, exist_ok=True)
    with note.open("w") as opened:
        opened.write(f"{identity}\n")
        opened.flush()
        os.fsync(opened.fileno())


def _identity(device: str) -> str:
    with Path(device).open("rb", buffering=0) as opened:
        return str(uuid.UUID(bytes=os.pread(opened.fileno(), 16, _EXT_UUID)))


def make(device: str, *options: str) -> None:
    """Make an ext4 on a disk, or an image, whatever it holds.

    Raises:
        CapabilityError: if mke2fs is not there.
        DisturbanceError: if it fails.
    """
    tool = shutil.which("mke2fs") or shutil.which("mke2fs", path="/usr/sbin:/sbin")
    if tool is None:
        raise CapabilityError("data disks need mke2fs: apt-get install e2fsprogs")
    run = subprocess.run(
        [tool, "-q", *options, *OPTIONS, device],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if run.returncode:
        said = " ".join((run.stderr.strip() or run.stdout.strip()).split())
        raise DisturbanceError(f"mke2fs could not make a file system on {device}: {said}")
