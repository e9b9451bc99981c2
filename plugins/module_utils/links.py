# SPDX-License-Identifier: GPL-3.0-or-later
"""A node's links: what its layers ask for, what the kernel has, and the messages between the two.

What leaves the node is bounded by an HTB tree: one class for the node's access rate, under it one
for each peer whose own rate is lower. An nftables map from the peer's address to its class sets the
packet's priority, from which HTB takes the class, so that a packet's cost does not grow with peers.
From a peer whose link is down nothing arrives. Delay, jitter and loss are the delay line's, which
reads what the layers ask for by itself when it is told that they have changed.

So of a directed pair the sender acts on the rate, others on the rest, and both ends are told all.
Rates count Ethernet frames (14 bytes of header, no preamble or checksum), as the kernel does.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from . import delayclient, layers, nftables, rtnl
from .change import Change
from .errors import DisturbanceError
from .identity import Identity
from .netlink import NETLINK_NETFILTER, NETLINK_ROUTE, Message, Socket
from .quality import UNSHAPED, Quality, compose
from .rtnl import Queue, Rates
from .units import show_rate

STORE = "links.json"
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

Qualities = Mapping[str, Quality]


@dataclass(frozen=True, slots=True)
class State:
    """The kernel's side of a node's links.

    Attributes:
        classes: HTB classes by minor number.
        queues: the queue of each class.
        peers: the class (minor) of each peer, by packed address.
        cut: packed addresses from which nothing arrives.
        table: whether the nftables table is there.
    """

    classes: Mapping[int, Rates] = field(default_factory=dict)
    queues: Mapping[int, Queue] = field(default_factory=dict)
    peers: Mapping[bytes, int] = field(default_factory=dict)
    cut: frozenset[bytes] = frozenset()
    table: bool = False

    def show(self) -> str:
        """Return the state as text, one fact a line."""
        lines = [
            f"class {minor:x}: {show_rate(rates.ceil * 8)}{self._queue(minor)}"
            for minor, rates in sorted(self.classes.items())
        ]
        lines += [
            f"to {_dotted(peer)}: class {minor:x}" for peer, minor in sorted(self.peers.items())
        ]
        lines += [f"from {_dotted(peer)}: nothing" for peer in sorted(self.cut)]
        return "".join(f"{line}\n" for line in lines)

    def _queue(self, minor: int) -> str:
        return f", queue {self.queues[minor].limit} bytes" if minor in self.queues else ""


def _dotted(packed: bytes) -> str:
    return ".".join(map(str, packed))


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the layers of a node add up to: the quality toward and from each peer that has one."""

    egress: Qualities
    ingress: Qualities


def body(egress: Qualities, ingress: Qualities) -> layers.Body:
    """Return a layer's content, ready for JSON."""
    # Equal qualities are written from one dictionary: a node has many peers and few kinds of them.
    known = {each: each.to_dict() for each in {*egress.values(), *ingress.values()}}
    return {
        way: {peer: known[each] for peer, each in qualities.items()}
        for way, qualities in (("egress", egress), ("ingress", ingress))
    }


def wanted(stored: layers.Layers) -> Wanted:
    """Return what the layers add up to."""
    return Wanted(*(_composed(stored.values(), way) for way in ("egress", "ingress")))


def _composed(bodies: Iterable[layers.Body], way: str) -> dict[str, Quality]:
    parts: dict[str, list[Quality]] = {}
    for content in bodies:
        for peer, numbers in content.get(way, {}).items():
            parts.setdefault(peer, []).append(Quality.from_dict(numbers))
    composed = {
        peer: found[0] if len(found) == 1 else compose(*found) for peer, found in parts.items()
    }
    return {peer: quality for peer, quality in composed.items() if quality != UNSHAPED}


def wanted_state(identity: Identity, asked: Wanted) -> State:
    """Return the kernel state that gives a node what its layers ask for."""
    access = identity.access // 8 if identity.access else None
    classes: dict[int, Rates] = {}
    queues: dict[int, Queue] = {}
    peers: dict[bytes, int] = {}
    if access is not None:
        classes[_ACCESS] = Rates(access, access)
        classes[_OTHERS] = Rates(_share(access, access), access)
        queues[_OTHERS] = queue(access, 0.0)
    for peer, quality in asked.egress.items():
        rate = None if quality.rate is None else max(quality.rate // 8, 1)
        if rate is None or peer not in identity.peers or (access is not None and rate >= access):
            continue
        minor = _FIRST_PEER + identity.number(peer)
        classes[minor] = Rates(rate if access is None else _share(rate, access), rate)
        queues[minor] = queue(rate, quality.delay)
        peers[nftables.key(identity.peers[peer])] = minor
    # A layer outlives the peers that it names.
    down = {peer for peer, quality in asked.ingress.items() if quality.is_down}
    cut = frozenset(nftables.key(identity.peers[peer]) for peer in down & identity.peers.keys())
    return State(classes, queues, peers, cut, table=bool(peers or cut))


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


class Kernel:
    """The kernel's tables of one network namespace, through two sockets in it."""

    def __init__(self, route: Socket, filter_: Socket, index: int, interface: str) -> None:
        """Use sockets that are open already, for one interface."""
        self.route = route
        self.filter = filter_
        self.index = index
        self.interface = interface

    @classmethod
    def here(cls, interface: str) -> Kernel:
        """Open the sockets in the caller's network namespace and find the interface.

        Raises:
            KernelError: if there is no such interface.
        """
        route, filter_ = Socket(NETLINK_ROUTE), Socket(NETLINK_NETFILTER)
        return cls(route, filter_, rtnl.link_index(route, interface), interface)

    def __enter__(self) -> Kernel:
        """Return the kernel itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the sockets."""
        self.route.close()
        self.filter.close()

    def read(self) -> State:
        """Return the present state.

        Raises:
            DisturbanceError: if somebody else's discipline is at the root of the interface.
        """
        found = rtnl.disciplines(self.route, self.index)
        if not self._is_ours(found):
            return self._read_filter(State())
        classes = {
            classid & 0xFFFF: rates
            for classid, rates in rtnl.classes(self.route, self.index).items()
        }
        queues = {leaf.parent & 0xFFFF: leaf.queue for leaf in found if leaf.queue is not None}
        return self._read_filter(State(classes, queues))

    def _is_ours(self, found: list[rtnl.Discipline]) -> bool:
        for discipline in found:
            if discipline.parent != rtnl.ROOT:
                continue
            if discipline.handle == ROOT:
                return True
            if discipline.handle:
                raise DisturbanceError(
                    f"{self.interface} has a root qdisc that is not ours: {discipline.kind}"
                    f" {rtnl.show_handle(discipline.handle)}; remove it or name another interface"
                )
        return False

    def _read_filter(self, state: State) -> State:
        if not nftables.exists(self.filter, nftables.SHAPING):
            return state
        peers = nftables.elements(self.filter, nftables.SHAPING, "class")
        return State(
            state.classes,
            state.queues,
            {address: classid & 0xFFFF for address, classid in peers.items()},
            frozenset(nftables.elements(self.filter, nftables.SHAPING, "cut")),
            table=True,
        )

    def apply(self, plan: Plan) -> None:
        """Carry out a plan: new classes, then the filter, then what is no longer used."""
        self.route.request(plan.before)
        nftables.send(self.filter, plan.filter)
        self.route.request(plan.after)


@dataclass(frozen=True, slots=True)
class Plan:
    """Messages that lead from one state to another, in the order in which they are safe."""

    before: list[Message] = field(default_factory=list)
    filter: list[Message] = field(default_factory=list)
    after: list[Message] = field(default_factory=list)

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
    before = _root(index, now, then) + _classes(index, now, then) + _queues(index, now, then)
    after = _leftover_classes(index, now, then)
    if now.table and not then.table:
        return Plan(before, [nftables.delete_table(nftables.SHAPING)], after)
    made = [] if now.table or not then.table else nftables.shaping_table()
    return Plan(before, made + _elements(now, then), after)


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


def _elements(now: State, then: State) -> list[Message]:
    gone = [address for address, minor in now.peers.items() if then.peers.get(address) != minor]
    fresh = {
        address: ROOT | minor
        for address, minor in then.peers.items()
        if now.peers.get(address) != minor
    }
    table = nftables.SHAPING
    return [
        *nftables.delete_elements(table, "class", gone),
        *nftables.map_elements(table, "class", fresh),
        *nftables.delete_elements(table, "cut", sorted(now.cut - then.cut)),
        *nftables.add_elements(table, "cut", sorted(then.cut - now.cut)),
    ]


def _leftover_classes(index: int, now: State, then: State) -> list[Message]:
    if not now.classes:
        return []
    if not then.classes:
        return [rtnl.delete_root(index, ROOT)]
    if _default(now) != _default(then):
        return []
    gone = sorted(set(now.classes) - set(then.classes), reverse=True)
    return [rtnl.delete_class(index, ROOT | minor) for minor in gone]


def change(
    identity: Identity,
    *,
    layer: str | None,
    egress: Qualities | None = None,
    ingress: Qualities | None = None,
    present: bool = True,
    dry_run: bool = False,
) -> Change:
    """Set or take away one layer of this node's links and bring the kernel to what all layers ask.

    Args:
        identity: the node, in whose network namespace the caller is.
        layer: its name; None with present=False takes away all but base.
        egress: the quality of each direction from this node to a peer.
        ingress: the quality of each direction from a peer to this node. Every directed pair is
            given to both its ends: to the sender as egress, to the receiver as ingress.
        present: whether the layer should be there.
        dry_run: only say what would be done.

    Returns:
        What changed.

    Raises:
        DisturbanceError: one line; a refused request leaves the layer stored, to be tried again.
    """
    egress, ingress = egress or {}, ingress or {}
    identity.check_peers({**egress, **ingress})
    path = Path(identity.directory, STORE)
    with layers.locked(path), Kernel.here(identity.interface) as kernel:
        stored = layers.load(path)
        fresh = layers.changed(stored, layer, body(egress, ingress) if present else None)
        return _converge(identity, kernel, path, stored, fresh, dry_run=dry_run)


def _converge(
    identity: Identity,
    kernel: Kernel,
    path: Path,
    stored: layers.Layers,
    fresh: layers.Layers,
    *,
    dry_run: bool,
) -> Change:
    now, asked = kernel.read(), wanted(fresh)
    then = wanted_state(identity, asked)
    steps = plan(kernel.index, now, then)
    delays_before, delays = (
        delayclient.table(identity, wanted(stored).ingress),
        delayclient.table(identity, asked.ingress),
    )
    actions = steps.actions + delayclient.actions(delays_before, delays)
    if not dry_run:
        if fresh != stored:
            layers.save(path, fresh)
        if delays or delays_before:
            delayclient.announce(identity, required=bool(delays))
        kernel.apply(steps)
    return Change(
        changed=bool(actions) or fresh != stored,
        before=now.show() + delayclient.show(delays_before),
        after=then.show() + delayclient.show(delays),
        actions=actions,
    )
