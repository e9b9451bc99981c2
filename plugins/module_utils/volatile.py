# SPDX-License-Identifier: GPL-3.0-or-later
"""What a node holds in memory and loses when it is switched off: its own temporary file systems.

What it wrote elsewhere stands for its system disk and stays; so does its folder /run/pkgctl, which
is the testbed's and not the node's.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from .errors import CapabilityError

FOLDERS = ("/tmp", "/run", "/dev/shm")
_MOUNTS = Path("/proc/self/mounts")
# The root of a local node is an overlay whose upper part was put together here.
_SCRATCH = "upperdir=/run/pkgctl/"


def check_apart() -> None:
    """Refuse a caller that sees the machine's own files, which no node may lose.

    Raises:
        CapabilityError: if so.
    """
    if not _is_local_node(_MOUNTS.read_text()):
        raise CapabilityError(
            "this node is a machine of its own: whoever made it has to pause, stop or crash it"
        )


def _is_local_node(mounts: str) -> bool:
    roots = [line.split(" ") for line in mounts.splitlines() if line.split(" ")[1] == "/"]
    return bool(roots) and any(option.startswith(_SCRATCH) for option in roots[-1][3].split(","))


def held() -> list[str]:
    """Return the folders that hold anything that would be lost."""
    return [folder for folder in FOLDERS if any(leftovers(Path(folder)))]


def lose() -> None:
    """Empty the node's memory.

    Raises:
        CapabilityError: if the caller is in no mount namespace of a node's.
    """
    check_apart()
    for folder in FOLDERS:
        for place in list(leftovers(Path(folder))):
            _remove(place)


def leftovers(folder: Path) -> Iterator[Path]:
    """Yield all below a folder that is its own, the deepest first.

    Not yielded is what is mounted there and below, and what leads to it.
    """
    if folder.is_dir():
        yield from _below(folder, folder.lstat().st_dev, _mounted(_MOUNTS.read_text()))


def _below(folder: Path, device: int, mounted: frozenset[str]) -> Iterator[Path]:
    with os.scandir(folder) as entries:
        found = [Path(entry.path) for entry in entries]
    for place in found:
        if str(place) in mounted or place.lstat().st_dev != device:
            continue
        if place.is_dir() and not place.is_symlink():
            yield from _below(place, device, mounted)
        if not any(each.startswith(f"{place}/") for each in mounted):
            yield place


def _mounted(mounts: str) -> frozenset[str]:
    places = (line.split(" ")[1] for line in mounts.splitlines())
    return frozenset(place.replace("\\040", " ") for place in places)


def _remove(place: Path) -> None:
    with suppress(FileNotFoundError):
        if place.is_dir() and not place.is_symlink():
            place.rmdir()
        else:
            place.unlink()
