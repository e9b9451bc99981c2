# SPDX-License-Identifier: GPL-3.0-or-later
"""The kernel's tables of one network namespace: read as a state of its links, changed by a plan."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import replace

from . import doubling, namespaces, netem, nftables, rtnl, shaping, syscalls
from .errors import DisturbanceError, KernelError
from .identity import Identity
from .netlink import NETLINK_NETFILTER, NETLINK_ROUTE, Socket
from .shaping import ROOT, Plan, Retired, State

# Longer than a queue of 50 ms at its old rate.
_DRAIN_SECONDS = 0.1
# The index of lo in a new network namespace.
_LOOPBACK = 1


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
        netems = {
            each.parent >> 16: netem.read(each.options) for each in found if each.kind == netem.KIND
        }
        return self._read_filter(State(classes, queues, netems=netems))

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
        state = replace(state, doubles=doubling.read(self.filter))
        if not nftables.exists(self.filter, nftables.SHAPING):
            return state
        peers, cut = (self._elements(name) for name in ("class", "cut"))
        return State(
            state.classes,
            state.queues,
            {address: classid & 0xFFFF for address, classid in peers.items()},
            frozenset(cut),
            table=True,
            netems=state.netems,
            closed=nftables.is_closed(self.filter),
            doubles=state.doubles,
        )

    def _elements(self, name: str) -> dict[bytes, int]:
        found = [
            nftables.elements(self.filter, nftables.SHAPING, each)
            for each in nftables.by_family(name, ())
        ]
        return found[0] | found[1]

    def apply(self, plan: Plan) -> None:
        """Carry out a plan: new classes, then the filter, then what is no longer used."""
        self.route.request(plan.before)
        nftables.send(self.filter, plan.filter)
        if plan.retired:
            self._drain(plan.retired)
        self.route.request(plan.after)

    def _drain(self, retired: Mapping[int, Retired]) -> None:
        """Let what still waits in classes go before they are deleted, for it would be lost."""
        waiting = self._waiting(retired)
        for minor in waiting:
            parent, rates = retired[minor]
            self.route.request([rtnl.htb_class(self.index, parent, ROOT | minor, rates)])
        deadline = syscalls.monotonic() + _DRAIN_SECONDS
        while waiting and syscalls.monotonic() < deadline:
            time.sleep(0.001)
            waiting = self._waiting(retired)

    def _waiting(self, minors: Iterable[int]) -> list[int]:
        backlogs = rtnl.backlogs(self.route, self.index)
        return [minor for minor in minors if backlogs.get(ROOT | minor)]


def bound(node: Identity, port: str, *, dry_run: bool = False) -> list[str]:
    """Have all that arrives at a node share its access, and return what that took.

    Args:
        node: the node.
        port: the link that leads to it, in the caller's network, which is the switch.
        dry_run: only say what would be done.

    Raises:
        DisturbanceError: if there is no such link, or somebody else shapes it.
    """
    with Kernel.here(port) as tables:
        plan = shaping.plan(tables.index, tables.read(), shaping.arriving(node))
        if not dry_run:
            tables.apply(plan)
    return plan.actions


def has_netem() -> bool:
    """Return whether the kernel has netem, found out where nothing can be disturbed.

    Raises:
        KernelError: if this process may not make a network of its own to try it in.
    """
    with namespaces.returning("net"):
        syscalls.unshare(syscalls.CLONE_NEWNET)
        with Socket(NETLINK_ROUTE) as route:
            try:
                route.request([netem.put(_LOOPBACK, rtnl.ROOT, ROOT, netem.Netem(limit=1))])
            except KernelError:
                return False
    return True
