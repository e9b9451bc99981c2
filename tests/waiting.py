# SPDX-License-Identifier: GPL-3.0-or-later
"""Waiting for what takes its time on a busy machine."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

from pkgctl.errors import ClusterError

PATIENCE = 240.0
_T = TypeVar("_T")


def soon(there: Callable[[], _T], patience: float = PATIENCE, pause: float = 0.2) -> _T:
    """Return what is there once it is true, or what is there when patience ends.

    To ask may fail until then: a command that ends badly, or not in time; an API that says no.
    """
    end = time.monotonic() + patience
    while time.monotonic() < end:
        with suppress(AssertionError, subprocess.TimeoutExpired, ClusterError):
            if found := there():
                return found
        time.sleep(pause)
    return there()
