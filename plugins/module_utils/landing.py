# SPDX-License-Identifier: GPL-3.0-or-later
"""Files that arrive on a node: whether there is room, whether they are whole, and their places."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .errors import CapabilityError, DisturbanceError

# Where files arrive, beside their places; nothing that ends so is taken for what it will be.
STAGE, PART = ".k3s-bundle.tmp", ".part"
_MARGIN = 2**20  # for what a file system needs beside the bytes of its files
_MEBIBYTE = 2**20


@dataclass(frozen=True, slots=True)
class Item:
    """A file of the controller, and where it belongs on the node.

    Attributes:
        kind: what it is, in one word.
        file: its path on the controller, from its folder.
        path: its path on the node.
        sha256: in small hexadecimal digits.
        size: in bytes.
        mode: the mode that it has on the node.
    """

    kind: str
    file: str
    path: Path
    sha256: str
    size: int
    mode: int

    @property
    def part(self) -> Path:
        """Where it arrives."""
        return self.path.parent / STAGE / f"{self.sha256}{PART}"

    def told(self) -> dict[str, Any]:
        """What is told of it."""
        told = {"kind": self.kind, "path": str(self.path)}
        return {**told, "sha256": self.sha256, "size": self.size}


def hash_of(path: Path) -> str:
    """Return a file's sha256."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_room(lacking: Iterable[Item], stages: Iterable[Path]) -> None:
    """Make sure that all that has to come finds room.

    Raises:
        CapabilityError: if it does not, with how much is needed and how much is there.
    """
    need: dict[int, int] = {}
    folders: dict[int, Path] = {}
    for item in lacking:
        there = _existing(item.path.parent)
        device = there.stat().st_dev
        need[device] = need.get(device, _MARGIN) + item.size
        folders.setdefault(device, there)
    for device, folder in folders.items():
        seen = os.statvfs(folder)
        free = seen.f_bavail * seen.f_frsize + _held(stages, device)
        if need[device] > free:
            raise CapabilityError(
                f"there is no room below {folder}: {-(-need[device] // _MEBIBYTE)} MiB are needed, "
                f"{free // _MEBIBYTE} MiB are free"
            )


def _existing(folder: Path) -> Path:
    return next(each for each in (folder, *folder.parents) if each.exists())


def _held(stages: Iterable[Path], device: int) -> int:
    """Return the bytes of what an earlier call has left on a device; it goes first."""
    files = [path.lstat() for stage in stages if stage.is_dir() for path in stage.iterdir()]
    return sum(each.st_blocks * 512 for each in files if each.st_dev == device)


def check_parts(lacking: Iterable[Item]) -> None:
    """Make sure that all that had to come has come, and is what it should be.

    Raises:
        DisturbanceError: if it is not; nothing is in its place then.
    """
    for item in lacking:
        if not item.part.is_file():
            raise DisturbanceError(f"{item.file} did not arrive on the node")
        found = hash_of(item.part)
        sync(item.part)
        if found != item.sha256:
            raise DisturbanceError(
                f"{item.file} arrived on the node with the sha256 {found}; "
                f"its lock says {item.sha256}"
            )


def write(path: Path, text: str) -> None:
    """Write a file all at once."""
    fresh = part_of(path)
    fresh.write_text(text)
    sync(fresh)
    fresh.replace(path)
    sync(path.parent)


def part_of(path: Path) -> Path:
    """Return where a file is written before it has its name."""
    return path.with_name(f"{path.name}{PART}")


def sync(path: Path) -> None:
    """Have a file, or a folder's names, on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def settle(item: Item) -> None:
    """Put what has arrived in its place, all at once."""
    item.part.chmod(item.mode)
    if os.geteuid() == 0:
        os.chown(item.part, 0, 0)
    item.part.replace(item.path)
    sync(item.path.parent)
