# SPDX-License-Identifier: GPL-3.0-or-later
"""Which pairs of addresses the kernel queues for the delay line: its sets, changed in place."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping

from . import nftables
from .errors import KernelError
from .netlink import Message, Socket
from .nftables import DELAYING

# Of these pairs the delay line gets the start of each packet, or each frame whole.
STARTS, WHOLE = "delayed", "copied"
# A listing of the kernel's sets serves whoever asks within this time.
_FRESH = 0.1


def by_end(keys: Iterable[bytes]) -> dict[bytes, list[bytes]]:
    """Return pairs by the address to which they lead."""
    found: dict[bytes, list[bytes]] = {}
    for key in keys:
        found.setdefault(key[len(key) // 2 :], []).append(key)
    return found


class PairSets:
    """The kernel's sets of one network namespace, and what we know to be in them."""

    def __init__(self, socket: Socket) -> None:
        """Find the table of the socket's network namespace, or make it, and read what is in it.

        Raises:
            DisturbanceError: if a table of that name is not ours.
            CapabilityError: if the kernel cannot queue packets.
        """
        self._socket = socket
        self._members: dict[bytes, str] = {}
        self._by_end: Mapping[bytes, list[bytes]] | None = None
        self._read_at = 0.0
        self._read()

    def _read(self) -> None:
        if not nftables.exists(self._socket, DELAYING):
            nftables.make_delaying_table(self._socket)
        self._members = {
            key: name
            for name in (WHOLE, STARTS)
            for part in nftables.by_family(name, ())
            for key in nftables.keys(self._socket, DELAYING, part, 32 if part[-1] == "6" else 8)
        }
        self._by_end = None
        self._read_at = time.monotonic()

    def members(self) -> Mapping[bytes, str]:
        """Return the set of each pair that the kernel queues, as of a moment ago at most."""
        if time.monotonic() > self._read_at + _FRESH:
            self._read()
        return self._members

    def toward(self, ends: Iterable[bytes]) -> dict[bytes, str]:
        """Return those members that lead to some addresses."""
        members = self.members()
        if self._by_end is None:
            self._by_end = by_end(members)
        keys = [key for end in ends for key in self._by_end.get(end, ())]
        return {key: members[key] for key in keys}

    def change(self, wanted: Mapping[bytes, str | None]) -> None:
        """Have pairs in the sets that are named, or in none; all at once, others stay.

        Raises:
            KernelError: if the kernel refuses; then nothing has changed.
        """
        try:
            nftables.send(self._socket, self._messages(wanted))
        except KernelError:
            # Somebody else changed the sets: see what is there, and try once more.
            self._read()
            nftables.send(self._socket, self._messages(wanted))
        self._by_end = None
        for key, name in wanted.items():
            if name is None:
                self._members.pop(key, None)
            else:
                self._members[key] = name

    def _messages(self, wanted: Mapping[bytes, str | None]) -> list[Message]:
        gone: dict[str, list[bytes]] = {STARTS: [], WHOLE: []}
        fresh: dict[str, list[bytes]] = {STARTS: [], WHOLE: []}
        for key, name in wanted.items():
            present = self._members.get(key)
            if present == name:
                continue
            if present is not None:
                gone[present].append(key)
            if name is not None:
                fresh[name].append(key)
        return [
            message
            for make, parts in ((nftables.delete_elements, gone), (nftables.add_elements, fresh))
            for name, keys in parts.items()
            for part, own in nftables.by_family(name, keys).items()
            for message in make(DELAYING, part, own)
        ]
