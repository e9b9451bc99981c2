# SPDX-License-Identifier: GPL-3.0-or-later
"""Leases: a layer without an end goes when nobody has renewed it for a while.

As long as someone listens who asked for it, leases are renewed at half their time, so whoever
stops listening, however that came about, leaves them at least half of it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from . import syscalls
from .ledger import Armed, Book, Lease, lease_record
from .loop import Loop, Timer
from .times import number

Body = dict[str, Any]
Heal = Callable[[str, str, float, Callable[[bool], None]], None]
TRIES = 60
_PAUSE = 1.0
_SHORTEST = 0.01


class Leases:
    """The leases of a testbed's layers, and of timelines that were armed and never began."""

    def __init__(
        self,
        book: Book,
        loop: Loop,
        is_renewing: Callable[[], bool],
        heal: Heal,
        is_there: Callable[[str, str], bool],
    ) -> None:
        """See to the leases in book.

        Args:
            book: where they are written.
            loop: where to wait.
            is_renewing: says whether anybody is there who renews them all.
            heal: takes a layer off a node, as was due at a time, and says later if it is gone.
            is_there: says whether a node still has a layer, in any kind.
        """
        self._book = book
        self._loop = loop
        self._is_renewing = is_renewing
        self._heal = heal
        self._is_there = is_there
        self._timer: Timer | None = None
        self._tries: dict[tuple[str, str], int] = {}
        self._healing: set[tuple[str, str]] = set()

    def set(self, node: str, request: Body) -> Body:
        """Let a layer stay on a node for some seconds from now; None is for as long as it likes."""
        seconds = request["seconds"]
        if seconds is not None:
            seconds = number("lease", seconds, _SHORTEST)
        ends = None if seconds is None else syscalls.monotonic() + seconds
        self._book.note(lease_record(node, str(request["layer"]), seconds, ends))
        self.mind()
        return {}

    def drop(self, request: Body) -> Body:
        """Forget the leases of what is no longer on a node: of one layer, or (None) of all."""
        node, layer = str(request["node"]), request["layer"]
        gone = [
            {"do": "unlease", "node": node, "layer": key[1]}
            for key in self._book.leases
            if key[0] == node and layer in (None, key[1]) and not self._is_there(*key)
        ]
        self._book.note(*gone)
        return {}

    def listing(self) -> Body:
        """Return all leases."""
        return {
            "leases": [
                {"node": node, "layer": layer, "seconds": lease.seconds, "ends": lease.ends}
                for (node, layer), lease in self._book.leases.items()
            ]
        }

    def mind(self) -> None:
        """Look at the leases again when the first of them wants it."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        now = syscalls.monotonic()
        leases = [each for key, each in self._book.leases.items() if key not in self._healing]
        held: list[Lease | Armed] = [*leases, *self._book.armed.values()]
        due = min((when for each in held if (when := _due(each, now)) is not None), default=None)
        if due is not None:
            self._timer = self._loop.at(due, self._look)

    def _look(self) -> None:
        self._timer = None
        now = syscalls.monotonic()
        renewing = self._is_renewing()
        for key, lease in list(self._book.leases.items()):
            self._see_to(key, lease, now, renewing)
        for name, armed in list(self._book.armed.items()):
            self._see_to_armed(name, armed, now, renewing)
        self.mind()

    def _see_to(self, key: tuple[str, str], lease: Lease, now: float, renewing: bool) -> None:
        if lease.seconds is None or lease.ends is None or key in self._healing:
            return
        if renewing and lease.ends - now <= lease.seconds / 2:
            self._book.settle(lease_record(*key, lease.seconds, now + lease.seconds))
        elif lease.ends <= now:
            self._healing.add(key)
            ended = lease.ends
            self._heal(*key, ended, lambda healed: self._healed(key, ended, healed))

    def _healed(self, key: tuple[str, str], ended: float, healed: bool) -> None:
        """Forget a lease whose layer is gone, or try again for a while."""
        self._healing.discard(key)
        lease, tries = self._book.leases.get(key), self._tries.pop(key, 0)
        if lease is None or lease.ends != ended:
            return  # It was set anew in the meantime.
        if healed or tries >= TRIES:
            self._book.settle({"do": "unlease", "node": key[0], "layer": key[1]})
        else:
            self._tries[key] = tries + 1
            lease.ends = syscalls.monotonic() + _PAUSE
        self.mind()

    def _see_to_armed(self, name: str, armed: Armed, now: float, renewing: bool) -> None:
        if armed.seconds is None or armed.ends is None:
            return
        if renewing and armed.ends - now <= armed.seconds / 2:
            fresh = {"seconds": armed.seconds, "ends": now + armed.seconds}
            self._book.settle({"do": "keep", "timeline": name, **fresh})
        elif armed.ends <= now:
            self._book.settle({"do": "disarm", "timeline": name})


def _due(held: Lease | Armed, now: float) -> float | None:
    """Return when to look at a lease: at half of it, to renew it, and at its end."""
    if held.seconds is None or held.ends is None:
        return None
    half = held.ends - held.seconds / 2
    return half if half > now else held.ends
