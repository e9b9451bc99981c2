# SPDX-License-Identifier: GPL-3.0-or-later
"""A socket on which a service says that it is ready, in the words of sd_notify.

The service has it open too, without knowing: what it says while no agent runs waits in there for
the next one, which takes it over.
"""

from __future__ import annotations

import fcntl
import os
import socket
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from . import syscalls
from .errors import KernelError
from .loop import Loop

READY = "READY=1"
# Beyond what a process that is about to become a service closes.
_HIGH = 256


class Notices:
    """Listens for one service."""

    def __init__(self, loop: Loop, found: socket.socket, ready: Callable[[], None]) -> None:
        """Call ready when a word of that comes to a socket, which is closed with this."""
        self._loop = loop
        self._ready = ready
        self._socket = found
        found.setblocking(False)
        loop.watch(found.fileno(), self._heard)

    @property
    def inode(self) -> int:
        """By what the socket is known to whoever has it open."""
        return os.fstat(self._socket.fileno()).st_ino

    def copy(self) -> int:
        """Return a descriptor of the socket for the service, to be closed once that has it."""
        return fcntl.fcntl(self._socket.fileno(), fcntl.F_DUPFD_CLOEXEC, _HIGH)

    def close(self) -> None:
        """Listen no more."""
        self._loop.forget(self._socket.fileno())
        self._socket.close()

    def _heard(self, _: int) -> None:
        try:
            words = self._socket.recv(4096).decode(errors="replace").splitlines()
        except BlockingIOError:
            return
        if READY in words:
            self._ready()


def bound(place: Path) -> socket.socket:
    """Return a socket at a place, where anyone may send; what was there goes.

    Raises:
        OSError: if there can be none.
    """
    server = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
    # The whole path may be longer than an address can be.
    folder = os.open(place.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        near = f"/proc/self/fd/{folder}/{place.name}"
        place.unlink(missing_ok=True)
        server.bind(near)
        Path(near).chmod(0o666)
    except OSError:
        server.close()
        raise
    finally:
        os.close(folder)
    return server


def held(pid: int, inode: int) -> socket.socket | None:
    """Return the socket of an inode that a process has open; None if it has not."""
    entries: list[Path] = []
    with suppress(OSError):
        entries += Path(f"/proc/{pid}/fd").iterdir()
    for entry in entries:
        # Whatever it has open it may close meanwhile.
        with suppress(OSError, KernelError):
            if str(entry.readlink()) == f"socket:[{inode}]":
                return socket.socket(fileno=syscalls.take_over(pid, int(entry.name)))
    return None
