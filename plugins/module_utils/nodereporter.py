# SPDX-License-Identifier: GPL-3.0-or-later
"""The process that keeps a node's object in Kubernetes to what the node has: capacity and disks.

It looks at the node itself and not at who changed it, so layers of playbooks, timelines and leases
are told alike, and so is a disk that failed by itself. What the API has is read before anything is
said, so nothing is lost with a node's object that was made anew, and nothing is said twice.
"""

from __future__ import annotations

import fcntl
import os
import select
import socket
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol, TypeVar

from . import (
    condition,
    diskmodel,
    disks,
    filling,
    identity,
    layers,
    mounting,
    nodestatus,
    quotas,
    syscalls,
)
from .errors import DisturbanceError
from .identity import Disk, Identity
from .nodeapi import OwnNode
from .nodestatus import Having

# How often it is looked whether a layer or a mount changed, which is seldom.
TICK_SECONDS = 0.5
# How often all is looked at: disks fill up, and Kubernetes forgets, without telling anyone.
CHECK_SECONDS = 10.0
# No two questions follow each other faster, whatever changes.
APART_SECONDS = 1.0
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 15.0
_STORES = (quotas.STORE, disks.STORE)
_MOUNTS = "/proc/self/mountinfo"
_ODD = (DisturbanceError, OSError, ValueError, TypeError, AttributeError, KeyError)
_Found = TypeVar("_Found")


class Said:
    """Says what goes wrong in one line, and not again while it stays the same."""

    def __init__(self) -> None:
        """Have said nothing."""
        self._last: dict[str, str] = {}

    def __call__(self, theme: str, text: str) -> None:
        """Say a line on a theme; an empty one is that all is well again."""
        if text and self._last.get(theme) != text:
            print(text, file=sys.stderr, flush=True)
        self._last[theme] = text


# What there is.


def look(directory: Path, say: Callable[[str, str], None]) -> Having:
    """Return what the node has whose folder is given; what cannot be read is left out, and said.

    Raises:
        NodeError: if this is no node.
    """
    node = identity.load(directory / "node.json")
    return Having(
        _attempt("capacity", lambda: _resources(node), say) or {},
        _attempt("disks", lambda: nodestatus.finding(_troubles(node)), say),
    )


def _attempt(
    theme: str, find: Callable[[], _Found], say: Callable[[str, str], None]
) -> _Found | None:
    try:
        found = find()
    except _ODD as error:
        say(theme, f"{theme}: {error}")
        return None
    say(theme, "")
    return found


def _resources(node: Identity) -> dict[str, str]:
    limits = quotas.composed(layers.load(Path(node.directory, quotas.STORE)))
    return nodestatus.resources(limits, node.cpu, node.memory)


def _troubles(node: Identity) -> dict[str, str]:
    stored = layers.load(Path(node.directory, disks.STORE))
    asked = diskmodel.composed(stored, node.disks, condition.load(node.directory))
    return {
        name: _trouble(node.disks[name], seen.condition, asked[name].condition)
        for name, seen in mounting.look(node.disks).items()
    }


def _trouble(disk: Disk, found: str, asked: str) -> str:
    try:
        room = filling.room(disk.mount) if found == mounting.MOUNTED else None
    except DisturbanceError:
        return mounting.DEAD
    return nodestatus.trouble(found, asked, room)


class Signs:
    """Whether anything may have changed on the node, found out at little cost."""

    def __init__(self, directory: Path, mounts: str = _MOUNTS) -> None:
        """Mind the stores of layers in a folder, and the table of mounts."""
        self._stores = [directory / name for name in _STORES]
        self._stamps = [layers.stamp(path) for path in self._stores]
        self._pending = False
        self._mounts = os.open(mounts, os.O_RDONLY | os.O_CLOEXEC)
        self._poll = select.poll()
        # The kernel tells of another table of mounts as of urgent data.
        self._poll.register(self._mounts, select.POLLPRI)
        self._poll.poll(0)

    def changed(self) -> bool:
        """Return whether something changed, once whoever changes it has done so."""
        stamps = [layers.stamp(path) for path in self._stores]
        moved = bool(self._poll.poll(0))
        self._pending = self._pending or moved or stamps != self._stamps
        self._stamps = stamps
        if not self._pending or any(_is_held(path) for path in self._stores):
            return False
        self._pending = False
        return True


def _is_held(store: Path) -> bool:
    """Return whether a store is being changed: its layers are written before they hold."""
    with suppress(OSError), store.with_suffix(".lock").open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


# What is said of it.


class Api(Protocol):
    """A node's object."""

    def get(self) -> dict[str, Any]:
        """Return it."""

    def patch_status(self, body: dict[str, Any]) -> None:
        """Change its status."""


class Reporter:
    """Tells the API what the node has, when that changed and now and then."""

    def __init__(
        self,
        api: Api,
        find: Callable[[], Having],
        say: Callable[[str, str], None],
        ready: Callable[[], None],
    ) -> None:
        """Prepare it.

        Args:
            api: the node's object.
            find: returns what the node has.
            say: is told what goes wrong, by theme.
            ready: is called when the API was told for the first time.
        """
        self._api, self._find, self._say = api, find, say
        self._ready: Callable[[], None] | None = ready
        self._told: Having | None = None
        self._due, self._earliest = 0.0, 0.0
        self._changed = False
        self._pause = FIRST_PAUSE

    def turn(self, now: float, *, changed: bool) -> None:
        """Look and tell, if it is time or something changed.

        Args:
            now: a clock that only goes on, in seconds.
            changed: whether something may have changed since the last turn.
        """
        self._changed = self._changed or changed
        if now < self._earliest or not (self._changed or now >= self._due):
            return
        self._changed = False
        try:
            having = self._find()
            if now < self._due and having == self._told:
                return
            self._tell(having)
        except DisturbanceError as error:
            self._say("api", str(error))
            self._told, self._due = None, now + self._pause
            self._pause = min(2 * self._pause, LONGEST_PAUSE)
        else:
            self._say("api", "")
            self._told, self._due, self._pause = having, now + CHECK_SECONDS, FIRST_PAUSE
        self._earliest = now + APART_SECONDS

    def _tell(self, having: Having) -> None:
        body = nodestatus.patch(self._api.get(), having, time.time())
        if body is not None:
            self._api.patch_status(body)
        if self._ready is not None:
            self._ready()
            self._ready = None


def notify() -> None:
    """Say to whoever keeps this running that it is ready."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if address.startswith("@"):
        address = f"\0{address[1:]}"
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told:
        told.sendto(b"READY=1", address)


def main() -> None:
    """Report on this node by the kubeconfig that the first argument names, until a signal ends it.

    There is nothing to be done at the end, so SIGTERM does what it does by itself.
    """
    directory, say = Path(identity.DIRECTORY), Said()
    try:
        name = identity.load(directory / "node.json").name
    except DisturbanceError as error:
        sys.exit(str(error))
    api, signs = OwnNode(Path(sys.argv[1]), name), Signs(directory)
    reporter = Reporter(api, lambda: look(directory, say), say, notify)
    while True:
        reporter.turn(syscalls.monotonic(), changed=signs.changed())
        time.sleep(TICK_SECONDS)


if __name__ == "__main__":
    main()
