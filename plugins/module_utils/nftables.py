# SPDX-License-Identifier: GPL-3.0-or-later
"""Our nftables tables, as netlink messages and their readers.

Where a node's links are shaped, table `pkgctl` holds
  maps class, class6   destination → HTB class, for packets that leave (one lookup for any peers);
  sets cut, cut6       sources from which nothing arrives;
  chains closed, mute  only while the node is off: nothing arrives, nothing leaves.
Where packets are delayed, table `pkgctl-delay` holds
  sets delayed, delayed6   pairs of source and destination that pass the delay line (NFQUEUE);
  sets copied, copied6     those of them whose packets are handed over whole.
Both are of family inet: a set whose name ends with 6 holds IPv6 addresses, the others IPv4.

Formats: linux/netfilter/nf_tables.h and nfnetlink.h; numbers are in network order, the content of
registers excepted. All changes of one call of send happen together, or not at all.
"""

from __future__ import annotations

import errno
import functools
import ipaddress
import struct
from collections.abc import Iterable, Mapping

from .errors import CapabilityError, DisturbanceError, KernelError
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

SUBSYSTEM = 10 << 8
_BATCH_BEGIN, _BATCH_END = 0x10, 0x11
_NEWTABLE, _GETTABLE, _DELTABLE = 0, 1, 2
_NEWCHAIN, _GETCHAIN, _DELCHAIN, _NEWRULE, _NEWSET = 3, 4, 5, 6, 9
_NEWSETELEM, _GETSETELEM, _DELSETELEM = 12, 13, 14
_INET, _IPV4, _IPV6 = 1, 2, 10
_KEY_IPV4, _KEY_IPV6, _DATA_CLASSID = 7, 8, 23
_SET_MAP = 8
_PREROUTING, _POSTROUTING = 0, 4
_BEFORE_CONNTRACK = -300
# Where the addresses lie in the header of each protocol, and how long they are.
_SOURCE = {_IPV4: 12, _IPV6: 8}
_DESTINATION = {_IPV4: 16, _IPV6: 24}
_LENGTH = {_IPV4: 4, _IPV6: 16}
_FAMILY_NAMES = {_INET: "inet", _IPV4: "ip", _IPV6: "ip6"}
FAMILIES = (_IPV4, _IPV6)
_SUFFIX = {_IPV4: "", _IPV6: "6"}
_META_PROTOCOL = 15
# A comment in the user data of a table says whose it is.
_OURS = b"\0\x07pkgctl\0"
_ELEMENTS_A_MESSAGE = 500
_NEW = NLM_F_CREATE | NLM_F_EXCL
# For the nft command, which prints a map: keys in network order (2), data in host order (1).
_BYTE_ORDERS = struct.pack("=BBIBBI", 0, 4, 2, 1, 4, 1)


def _message(kind: int, flags: int, what: str, *parts: bytes, family: int = _INET) -> Message:
    header = struct.pack(">BBH", family, 0, 0)
    return Message(SUBSYSTEM | kind, flags, header + b"".join(parts), what)


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
    leaving, arriving = "leaving", "arriving"
    head = [
        table(SHAPING),
        chain(SHAPING, leaving, _POSTROUTING, 0),
        chain(SHAPING, arriving, _PREROUTING, _BEFORE_CONNTRACK),
    ]
    return head + [message for family in (_IPV4, _IPV6) for message in _shaping_of(family)]


def _shaping_of(family: int) -> list[Message]:
    size, suffix = _LENGTH[family], _SUFFIX[family]
    classes, cut = f"class{suffix}", f"cut{suffix}"
    to_class = be32(6, _DATA_CLASSID) + be32(7, 4)
    choose = (_is(family), _load(_DESTINATION[family], size), _lookup(classes, 1, result=1))
    refuse = (_is(family), _load(_SOURCE[family], size), _lookup(cut, 2), _drop())
    return [
        _set(SHAPING, classes, 1 + 2 * (family == _IPV6), size, to_class, _SET_MAP),
        _set(SHAPING, cut, 2 + 2 * (family == _IPV6), size),
        rule(SHAPING, "leaving", *choose, _set_priority()),
        rule(SHAPING, "arriving", *refuse),
    ]


CLOSED = {"closed": _PREROUTING, "mute": _POSTROUTING}


def close() -> list[Message]:
    """Return the messages after which nothing arrives at a node and nothing leaves it."""
    return [
        chain(SHAPING, name, hook, _BEFORE_CONNTRACK - 1, policy=0) for name, hook in CLOSED.items()
    ]


def reopen() -> list[Message]:
    """Return the messages that take back close."""
    return [
        _message(_DELCHAIN, 0, f"delete chain {name}", text(1, SHAPING), text(3, name))
        for name in CLOSED
    ]


def is_closed(socket: Socket) -> bool:
    """Return whether the table of a node's links, which is there, lets nothing arrive."""
    name = next(iter(CLOSED))
    wanted = _message(_GETCHAIN, 0, f"find chain {name}", text(1, SHAPING), text(3, name))
    return _find(socket, wanted) is not None


def delaying_table(queue_expression: bool) -> list[Message]:
    """Return the messages that make the table of the delay line, with nothing in it.

    Args:
        queue_expression: whether the kernel has nftables' own queue; else xtables' target is used.
    """
    head = [table(DELAYING), chain(DELAYING, "arriving", _PREROUTING, _BEFORE_CONNTRACK + 1)]
    queues = enumerate(QUEUES.items(), start=1)
    return head + [
        message
        for number, ((name, family), queue) in queues
        for message in _delaying_of(name, family, number, queue, queue_expression)
    ]


def _delaying_of(
    name: str, family: int, number: int, queue: int, queue_expression: bool
) -> list[Message]:
    size, known = 2 * _LENGTH[family], f"{name}{_SUFFIX[family]}"
    hand_over = _queue(queue) if queue_expression else _queue_target(queue)
    # Source and destination lie side by side in the header: one load for both.
    parts = (_is(family), _load(_SOURCE[family], size), _lookup(known, number), hand_over)
    return [
        _set(DELAYING, known, number, size),
        rule(DELAYING, "arriving", *parts),
    ]


def table(name: str, family: int = _INET) -> Message:
    """Return the message that makes a table with nothing in it."""
    parts = (text(1, name), be32(2, 0), attribute(6, _OURS))
    return _message(_NEWTABLE, _NEW, f"make table {name}", *parts, family=family)


def delete_table(name: str, family: int = _INET) -> Message:
    """Return the message that deletes a table with all it holds."""
    return _message(_DELTABLE, 0, f"delete table {name}", text(1, name), family=family)


def _set(
    table: str, name: str, number: int, size: int, data: bytes = b"", flags: int = 0
) -> Message:
    kind = _KEY_IPV4 if size in (4, 8) else _KEY_IPV6
    if size in (8, 32):
        kind = kind << 6 | kind
    head = (text(1, table), text(2, name), be32(3, flags), be32(4, kind), be32(5, size))
    tail = (data, be32(10, number), attribute(13, _BYTE_ORDERS))
    return _message(_NEWSET, _NEW, f"make set {name}", *head, *tail)


def chain(
    table: str, name: str, hook: int, priority: int, policy: int = 1, *, family: int = _INET
) -> Message:
    """Return the message that makes a chain at a hook; policy 0 drops what comes to its end."""
    place = nested(4, be32(1, hook), attribute(2, struct.pack(">i", priority)))
    parts = (text(1, table), text(3, name), place, be32(5, policy), text(7, "filter"))
    return _message(_NEWCHAIN, _NEW, f"make chain {name}", *parts, family=family)


def rule(table: str, chain: str, *expressions: bytes, family: int = _INET) -> Message:
    """Return the message that makes a rule at the end of a chain."""
    parts = (text(1, table), text(2, chain), nested(4, *expressions))
    flags = NLM_F_CREATE | NLM_F_APPEND
    return _message(_NEWRULE, flags, f"make a rule in {chain}", *parts, family=family)


def rules_of(table: str, family: int) -> bytes:
    """Return the body of a request for the rules of a table."""
    return struct.pack(">BBH", family, 0, 0) + text(1, table)


def expression(name: str, *parts: bytes) -> bytes:
    """Return one expression of a rule."""
    return nested(1, text(1, name), nested(2, *parts))


def _load(offset: int, size: int) -> bytes:
    """Load bytes at an offset of the network header into register 1."""
    return expression("payload", be32(1, 1), be32(2, 1), be32(3, offset), be32(4, size))


def load_destination(family: int) -> bytes:
    """Load a packet's destination into register 1."""
    return _load(_DESTINATION[family], _LENGTH[family])


def _lookup(name: str, number: int, result: int | None = None) -> bytes:
    found = b"" if result is None else be32(3, result)
    return expression("lookup", text(1, name), be32(2, 1), found, be32(4, number))


def _is(family: int) -> bytes:
    """Go on only with packets of this family."""
    own = attribute(1, struct.pack("B", family))
    protocol = expression("meta", be32(1, 1), be32(2, _META_PROTOCOL))
    return protocol + expression("cmp", be32(1, 1), be32(2, 0), nested(3, own))


def _set_priority() -> bytes:
    return expression("meta", be32(2, 2), be32(3, 1))


def _drop() -> bytes:
    verdict = nested(2, nested(2, be32(1, 0)))
    return expression("immediate", be32(1, 0), verdict)


def _queue(queue: int) -> bytes:
    number, total, bypass = (struct.pack(">H", value) for value in (queue, 1, 1))
    return expression("queue", attribute(1, number), attribute(2, total), attribute(3, bypass))


def _queue_target(queue: int) -> bytes:
    # struct xt_NFQ_info_v3, padded to 8: queue, how many, flags (1 = pass when nobody listens)
    info = struct.pack("=HHHH", queue, 1, 1, 0)
    return expression("target", text(1, "NFQUEUE"), be32(2, 3), attribute(3, info))


# The queue of the packets of each set of pairs, by the set's name and family.
QUEUES = {
    ("delayed", _IPV4): QUEUE,
    ("delayed", _IPV6): 7066,
    ("copied", _IPV4): 7065,
    ("copied", _IPV6): 7064,
}


def key(*addresses: str) -> bytes:
    """Return the key of a set: an address, or several of one family side by side."""
    return b"".join(_packed(address) for address in addresses)


@functools.lru_cache(maxsize=1 << 16)
def _packed(address: str) -> bytes:
    return ipaddress.ip_address(address).packed


def family_of(packed: bytes) -> int:
    """Return the family of tables for packets with a packed address."""
    return _IPV4 if len(packed) == 4 else _IPV6


def by_family(name: str, keys: Iterable[bytes]) -> dict[str, list[bytes]]:
    """Return keys by the set that holds them: name for IPv4, name with a 6 for IPv6."""
    found: dict[str, list[bytes]] = {name: [], f"{name}6": []}
    for each in keys:
        found[name if len(each) in (4, 8) else f"{name}6"].append(each)
    return found


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


def exists(socket: Socket, table: str, family: int = _INET) -> bool:
    """Return whether a table of ours is there.

    Raises:
        DisturbanceError: if there is one of that name that is not ours.
    """
    wanted = _message(_GETTABLE, 0, f"find table {table}", text(1, table), family=family)
    found = _find(socket, wanted)
    if found is None:
        return False
    if attributes(found, 4).get(6) != _OURS:
        raise DisturbanceError(
            f"there is an nftables table {_FAMILY_NAMES[family]} {table} that is not ours;"
            " delete or rename it"
        )
    return True


def names(socket: Socket) -> list[tuple[int, str]]:
    """Return the family and the name of each table there is, whosever it is."""
    bodies = socket.dump(SUBSYSTEM | _GETTABLE, struct.pack(">BBH", 0, 0, 0), what="list tables")
    return [(body[0], attributes(body, 4)[1].rstrip(b"\0").decode()) for body in bodies]


def _find(socket: Socket, wanted: Message) -> bytes | None:
    try:
        return socket.get(wanted)
    except KernelError as error:
        if error.errno == errno.ENOENT:
            return None
        raise


def elements(socket: Socket, table: str, name: str) -> dict[bytes, int]:
    """Return the keys of a set or map, with their class (0 in a set)."""
    found: dict[bytes, int] = {}
    for listing in _listings(socket, table, name):
        for _, element in attribute_list(listing):
            fields = attributes(element, 0, 2)
            # Key and class lie each in an attribute of an attribute, whose headers are 4 bytes.
            found[fields[1][4:]] = _CLASS.unpack_from(fields[2], 4)[0] if 2 in fields else 0
    return found


_CLASS = struct.Struct("=I")


def _listings(socket: Socket, table: str, name: str) -> list[bytes]:
    request = struct.pack(">BBH", _INET, 0, 0) + text(1, table) + text(2, name)
    bodies = socket.dump(SUBSYSTEM | _GETSETELEM, request, what=f"list set {name}")
    return [attributes(body, 4).get(3, b"") for body in bodies]


def keys(socket: Socket, table: str, name: str, size: int) -> list[bytes]:
    """Return the keys of a set, of so many bytes each; five times as fast as elements."""
    head = attribute(1, attribute(1, attribute(1, bytes(size))))[:-size]
    pattern = struct.Struct(f"={len(head)}s{size}s")
    found: list[bytes] = []
    for listing in _listings(socket, table, name):
        # Elements that hold more than their key are read one by one.
        if len(listing) % pattern.size or listing.count(head) < len(listing) // pattern.size:
            return list(elements(socket, table, name))
        found += [packed for _, packed in pattern.iter_unpack(listing)]
    return found


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
