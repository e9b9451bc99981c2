# SPDX-License-Identifier: GPL-3.0-or-later
"""The archive that a kernel unpacks at its start: cpio ``newc``, the same every time."""

from __future__ import annotations

import stat
from collections.abc import Iterable
from dataclasses import dataclass

_MAGIC = "070701"
_END = "TRAILER!!!"


@dataclass(frozen=True)
class Entry:
    """One file, folder or device of the archive, owned by root.

    Attributes:
        mode: its type and permissions, as in ``st_mode``.
        device: major and minor number, of a device.
    """

    name: str
    mode: int
    content: bytes = b""
    device: tuple[int, int] = (0, 0)


def folder(name: str) -> Entry:
    """Return a folder that everybody may read."""
    return Entry(name, stat.S_IFDIR | 0o755)


def program(name: str, content: bytes) -> Entry:
    """Return a file that can be executed."""
    return Entry(name, stat.S_IFREG | 0o755, content)


def file(name: str, content: bytes) -> Entry:
    """Return a file of data."""
    return Entry(name, stat.S_IFREG | 0o644, content)


def link(name: str, target: str) -> Entry:
    """Return a symbolic link."""
    return Entry(name, stat.S_IFLNK | 0o777, target.encode())


def character_device(name: str, major: int, minor: int) -> Entry:
    """Return a device of characters, for root alone."""
    return Entry(name, stat.S_IFCHR | 0o600, device=(major, minor))


def archive(entries: Iterable[Entry]) -> bytes:
    """Return the archive of some entries, each folder before what is in it."""
    numbered = enumerate([*entries, Entry(_END, 0)], start=1)
    return b"".join(_record(number, entry) for number, entry in numbered)


def _record(number: int, entry: Entry) -> bytes:
    name = entry.name.encode() + b"\0"
    links = 2 if stat.S_ISDIR(entry.mode) else 1
    fields = (
        number,
        entry.mode,
        *(0, 0),  # root's
        links,
        0,  # no time: the same archive from the same content
        len(entry.content),
        *(0, 0),
        *entry.device,
        len(name),
        0,
    )
    head = _MAGIC.encode() + b"".join(b"%08X" % field for field in fields) + name
    return _padded(head) + _padded(entry.content)


def _padded(content: bytes) -> bytes:
    return content + bytes(-len(content) % 4)
