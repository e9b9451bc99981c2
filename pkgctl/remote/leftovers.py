# SPDX-License-Identifier: GPL-3.0-or-later
"""What a Pulumi that was killed left on this machine: its lock, and the helpers it had started.

Pulumi is started in a session of its own, so its helpers are those in the session of its number.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from pkgctl.errors import TestbedError
from pkgctl.remote.places import Places

_LOCKS = Path(".pulumi", "locks")
_ORPHAN_SECONDS = 60.0
_GRACE_SECONDS = 5.0
_PAUSE = 0.1
_PROC = Path("/proc")


def clear(places: Places, patience: float = _ORPHAN_SECONDS) -> bool:
    """Remove the locks that were left in the backend; return whether there were any.

    One whose owner still runs was left by a `pkgctl` that was killed, and is waited for.

    Raises:
        TestbedError: if the owner does not end, or runs on another machine.
    """
    deadline = time.monotonic() + patience
    found = sorted((places.backend / _LOCKS).rglob("*.json"))
    for path in found:
        owner = _owner(path)
        while _is_running(owner):
            if time.monotonic() > deadline:
                raise TestbedError(
                    f"testbed {places.name!r} is being changed by pulumi, process"
                    f" {owner.get('pid')} on {owner.get('hostname')}; wait for it or end it"
                )
            time.sleep(_PAUSE)
        if owner.get("pid"):
            end_helpers(int(owner["pid"]))
        path.unlink(missing_ok=True)
    return bool(found)


def _owner(path: Path) -> Mapping[str, Any]:
    try:
        found: Mapping[str, Any] = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return found


def _is_running(owner: Mapping[str, Any]) -> bool:
    """Return whether the process that a lock names still is that one, as far as can be known."""
    if not owner.get("pid"):
        return False
    if owner.get("hostname") != socket.gethostname():
        return True
    state, _ = _status(int(owner["pid"]))
    with suppress(OSError):
        name = (_PROC / str(owner["pid"]) / "comm").read_text()
        return state not in ("", "Z") and name.startswith("pulumi")
    return False


def _status(pid: int) -> tuple[str, int]:
    """Return a process's state and session; nothing if it is gone."""
    try:
        words = (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return "", 0
    return words[0], int(words[3])


def end_helpers(session: int, patience: float = _GRACE_SECONDS) -> None:
    """End what is left of a session of Pulumi's; asked first, and then killed."""
    deadline = time.monotonic() + patience
    told = signal.SIGTERM
    while found := list(_helpers(session)):
        for pid in found:
            with suppress(ProcessLookupError):
                os.kill(pid, told)
        time.sleep(_PAUSE)
        if time.monotonic() > deadline:
            told = signal.SIGKILL


def _helpers(session: int) -> Iterator[int]:
    for path in _PROC.glob("[0-9]*/cmdline"):
        with suppress(OSError):
            state, its = _status(int(path.parent.name))
            if its == session and state != "Z" and b"pulumi" in path.read_bytes():
                yield int(path.parent.name)
