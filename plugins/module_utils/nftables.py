# SPDX-License-Identifier: GPL-3.0-or-later
"""Our nftables tables, as netlink messages and their readers.

Where a node's links are shaped, table `pkgctl` of family ip holds
  map class     destination → HTB class, for packets that leave (one lookup, however many peers);
  set cut       sources from which nothing arrives.
Where packets are delayed, table `pkgctl-delay` holds
  set delayed   pairs of source and destination whose packets pass the delay line (NFQUEUE).

Formats: linux/netfilter/nf_tables.h and nfnetlink.h; numbers are in network order, the content of
registers excepted. All changes of one call of send happen together, or not at all.
"""

from __future__ import annotations

import errno
import ipaddress
import struct
from collections.abc import Iterable, Mapping

from .errors import CapabilityError, KernelError
from .netlink import (
    NLM_F_APPEND,
    NLM_F_CREATE,
    NLM_F_EXCL,
    Message,
    Socket,
    attribute,
    attribute_list,
    attributes,
    be32,
    nested,
    text,
)

SHAPING = "pkgctl"
DELAYING = "pkgctl-delay"
QUEUE = 7067

_SUBSYSTEM = 10 << 8
_BATCH_BEGIN, _BATCH_END = 0x10, 0x11
_NEWTABLE, _GETTABLE, _DELTABLE = 0, 1, 2
_NEWCHAIN, _NEWRULE, _NEWSET = 3, 6, 9
_NEWSETELEM, _GETSETELEM, _DELSETELEM = 12, 13, 14
_IPV4 = 2
_KEY_IPV4, _DATA_CLASSID = 7, 23
_SET_MAP = 8
_PREROUTING, _POSTROUTING = 0, 4
_BEFORE_CONNTRACK = -300
_SOURCE, _DESTINATION = 12, 16
_ELEMENTS_A_MESSAGE = 500
_NEW = NLM_F_CREATE | NLM_F_EXCL
# For the nft command, which prints a map: keys in network order (2), data in host order (1).
_BYTE_ORDERS = struct.pack("=BBIBBI", 0, 4, 2, 1, 4, 1)


def _message(kind: int, flags: int, what: str, *parts: bytes) -> Message:
    header = struct.pack(">BBH", _IPV4, 0, 0)
    return Message(_SUBSYSTEM | kind, flags, header + b"".join(parts), what)


def _batch(messages: Iterable[Message]) -> list[Message]:
    """Return messages as one transaction; its last own message is the one that is acknowledged."""
    edge = struct.pack(">BBH", 0, 0, 10)
    begin = Message(_BATCH_BEGIN, 0, edge, "begin")
    return [begin, *messages, Message(_BATCH_END, 0, edge, "commit")]


def send(socket: Socket, messages: Iterable[Message]) -> None:
    """Apply messages as one transaction.

    Raises:
        KernelError: if one is refused; then none has taken effect.
    """
    if batch := list(messages):
        socket.transaction(_batch(batch))


def shaping_table() -> list[Message]:
    """Return the messages that make the table of a node's links, with nothing in it."""
    return [
        _table(SHAPING),
        _set(SHAPING, "class", 1, 4, be32(6, _DATA_CLASSID) + be32(7, 4), _SET_MAP),
        _set(SHAPING, "cut", 2, 4),
        _chain(SHAPING, "leaving", _POSTROUTING, 0),
        _chain(SHAPING, "arriving", _PREROUTING, _BEFORE_CONNTRACK),
        _rule(
            SHAPING,
            "leaving",
            _load(_DESTINATION, 4),
            _lookup("class", 1, result=1),
            _set_priority(),
        ),
        _rule(SHAPING, "arriving", _load(_SOURCE, 4), _lookup("cut", 2), _drop()),
    ]


def delaying_table(queue_expression: bool) -> list[Message]:
    """Return the messages that make the table of the delay line, with nothing in it.

    Args:
        queue_expression: whether the kernel has nftables' own queue; else xtables' target is used.
    """
    queue = _queue() if queue_expression else _queue_target()
    return [
        _table(DELAYING),
        _set(DELAYING, "delayed", 1, 8),
        _chain(DELAYING, "arriving", _PREROUTING, _BEFORE_CONNTRACK + 1),
        # Source and destination lie side by side in the header: one load for both.
        _rule(DELAYING, "arriving", _load(_SOURCE, 8), _lookup("delayed", 1), queue),
    ]


def _table(name: str) -> Message:
    return _message(_NEWTABLE, _NEW, f"make table {name}", text(1, name), be32(2, 0))


def delete_table(name: str) -> Message:
    """Return the message that deletes a table with all it holds."""
    return _message(_DELTABLE, 0, f"delete table {name}", text(1, name))


def _set(
    table: str, name: str, number: int, size: int, data: bytes = b"", flags: int = 0
) -> Message:
    kind = _KEY_IPV4 if size == 4 else _KEY_IPV4 << 6 | _KEY_IPV4
    head = (text(1, table), text(2, name), be32(3, flags), be32(4, kind), be32(5, size))
    tail = (data, be32(10, number), attribute(13, _BYTE_ORDERS))
    return _message(_NEWSET, _NEW, f"make set {name}", *head, *tail)


def _chain(table: str, name: str, hook: int, priority: int) -> Message:
    place = nested(4, be32(1, hook), attribute(2, struct.pack(">i", priority)))
    parts = (text(1, table), text(3, name), place, text(7, "filter"))
    return _message(_NEWCHAIN, _NEW, f"make chain {name}", *parts)


def _rule(table: str, chain: str, *expressions: bytes) -> Message:
    body = nested(4, *expressions)
    flags = NLM_F_CREATE | NLM_F_APPEND
    return _message(
        _NEWRULE, flags, f"make a rule in {chain}", text(1, table), text(2, chain), body
    )


def _expression(name: str, *parts: bytes) -> bytes:
    return nested(1, text(1, name), nested(2, *parts))


def _load(offset: int, size: int) -> bytes:
    """Load bytes at an offset of the network header into register 1."""
    return _expression("payload", be32(1, 1), be32(2, 1), be32(3, offset), be32(4, size))


def _lookup(name: str, number: int, result: int | None = None) -> bytes:
    found = b"" if result is None else be32(3, result)
    return _expression("lookup", text(1, name), be32(2, 1), found, be32(4, number))


def _set_priority() -> bytes:
    return _expression("meta", be32(2, 2), be32(3, 1))


def _drop() -> bytes:
    verdict = nested(2, nested(2, be32(1, 0)))
    return _expression("immediate", be32(1, 0), verdict)


def _queue() -> bytes:
    number, total, bypass = (struct.pack(">H", value) for value in (QUEUE, 1, 1))
    return _expression("queue", attribute(1, number), attribute(2, total), attribute(3, bypass))


def _queue_target() -> bytes:
    # struct xt_NFQ_info_v3, padded to 8: queue, how many, flags (1 = pass when nobody listens)
    info = struct.pack("=HHHH", QUEUE, 1, 1, 0)
    return _expression("target", text(1, "NFQUEUE"), be32(2, 3), attribute(3, info))


def key(*addresses: str) -> bytes:
    """Return the key of a set: an address, or several side by side."""
    return b"".join(ipaddress.IPv4Address(address).packed for address in addresses)


def _element(packed: bytes, value: int | None = None) -> bytes:
    data = b"" if value is None else nested(2, attribute(1, struct.pack("=I", value)))
    return nested(1, nested(1, attribute(1, packed)), data)


def add_elements(table: str, name: str, keys: Iterable[bytes]) -> list[Message]:
    """Return the messages that add keys to a set."""
    return _elements(
        _NEWSETELEM, table, name, [_element(each) for each in keys], f"add to set {name}"
    )


def delete_elements(table: str, name: str, keys: Iterable[bytes]) -> list[Message]:
    """Return the messages that take keys out of a set or map."""
    return _elements(
        _DELSETELEM, table, name, [_element(each) for each in keys], f"delete from {name}"
    )


def map_elements(table: str, name: str, values: Mapping[bytes, int]) -> list[Message]:
    """Return the messages that add key → class pairs to a map."""
    pairs = [_element(each, value) for each, value in values.items()]
    return _elements(_NEWSETELEM, table, name, pairs, f"add to map {name}")


def _elements(kind: int, table: str, name: str, elements: list[bytes], what: str) -> list[Message]:
    flags = _NEW if kind == _NEWSETELEM else 0
    messages = []
    for start in range(0, len(elements), _ELEMENTS_A_MESSAGE):
        part = nested(3, *elements[start : start + _ELEMENTS_A_MESSAGE])
        messages.append(_message(kind, flags, what, text(1, table), text(2, name), part))
    return messages


def exists(socket: Socket, table: str) -> bool:
    """Return whether a table is there."""
    try:
        socket.get(_message(_GETTABLE, 0, f"find table {table}", text(1, table)))
    except KernelError as error:
        if error.errno == errno.ENOENT:
            return False
        raise
    return True


def elements(socket: Socket, table: str, name: str) -> dict[bytes, int]:
    """Return the keys of a set or map, with their class (0 in a set)."""
    request = struct.pack(">BBH", _IPV4, 0, 0) + text(1, table) + text(2, name)
    found: dict[bytes, int] = {}
    for body in socket.dump(_SUBSYSTEM | _GETSETELEM, request, what=f"list set {name}"):
        listing = attributes(body, 4).get(3, b"")
        for _, element in attribute_list(listing):
            packed, value = _read_element(attributes(element))
            found[packed] = value
    return found


def _read_element(fields: dict[int, bytes]) -> tuple[bytes, int]:
    packed = attributes(fields[1])[1]
    if 2 not in fields:
        return packed, 0
    (value,) = struct.unpack_from("=I", attributes(fields[2])[1])
    return packed, value


def make_delaying_table(socket: Socket) -> None:
    """Make the delay line's table in the words that this kernel knows.

    Raises:
        CapabilityError: if it has neither nftables' own queue nor xtables' NFQUEUE target.
        KernelError: if nftables refuses for another reason.
    """
    for own in (True, False):
        try:
            send(socket, delaying_table(own))
        except KernelError as error:
            if error.errno not in (errno.ENOENT, errno.EOPNOTSUPP):
                raise
        else:
            return
    needs = "CONFIG_NFT_QUEUE, or CONFIG_NFT_COMPAT with CONFIG_NETFILTER_XT_TARGET_NFQUEUE"
    raise CapabilityError(f"this kernel cannot queue packets for the delay line: it needs {needs}")
