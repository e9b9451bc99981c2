# SPDX-License-Identifier: GPL-3.0-or-later
"""Links, addresses and queueing disciplines, as rtnetlink messages and their readers.

Formats: linux/if_link.h, linux/rtnetlink.h, linux/pkt_sched.h. Functions that make a message
touch nothing; the caller sends a batch of them at once. HTB takes rates in bytes a second and
bursts in ticks of 64 ns.
"""

from __future__ import annotations

import ipaddress
import struct
from dataclasses import dataclass, field

from .netlink import (
    NLM_F_CREATE,
    NLM_F_EXCL,
    NLM_F_REPLACE,
    Message,
    Socket,
    attribute,
    attributes,
    nested,
    text,
    u32,
    u64,
)

RTM_NEWLINK, RTM_DELLINK, RTM_GETLINK = 16, 17, 18
RTM_NEWADDR, RTM_GETADDR, RTM_NEWROUTE = 20, 22, 24
RTM_NEWNEIGH, RTM_DELNEIGH, RTM_GETNEIGH = 28, 29, 30
RTM_NEWQDISC, RTM_DELQDISC, RTM_GETQDISC = 36, 37, 38
RTM_NEWTCLASS, RTM_DELTCLASS, RTM_GETTCLASS = 40, 41, 42
IFLA_ADDRESS, IFLA_IFNAME, IFLA_MTU = 1, 3, 4
IFLA_LINKINFO, IFLA_NET_NS_FD = 18, 28
IFLA_INFO_KIND, IFLA_INFO_DATA, VETH_INFO_PEER = 1, 2, 1
IFA_ADDRESS, IFA_LOCAL, IFA_BROADCAST, IFA_FLAGS = 1, 2, 4, 8
IFA_F_NODAD, IFA_F_MANAGETEMPADDR, IFA_F_NOPREFIXROUTE = 0x02, 0x100, 0x200
RTA_DST, RTA_OIF, RTA_GATEWAY = 1, 4, 5
NDA_DST, NDA_LLADDR = 1, 2
TCA_KIND, TCA_OPTIONS, TCA_STATS2 = 1, 2, 7
TCA_STATS_QUEUE = 3
# The kernel lists these two first, and then long statistics.
_KIND_AND_OPTIONS = 2
TCA_TBF_PARMS, TCA_TBF_RATE64, TCA_TBF_BURST = 1, 4, 6
TCA_HTB_PARMS, TCA_HTB_INIT, TCA_HTB_RATE64, TCA_HTB_CEIL64 = 1, 2, 6, 7
IFF_UP = 1
ROOT = 0xFFFFFFFF

_IFINFO = struct.Struct("=BxHiII")
_IFADDR = struct.Struct("=BBBBi")
_ROUTE = struct.Struct("=BBBBBBBBI")
_NEIGHBOUR = struct.Struct("=BxxxiHBB")
_ONLINK, _PERMANENT, _PROXY = 4, 0x80, 0x08
_SCOPE_LINK = 253
# Of an address's flags those that whoever set it may have chosen.
_CHOSEN = IFA_F_NODAD | IFA_F_MANAGETEMPADDR | IFA_F_NOPREFIXROUTE
_TCMSG = struct.Struct("=BxxxiIII")
_RATESPEC = struct.Struct("=BBHhHI")
_HTB_TAIL = struct.Struct("=IIIII")
_TICK = 64e-9
_ETHERNET = 1


@dataclass(frozen=True, slots=True)
class Rates:
    """One HTB class: what it is owed and what it may take, in bytes a second."""

    rate: int
    ceil: int


def _link(
    kind: int, flags: int, what: str, *parts: bytes, index: int = 0, up: bool = False
) -> Message:
    change = IFF_UP if up else 0
    return Message(kind, flags, _IFINFO.pack(0, 0, index, change, change) + b"".join(parts), what)


@dataclass(frozen=True, slots=True)
class End:
    """One end of a veth pair: its name, its hardware address, and the namespace it is born in."""

    name: str
    mac: bytes
    namespace: int | None = None


def veth(near: End, far: End, *, mtu: int) -> Message:
    """Return the message that makes a veth pair: the near end up and here, the far end elsewhere.

    Args:
        near: this end.
        far: the far end.
        mtu: of both ends, in bytes.
    """
    there = () if far.namespace is None else (u32(IFLA_NET_NS_FD, far.namespace),)
    peer = _IFINFO.pack(0, 0, 0, 0, 0) + b"".join((*_end(far, mtu), *there))
    info = nested(
        IFLA_LINKINFO,
        text(IFLA_INFO_KIND, "veth"),
        nested(IFLA_INFO_DATA, attribute(VETH_INFO_PEER, peer)),
    )
    flags = NLM_F_CREATE | NLM_F_EXCL
    return _link(RTM_NEWLINK, flags, f"make link {near.name}", *_end(near, mtu), info, up=True)


def _end(end: End, mtu: int) -> tuple[bytes, ...]:
    return text(IFLA_IFNAME, end.name), attribute(IFLA_ADDRESS, end.mac), u32(IFLA_MTU, mtu)


def link_up(index: int) -> Message:
    """Return the message that sets a link up."""
    return _link(RTM_NEWLINK, 0, f"set link {index} up", index=index, up=True)


def delete_link(index: int) -> Message:
    """Return the message that deletes a link, and its peer with it."""
    return _link(RTM_DELLINK, 0, f"delete link {index}", index=index)


def address(index: int, interface: str) -> Message:
    """Return the message that sets a link's address, such as ``10.77.0.1/16``, without a route."""
    parsed = ipaddress.ip_interface(interface)
    packed = parsed.ip.packed
    body = _IFADDR.pack(_family(parsed.version), parsed.network.prefixlen, 0, 0, index)
    body += attribute(IFA_LOCAL, packed) + attribute(IFA_ADDRESS, packed)
    # The address is ours alone: nobody has to be asked, and it may be used at once.
    quiet = IFA_F_NODAD if parsed.version == 6 else 0
    body += u32(IFA_FLAGS, IFA_F_NOPREFIXROUTE | quiet)
    return Message(RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE, body, f"set address {interface}")


def addresses(socket: Socket, index: int) -> list[bytes]:
    """Return a link's addresses, for address_again; not those that the kernel gives by itself."""
    found = []
    for body in socket.dump(RTM_GETADDR, _IFADDR.pack(0, 0, 0, 0, 0), what="list addresses"):
        family, length, _, scope, owner = _IFADDR.unpack_from(body)
        if owner != index or scope == _SCOPE_LINK:
            continue
        fields = attributes(body, _IFADDR.size)
        (flags,) = struct.unpack_from("=I", fields[IFA_FLAGS])
        parts = [
            attribute(kind, fields[kind])
            for kind in (IFA_LOCAL, IFA_ADDRESS, IFA_BROADCAST)
            if kind in fields
        ]
        head = _IFADDR.pack(family, length, 0, scope, 0)
        found.append(head + b"".join(parts) + u32(IFA_FLAGS, flags & _CHOSEN))
    return found


def address_again(index: int, known: bytes) -> Message:
    """Return the message that gives a link an address that addresses returned."""
    family, length, flags, scope, _ = _IFADDR.unpack_from(known)
    body = _IFADDR.pack(family, length, flags, scope, index) + known[_IFADDR.size :]
    return Message(RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE, body, "give an address back")


def _family(version: int) -> int:
    return 2 if version == 4 else 10


def route(index: int, network: str, gateway: str | None = None) -> Message:
    """Return the message that routes a network through a link, by a gateway if one is named."""
    parsed = ipaddress.ip_network(network)
    scope, flags = (253, 0) if gateway is None else (0, _ONLINK)
    body = _ROUTE.pack(_family(parsed.version), parsed.prefixlen, 0, 0, 254, 4, scope, 1, flags)
    body += attribute(RTA_DST, parsed.network_address.packed) + u32(RTA_OIF, index)
    if gateway is not None:
        body += attribute(RTA_GATEWAY, ipaddress.ip_address(gateway).packed)
    return Message(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, body, f"set the route to {network}")


def neighbour(index: int, ip: str, mac: bytes) -> Message:
    """Return the message that fixes a neighbour's hardware address, so that nobody asks by ARP."""
    parsed = ipaddress.ip_address(ip)
    body = _NEIGHBOUR.pack(_family(parsed.version), index, _PERMANENT, 0, 0)
    body += attribute(NDA_DST, parsed.packed) + attribute(NDA_LLADDR, mac)
    return Message(RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_REPLACE, body, f"set the neighbour {ip}")


def forget_neighbour(index: int, ip: str) -> Message:
    """Return the message that forgets a neighbour's hardware address."""
    parsed = ipaddress.ip_address(ip)
    body = _NEIGHBOUR.pack(_family(parsed.version), index, 0, 0, 0)
    return Message(RTM_DELNEIGH, 0, body + attribute(NDA_DST, parsed.packed), f"forget {ip}")


def proxy(index: int, ip: str) -> Message:
    """Return the message that lets a link answer for an IPv6 address to which it leads."""
    parsed = ipaddress.ip_address(ip)
    body = _NEIGHBOUR.pack(_family(parsed.version), index, _PERMANENT, _PROXY, 0)
    flags = NLM_F_CREATE | NLM_F_REPLACE
    return Message(
        RTM_NEWNEIGH, flags, body + attribute(NDA_DST, parsed.packed), f"answer for {ip}"
    )


def neighbours(socket: Socket, index: int) -> dict[bytes, bytes]:
    """Return the fixed hardware addresses of a link's neighbours, by their packed addresses."""
    found = {}
    for body in socket.dump(RTM_GETNEIGH, _NEIGHBOUR.pack(0, 0, 0, 0, 0), what="list neighbours"):
        _, owner, state, flags, _ = _NEIGHBOUR.unpack_from(body)
        fields = attributes(body, _NEIGHBOUR.size)
        if owner == index and state & _PERMANENT and not flags & _PROXY and NDA_LLADDR in fields:
            found[fields[NDA_DST]] = fields[NDA_LLADDR]
    return found


def move(index: int, name: str, namespace: int) -> Message:
    """Return the message that moves a link into another network, under a name there."""
    parts = (text(IFLA_IFNAME, name), u32(IFLA_NET_NS_FD, namespace))
    return _link(RTM_NEWLINK, 0, f"move link {index} as {name}", *parts, index=index)


def mtu(socket: Socket, index: int) -> int:
    """Return the longest packet of a link, in bytes.

    Raises:
        KernelError: if there is no such link.
    """
    body = socket.get(_link(RTM_GETLINK, 0, f"look at link {index}", index=index))
    return int(struct.unpack_from("=I", attributes(body, _IFINFO.size)[IFLA_MTU])[0])


def link_indexes(socket: Socket) -> dict[str, int]:
    """Return the index of each link in the socket's namespace, by name."""
    found = {}
    for body in socket.dump(RTM_GETLINK, _IFINFO.pack(0, 0, 0, 0, 0), what="list links"):
        name = attributes(body, _IFINFO.size)[IFLA_IFNAME].rstrip(b"\0").decode()
        found[name] = _IFINFO.unpack_from(body)[2]
    return found


def link_index(socket: Socket, name: str) -> int:
    """Return the index of one link.

    Raises:
        KernelError: if there is no such link.
    """
    wanted = _link(RTM_GETLINK, 0, f"find link {name}", text(IFLA_IFNAME, name))
    return int(_IFINFO.unpack_from(socket.get(wanted))[2])


def traffic(
    kind: int, flags: int, what: str, index: int, handle: int, parent: int, *parts: bytes
) -> Message:
    """Return a message about a queueing discipline or a class of a link."""
    return Message(kind, flags, _TCMSG.pack(0, index, handle, parent, 0) + b"".join(parts), what)


def htb(index: int, handle: int, default: int) -> Message:
    """Return the message that puts an HTB at a link's root; default 0 leaves the rest unshaped."""
    glob = struct.pack("=IIIII", 3, 10, default, 0, 0)
    parts = (text(TCA_KIND, "htb"), nested(TCA_OPTIONS, attribute(TCA_HTB_INIT, glob)))
    flags = NLM_F_CREATE | NLM_F_EXCL
    return traffic(RTM_NEWQDISC, flags, "put HTB on the link", index, handle, ROOT, *parts)


def delete_root(index: int, handle: int) -> Message:
    """Return the message that deletes the root discipline with all below it."""
    return traffic(RTM_DELQDISC, 0, "delete HTB", index, handle, ROOT)


def htb_class(index: int, parent: int, classid: int, rates: Rates) -> Message:
    """Return the message that makes a class, or changes it in place without losing a packet."""
    parms = _ratespec(rates.rate) + _ratespec(rates.ceil)
    parms += _HTB_TAIL.pack(_ticks(rates.rate), _ticks(rates.ceil), _QUANTUM, 0, 0)
    wide = [u64(TCA_HTB_RATE64, rates.rate)] if rates.rate >= 1 << 32 else []
    wide += [u64(TCA_HTB_CEIL64, rates.ceil)] if rates.ceil >= 1 << 32 else []
    options = nested(TCA_OPTIONS, attribute(TCA_HTB_PARMS, parms), *wide)
    what = f"set class {show_handle(classid)}"
    return traffic(
        RTM_NEWTCLASS, NLM_F_CREATE, what, index, classid, parent, text(TCA_KIND, "htb"), options
    )


def delete_class(index: int, classid: int) -> Message:
    """Return the message that deletes a class and its leaf."""
    return traffic(RTM_DELTCLASS, 0, f"delete class {show_handle(classid)}", index, classid, 0)


def leaf(index: int, parent: int, handle: int, queue: Queue) -> Message:
    """Return the message that makes, or changes in place, the queue of a class.

    It is a token bucket far faster than any class, which holds nothing back but cuts a super-packet
    larger than its bucket into frames: a queue in bytes would drop it whole.
    """
    parms = _ratespec(_FAST) + _ratespec(0) + struct.pack("=III", queue.limit, 0, 0)
    bucket = u64(TCA_TBF_RATE64, _FAST) + u32(TCA_TBF_BURST, queue.bucket)
    options = nested(TCA_OPTIONS, attribute(TCA_TBF_PARMS, parms), bucket)
    what = f"set the queue of class {show_handle(parent)}"
    flags = NLM_F_CREATE | NLM_F_REPLACE
    return traffic(RTM_NEWQDISC, flags, what, index, handle, parent, text(TCA_KIND, "tbf"), options)


@dataclass(frozen=True, slots=True)
class Queue:
    """The queue of a class: how many bytes it holds, and the largest packet it does not cut.

    The second follows from the class's rate, and the kernel does not tell it exactly.
    """

    limit: int
    bucket: int = field(default=0, compare=False)


# A terabit a second, in bytes: the bucket is full again before anyone can look.
_FAST = 125_000_000_000
# A round of the fair share among borrowing classes: ten frames.
_QUANTUM = 15140
# How long HTB may be late before it loses tokens; bounds a burst after idling as well.
_SLACK = 0.0015
_FRAME = 1514


def burst(rate: int) -> int:
    """Return a class's token bucket in bytes: 1.5 ms at its rate (bytes a second) and a frame."""
    return int(rate * _SLACK) + _FRAME


def _ticks(rate: int) -> int:
    return min(int(burst(rate) / rate / _TICK), 0xFFFFFFFF)


def _ratespec(rate: int) -> bytes:
    return _RATESPEC.pack(0, _ETHERNET, 0, 0, 0, min(rate, 0xFFFFFFFF))


@dataclass(frozen=True, slots=True)
class Discipline:
    """A queueing discipline as the kernel lists it; queue is known of our leaves."""

    kind: str
    handle: int
    parent: int
    queue: Queue | None = None
    options: bytes = field(default=b"", compare=False)


def disciplines(socket: Socket, index: int) -> list[Discipline]:
    """Return the queueing disciplines of one link."""
    found = []
    for body in socket.dump(RTM_GETQDISC, _TCMSG.pack(0, index, 0, 0, 0), what="list qdiscs"):
        _, owner, handle, parent, _ = _TCMSG.unpack_from(body)
        if owner != index:
            continue
        fields = attributes(body, _TCMSG.size, _KIND_AND_OPTIONS)
        kind = fields[TCA_KIND].rstrip(b"\0").decode()
        options = fields.get(TCA_OPTIONS, b"")
        queue = _read_queue(attributes(options)) if kind == "tbf" else None
        found.append(Discipline(kind, handle, parent, queue, options))
    return found


def _read_queue(options: dict[int, bytes]) -> Queue:
    return Queue(struct.unpack_from("=I", options[TCA_TBF_PARMS], 2 * _RATESPEC.size)[0])


def classes(socket: Socket, index: int) -> dict[int, Rates]:
    """Return the HTB classes of one link by class id."""
    found = {}
    for body in socket.dump(RTM_GETTCLASS, _TCMSG.pack(0, index, 0, 0, 0), what="list classes"):
        _, _, classid, _, _ = _TCMSG.unpack_from(body)
        fields = attributes(body, _TCMSG.size, _KIND_AND_OPTIONS)
        if fields[TCA_KIND] == b"htb\0":
            found[classid] = _read_rates(attributes(fields[TCA_OPTIONS]))
    return found


def backlogs(socket: Socket, index: int) -> dict[int, int]:
    """Return the bytes that wait in each class of one link, by class id."""
    found = {}
    for body in socket.dump(RTM_GETTCLASS, _TCMSG.pack(0, index, 0, 0, 0), what="list classes"):
        statistics = attributes(attributes(body, _TCMSG.size).get(TCA_STATS2, b""))
        if TCA_STATS_QUEUE in statistics:
            # struct gnet_stats_queue: packets and bytes that wait, then drops and more
            found[_TCMSG.unpack_from(body)[2]] = struct.unpack_from(
                "=II", statistics[TCA_STATS_QUEUE]
            )[1]
    return found


def _read_rates(options: dict[int, bytes]) -> Rates:
    parms = options[TCA_HTB_PARMS]
    rate, ceil = (_RATESPEC.unpack_from(parms, at)[5] for at in (0, _RATESPEC.size))
    if TCA_HTB_RATE64 in options:
        (rate,) = struct.unpack("=Q", options[TCA_HTB_RATE64])
    if TCA_HTB_CEIL64 in options:
        (ceil,) = struct.unpack("=Q", options[TCA_HTB_CEIL64])
    return Rates(rate, ceil)


def show_handle(handle: int) -> str:
    """Return a handle as tc writes it: ``7067:10``."""
    return f"{handle >> 16:x}:{handle & 0xFFFF:x}"
