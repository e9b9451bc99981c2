# SPDX-License-Identifier: GPL-3.0-or-later
"""The kernel ends this process at a time, unless it is told a later one, or none, before.

A process that was stopped may go on at any point of its code, also right between a look at the
clock and the request that the look allowed. One that is killed in its sleep does not go on at all.
"""

from __future__ import annotations

import ctypes
import os
import signal
import time
from typing import ClassVar

_ABSOLUTE = 1
_BILLION = 10**9


class _Event(ctypes.Structure):
    """What a timer does when it is due: ``struct sigevent``."""

    _fields_: ClassVar = [
        ("value", ctypes.c_void_p),
        ("signal", ctypes.c_int),
        ("notify", ctypes.c_int),  # 0: by a signal
        ("rest", ctypes.c_char * 48),
    ]


class _Setting(ctypes.Structure):
    """When a timer is due: ``struct itimerspec``."""

    _fields_: ClassVar = [(name, ctypes.c_long) for name in ("every", "every_ns", "at", "at_ns")]


class Fuse:
    """A timer of the kernel's that kills this process, on CLOCK_BOOTTIME."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._timer = ctypes.c_void_p()
        event = _Event(signal=signal.SIGKILL)
        timer = ctypes.byref(self._timer)
        self._call("timer_create", time.CLOCK_BOOTTIME, ctypes.byref(event), timer)

    def burn_until(self, moment: float) -> None:
        """Have the process killed at a moment, instead of any that was named before."""
        self._set(max(1, int(moment * _BILLION)))

    def put_out(self) -> None:
        """Have it live on."""
        self._set(0)

    def _set(self, nanoseconds: int) -> None:
        at, at_ns = divmod(nanoseconds, _BILLION)
        setting = _Setting(at=at, at_ns=at_ns)
        self._call("timer_settime", self._timer, _ABSOLUTE, ctypes.byref(setting), None)

    def _call(self, name: str, *arguments: object) -> None:
        if getattr(self._libc, name)(*arguments) != 0:
            number = ctypes.get_errno()
            raise OSError(number, f"{name}: {os.strerror(number)}")
