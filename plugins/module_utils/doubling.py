# SPDX-License-Identifier: GPL-3.0-or-later
"""Packets doubled on their way to some peers, where netem impairs links; messages and their reader.

Recent kernels refuse a netem that doubles packets as soon as there is another one on the interface
(CVE-2025-38553). So nftables doubles them before they come to netem, and a double is delayed or
lost by itself. A table of each family has one rule for each address; it is made anew as a whole.

Formats: linux/netfilter/nf_tables.h.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping

from . import nftables
from .netlink import Message, Socket, attribute, attribute_list, attributes, be32, nested

TABLE = "pkgctl-double"
_CHAIN = "doubled"
_POSTROUTING, _AFTER_CLASS = 4, 1
_ALL = 0xFFFFFFFF
_GETRULE = 7
_EQUAL, _LESS = 0, 2
_RANDOM, _TO_NETWORK = 1, 1

# By packed address, how many of 4,294,967,295 packets there are doubled.
Doubles = Mapping[bytes, int]


def threshold(share: float) -> int:
    """Return what a share of packets to be doubled is of all."""
    return round(share * _ALL)


def show(number: int) -> str:
    """Return as text what is doubled."""
    return f"{number / _ALL:.4%} doubled"


def change(now: Doubles, then: Doubles) -> list[Message]:
    """Return the messages that lead from what is doubled now to what should be."""
    if now == then:
        return []
    gone = {nftables.family_of(address): None for address in now}
    fresh = {nftables.family_of(address): None for address in then}
    messages = [nftables.delete_table(TABLE, family) for family in gone]
    for family in fresh:
        messages += [
            nftables.table(TABLE, family),
            nftables.chain(TABLE, _CHAIN, _POSTROUTING, _AFTER_CLASS, family=family),
        ]
        messages += [
            nftables.rule(TABLE, _CHAIN, *_double(address, number), family=family)
            for address, number in sorted(then.items())
            if nftables.family_of(address) == family
        ]
    return messages


def _double(address: bytes, number: int) -> Iterator[bytes]:
    load = nftables.load_destination(nftables.family_of(address))
    order = (be32(1, 1), be32(2, 1), be32(3, _TO_NETWORK), be32(4, 4), be32(5, 4))
    yield load
    yield _compare(_EQUAL, address)
    yield nftables.expression("numgen", be32(1, 1), be32(2, _ALL), be32(3, _RANDOM))
    yield nftables.expression("byteorder", *order)
    yield _compare(_LESS, struct.pack(">I", number))
    yield load
    yield nftables.expression("dup", be32(1, 1))


def _compare(how: int, value: bytes) -> bytes:
    return nftables.expression("cmp", be32(1, 1), be32(2, how), nested(3, attribute(1, value)))


def read(socket: Socket) -> dict[bytes, int]:
    """Return what the kernel doubles.

    Raises:
        DisturbanceError: if somebody else's table has the name of ours.
    """
    found: dict[bytes, int] = {}
    for family in nftables.FAMILIES:
        if nftables.exists(socket, TABLE, family):
            wanted = nftables.rules_of(TABLE, family)
            for body in socket.dump(_GETRULE | nftables.SUBSYSTEM, wanted, what="list rules"):
                found.update(_read_rule(body))
    return found


def _read_rule(body: bytes) -> dict[bytes, int]:
    """Return the address and the number of a rule; of one that is not ours something else."""
    values = []
    for _, element in attribute_list(attributes(body, 4).get(4, b"")):
        fields = attributes(element)
        if fields.get(1) == b"cmp\0":
            values.append(attributes(attributes(fields[2])[3])[1])
    if len(values) != 2 or len(values[1]) != 4:
        return {b"\0\0\0\0": 0}
    return {values[0]: struct.unpack(">I", values[1])[0]}
