# SPDX-License-Identifier: GPL-3.0-or-later
"""What every change of a local testbed shares: rights, a lock, words for errors, an outcome."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from pkgctl.errors import MissingCapability, TestbedError
from pkgctl.local.paths import RUN
from pkgctl.nodeside import errors as node_errors


@dataclass(frozen=True, slots=True)
class Outcome:
    """What `up` or `down` did.

    Attributes:
        changed: whether it did anything.
        lines: what, a fact a line.
        warnings: what the user should know, a sentence each.
        seconds: how long it took.
    """

    changed: bool
    lines: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    seconds: float = 0.0


def require_root() -> None:
    """Refuse to go on without the rights that namespaces and control groups need.

    Raises:
        MissingCapability: if the caller is not root.
    """
    if os.geteuid() != 0:
        raise MissingCapability("a local testbed needs root: run it with sudo")


@contextmanager
def locked(patience: float = 30.0) -> Iterator[None]:
    """Hold all testbeds of this machine against another `up` or `down`.

    Raises:
        TestbedError: if somebody else holds them for longer than patience, in seconds.
    """
    deadline = time.monotonic() + patience
    while (held := _try_lock()) is None:
        if time.monotonic() > deadline:
            raise TestbedError("another command is changing a testbed and does not end")
        time.sleep(0.02)
    try:
        yield
    finally:
        with suppress(OSError):
            RUN.rmdir()
        os.close(held)


def _try_lock() -> int | None:
    """Return a locked descriptor of the folder of all testbeds; None if it is taken or gone."""
    RUN.mkdir(parents=True, exist_ok=True, mode=0o700)
    held = os.open(RUN, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(held).st_ino == RUN.stat().st_ino:
            return held
    except (BlockingIOError, FileNotFoundError):
        pass
    os.close(held)
    return None


@contextmanager
def explained() -> Iterator[None]:
    """Turn what the node side reports into what the user is told."""
    try:
        yield
    except node_errors.CapabilityError as error:
        raise MissingCapability(f"{error}; `pkgctl doctor` says what else is missing") from error
    except node_errors.DisturbanceError as error:
        raise TestbedError(str(error)) from error
