# SPDX-License-Identifier: GPL-3.0-or-later
"""How a node's links are shaped in the kernel, and the messages from one state to another; pure.

What leaves the node is bounded by an HTB tree: one class for the node's access rate, under it one
for each peer whose own rate is lower. An nftables map from the peer's address to its class sets the
packet's priority, from which HTB takes the class, so that a packet's cost does not grow with peers.
From a peer whose link is down nothing arrives, and at a node that is off nothing at all.

All that arrives at a node is bounded by one class, where it leaves the switch for the node.

A peer has an IPv4 and perhaps an IPv6 address; its link has one class for both. Rates count
Ethernet frames (14 bytes of header, no preamble or checksum), as the kernel does.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from . import doubling, netem, nftables, rtnl
from .identity import Identity
from .netem import Netem
from .netlink import Message
from .quality import Quality
from .rtnl import Queue, Rates
from .units import show_rate

# The handle of the HTB at a link's root says whose it is: any other discipline there is foreign.
MAJOR = 0x7067
ROOT = MAJOR << 16
_ACCESS, _OTHERS, _FIRST_PEER = 1, 2, 0x10
# The access rate is shared out to so many peers at least; what is left over is borrowed.
_SHARES = 4096
_SMALLEST = 125
_QUEUE_FLOOR = 32 << 10
_QUEUE_SECONDS = 0.05
_BUCKET_SECONDS = 0.002
_SMALLEST_BUCKET = 2 * 1514
_UNBOUNDED = Rates(1_250_000_000, 1_250_000_000)
_UNBOUNDED_QUEUE = Queue(16 << 20, 1 << 20)

Qualities = Mapping[str, Quality]
# A class's parent, and the rates at which it may empty itself.
Retired = tuple[int, Rates]


@dataclass(frozen=True, slots=True)
class State:
    """The kernel's side of a node's links.

    Attributes:
        classes: HTB classes by minor number.
        queues: the queue of each class.
        peers: the class (minor) of each peer, by each of its packed addresses.
        cut: packed addresses from which nothing arrives.
        table: whether the nftables table is there.
        closed: whether nothing at all arrives or leaves.
        netems: the kernel's own impairment of each class, where the kernel does that.
        doubles: how many packets to each packed address are doubled there; see doubling.py.
    """

    classes: Mapping[int, Rates] = field(default_factory=dict)
    queues: Mapping[int, Queue] = field(default_factory=dict)
    peers: Mapping[bytes, int] = field(default_factory=dict)
    cut: frozenset[bytes] = frozenset()
    table: bool = False
    closed: bool = False
    netems: Mapping[int, Netem] = field(default_factory=dict)
    doubles: Mapping[bytes, int] = field(default_factory=dict)

    def show(self) -> str:
        """Return the state as text, one fact a line."""
        lines = [
            f"class {minor:x}: {show_rate(rates.ceil * 8)}{self._queue(minor)}"
            for minor, rates in sorted(self.classes.items())
        ]
        lines += [f"class {minor:x}: {each.show()}" for minor, each in sorted(self.netems.items())]
        lines += [
            f"to {_dotted(peer)}: class {minor:x}" for peer, minor in sorted(self.peers.items())
        ]
        lines += [
            f"to {_dotted(peer)}: {doubling.show(number)}"
            for peer, number in sorted(self.doubles.items())
        ]
        lines += [f"from {_dotted(peer)}: nothing" for peer in sorted(self.cut)]
        lines += ["closed: nothing arrives or leaves"] * self.closed
        return "".join(f"{line}\n" for line in lines)

    def _queue(self, minor: int) -> str:
        return f", queue {self.queues[minor].limit} bytes" if minor in self.queues else ""


def _dotted(packed: bytes) -> str:
    return str(ipaddress.ip_address(packed))


def peer_class(identity: Identity, peer: str) -> int:
    """Return the minor number of the class of what leaves for a peer."""
    return _FIRST_PEER + identity.number(peer)


def wanted_state(
    identity: Identity,
    egress: Qualities,
    ingress: Qualities,
    *,
    closed: bool = False,
    impaired: bool = False,
) -> State:
    """Return the kernel state that gives a node its links.

    Args:
        identity: the node.
        egress: the quality toward each peer that has one.
        ingress: the quality from each peer that has one.
        closed: whether the node is off, so that nothing arrives or leaves.
        impaired: whether netem does what else the delay line would do.
    """
    access = identity.access // 8 if identity.access else None
    classes: dict[int, Rates] = {}
    queues: dict[int, Queue] = {}
    peers: dict[bytes, int] = {}
    netems: dict[int, Netem] = {}
    if access is not None:
        classes[_ACCESS] = Rates(access, access)
        classes[_OTHERS] = Rates(_share(access, access), access)
        queues[_OTHERS] = queue(access, 0.0)
    for peer, quality in egress.items():
        # A layer outlives the peers that it names.
        own = _own_class(quality, access, impaired) if peer in identity.peers else None
        if own is None:
            continue
        minor = peer_class(identity, peer)
        classes[minor], queues[minor], impairment = own
        if impairment is not None:
            netems[minor] = impairment
        peers.update(dict.fromkeys(map(nftables.key, identity.addresses(peer)), minor))
    cut = _cut(identity, ingress)
    table = bool(peers or cut or closed)
    doubles = _doubles(identity, egress) if impaired else {}
    return State(
        classes, queues, peers, cut, table=table, closed=closed, netems=netems, doubles=doubles
    )


def arriving(identity: Identity) -> State:
    """Return the kernel state of a switch's port that bounds all that arrives at a node there."""
    if identity.access_down is None:
        return State()
    rate = max(identity.access_down // 8, 1)
    return State({_OTHERS: Rates(rate, rate)}, {_OTHERS: queue(rate, 0.0)})


def _doubles(identity: Identity, egress: Qualities) -> dict[bytes, int]:
    """Return how many packets to each peer's packed addresses are doubled."""
    return {
        nftables.key(address): doubling.threshold(quality.duplicate)
        for peer, quality in egress.items()
        if peer in identity.peers and quality.duplicate and not quality.is_down
        for address in identity.addresses(peer)
    }


def _own_class(
    quality: Quality, access: int | None, impaired: bool
) -> tuple[Rates, Queue, Netem | None] | None:
    """Return the class, queue and netem of a peer; None if it needs none of its own.

    Args:
        quality: what is asked toward the peer.
        access: bytes a second that all that leaves the node shares; None is unbounded.
        impaired: whether netem does what else is asked.
    """
    rate = None if quality.rate is None else max(quality.rate // 8, 1)
    bounded = rate is not None and (access is None or rate < access)
    own = rate if bounded else access
    depth = _UNBOUNDED_QUEUE if own is None else queue(own, quality.delay)
    impairment = netem.netem(quality, own, depth.limit) if impaired else None
    if impaired:
        depth = _marked(depth, cuts=impairment is not None and impairment.is_selective)
    if not (bounded or impairment):
        return None
    ceiling = _UNBOUNDED.ceil if own is None else own
    rates = Rates(ceiling if access is None else _share(ceiling, access), ceiling)
    return rates, depth, impairment


def _marked(depth: Queue, *, cuts: bool) -> Queue:
    """Return a queue that cuts every super-packet if a netem below it is to choose among packets.

    The kernel does not tell the size of the bucket, so the last bit of the limit says it.
    """
    if cuts and depth.bucket > _SMALLEST_BUCKET:
        return Queue(depth.limit | 1, _SMALLEST_BUCKET)
    return Queue(depth.limit & ~1, depth.bucket)


def _cut(identity: Identity, ingress: Qualities) -> frozenset[bytes]:
    """Return the packed addresses of the peers from which nothing is to arrive."""
    down = {peer for peer, quality in ingress.items() if quality.is_down}
    return frozenset(
        nftables.key(address)
        for peer in down & identity.peers.keys()
        for address in identity.addresses(peer)
    )


def _share(rate: int, access: int) -> int:
    return max(min(rate, access // _SHARES), _SMALLEST)


def queue(rate: int, delay: float) -> Queue:
    """Return a bottleneck's queue: one round trip deep, 50 ms at least and never below 32 KiB.

    A super-packet longer than 2 ms at the link's rate is cut into frames, so that it is no burst.

    Args:
        rate: bytes a second.
        delay: one way, in seconds.
    """
    limit = max(int(rate * max(_QUEUE_SECONDS, 2 * delay)), _QUEUE_FLOOR)
    return Queue(limit, max(int(rate * _BUCKET_SECONDS), _SMALLEST_BUCKET))


@dataclass(frozen=True, slots=True)
class Plan:
    """Messages that lead from one state to another, in the order in which they are safe.

    ``retired`` are the classes that ``after`` deletes, with a parent and the rates at which what
    still waits in them may leave.
    """

    before: list[Message] = field(default_factory=list)
    filter: list[Message] = field(default_factory=list)
    after: list[Message] = field(default_factory=list)
    retired: Mapping[int, Retired] = field(default_factory=dict)

    @property
    def actions(self) -> list[str]:
        """What the plan does, a line for each message."""
        return [message.what for part in (self.before, self.filter, self.after) for message in part]


def plan(index: int, now: State, then: State) -> Plan:
    """Return the messages that lead from now to then; none if the two are equal.

    Args:
        index: the interface's index.
        now: what the kernel has.
        then: what it should have.
    """
    before = _root(index, now, then) + _classes(index, now, then)
    before += _queues(index, now, then) + _netems(index, now, then)
    after = _leftover_classes(index, now, then)
    retired = _retired(now, then) if after else {}
    doubled = doubling.change(now.doubles, then.doubles)
    if now.table and not then.table:
        gone = [nftables.delete_table(nftables.SHAPING)]
        return Plan(before, gone + doubled, after, retired)
    made = [] if now.table or not then.table else nftables.shaping_table()
    filters = made + _gate(now, then) + _elements(now, then) + doubled
    return Plan(before, filters, after, retired)


def _gate(now: State, then: State) -> list[Message]:
    if now.closed == then.closed:
        return []
    return nftables.close() if then.closed else nftables.reopen()


def _retired(now: State, then: State) -> dict[int, Retired]:
    whole = now.classes.get(_ACCESS, _UNBOUNDED)
    rates = Rates(whole.ceil, whole.ceil)
    leaves = now.queues.keys() - then.queues.keys()
    return {minor: (_parent(minor, now), rates) for minor in sorted(leaves)}


def _root(index: int, now: State, then: State) -> list[Message]:
    if then.classes and (not now.classes or _default(now) != _default(then)):
        # The default class of an HTB is fixed at its birth.
        gone = [rtnl.delete_root(index, ROOT)] if now.classes else []
        return [*gone, rtnl.htb(index, ROOT, _default(then))]
    return []


def _default(state: State) -> int:
    return _OTHERS if _OTHERS in state.classes else 0


def _classes(index: int, now: State, then: State) -> list[Message]:
    known = now.classes if _default(now) == _default(then) else {}
    return [
        rtnl.htb_class(index, _parent(minor, then), ROOT | minor, rates)
        for minor, rates in sorted(then.classes.items())
        if known.get(minor) != rates
    ]


def _parent(minor: int, state: State) -> int:
    return ROOT | _ACCESS if _ACCESS in state.classes and minor != _ACCESS else ROOT


def _queues(index: int, now: State, then: State) -> list[Message]:
    kept = now.queues if _default(now) == _default(then) else {}
    known = {
        minor: kept[minor] for minor in kept if now.classes.get(minor) == then.classes.get(minor)
    }
    return [
        rtnl.leaf(index, ROOT | minor, minor << 16, wanted_queue)
        for minor, wanted_queue in sorted(then.queues.items())
        if known.get(minor) != wanted_queue
    ]


def _netems(index: int, now: State, then: State) -> list[Message]:
    """Return what sets the impairment of each class that stays or is new."""
    before = now.netems if _default(now) == _default(then) else {}
    fresh = [
        netem.put(index, minor << 16 | 1, _netem_handle(minor), then.netems[minor])
        for minor in sorted(then.netems)
        if before.get(minor) != then.netems[minor]
    ]
    idle = sorted((before.keys() - then.netems.keys()) & then.classes.keys())
    return fresh + [message for minor in idle for message in _pass(index, minor, then)]


def _pass(index: int, minor: int, then: State) -> list[Message]:
    """Return what ends the impairment of a class: what is held leaves first, then a plain queue."""
    parent, handle = minor << 16 | 1, _netem_handle(minor)
    return [
        netem.put(index, parent, handle, Netem(limit=1 << 16)),
        netem.remove(index, parent, handle),
        rtnl.leaf(index, ROOT | minor, minor << 16, then.queues[minor]),
    ]


def _netem_handle(minor: int) -> int:
    return (0x8000 | minor) << 16


def _elements(now: State, then: State) -> list[Message]:
    gone = [address for address, minor in now.peers.items() if then.peers.get(address) != minor]
    fresh = {
        address: ROOT | minor
        for address, minor in then.peers.items()
        if now.peers.get(address) != minor
    }
    table = nftables.SHAPING
    return [
        *_each(nftables.delete_elements, "class", gone),
        *(
            message
            for name, keys in nftables.by_family("class", fresh).items()
            for message in nftables.map_elements(table, name, {key: fresh[key] for key in keys})
        ),
        *_each(nftables.delete_elements, "cut", sorted(now.cut - then.cut)),
        *_each(nftables.add_elements, "cut", sorted(then.cut - now.cut)),
    ]


def _each(
    make: Callable[[str, str, Iterable[bytes]], list[Message]], name: str, keys: Iterable[bytes]
) -> list[Message]:
    found = nftables.by_family(name, keys)
    return [message for known in found for message in make(nftables.SHAPING, known, found[known])]


def _leftover_classes(index: int, now: State, then: State) -> list[Message]:
    if not now.classes:
        return []
    if not then.classes:
        return [rtnl.delete_root(index, ROOT)]
    if _default(now) != _default(then):
        return []
    gone = sorted(set(now.classes) - set(then.classes), reverse=True)
    return [rtnl.delete_class(index, ROOT | minor) for minor in gone]
