# SPDX-License-Identifier: GPL-3.0-or-later
"""An alarm with nanoseconds, as a descriptor to wait on."""

from __future__ import annotations

import ctypes
import os
import struct
import time
from contextlib import suppress

from .errors import KernelError

_ABSOLUTE = 1
_FAR = 1 << 62

_libc = ctypes.CDLL(None, use_errno=True)


class Alarm:
    """A time of CLOCK_MONOTONIC to be woken at (timerfd)."""

    def __init__(self) -> None:
        """Make the alarm, unset.

        Raises:
            KernelError: if the kernel refuses.
        """
        flags = os.O_CLOEXEC | os.O_NONBLOCK
        self.descriptor: int = _libc.timerfd_create(time.CLOCK_MONOTONIC, flags)
        if self.descriptor < 0:
            raise KernelError("make an alarm", ctypes.get_errno())
        self._due = 0

    def set(self, due: int) -> None:
        """Go off at due nanoseconds; 0 never."""
        if due == self._due:
            return
        self._due = due
        seconds, rest = divmod(min(due, _FAR), 1_000_000_000)
        value = struct.pack("=qqqq", 0, 0, seconds, rest)
        _libc.timerfd_settime(self.descriptor, _ABSOLUTE, value, None)

    def clear(self) -> None:
        """Take note that the alarm went off."""
        self._due = 0
        with suppress(BlockingIOError):
            os.read(self.descriptor, 8)

    def close(self) -> None:
        """Let the alarm go."""
        os.close(self.descriptor)
