# SPDX-License-Identifier: GPL-3.0-or-later
"""What the delay line has of the switch between the nodes: queues, sets of pairs, a way to send."""

from __future__ import annotations

import socket
from contextlib import nullcontext
from pathlib import Path

from . import namespaces
from .netlink import NETLINK_NETFILTER, Socket
from .nftables import QUEUES
from .packetqueue import PacketQueue
from .packets import Sender
from .pairsets import STARTS, PairSets

# Up to the end of the destination address.
_COPIED = {8: 20, 32: 40}


class Switch:
    """The switch's side of the delay line, in the network namespace of whoever makes it.

    Attributes:
        starts: the queues of which each packet's start is copied, by the length of a key.
        whole: the queues of whole frames, by the length of a key.
        sets: which pairs are queued.
        sender: sends copies of packets.
    """

    def __init__(self) -> None:
        """Listen on the queues.

        Raises:
            KernelError: if another process does.
            CapabilityError: if the kernel has no such queues.
            DisturbanceError: if somebody else's table has the name of ours.
        """
        self.starts: dict[int, PacketQueue] = {}
        self.whole: dict[int, PacketQueue] = {}
        for (name, family), number in QUEUES.items():
            length = 8 if family == socket.AF_INET else 32
            kind = self.starts if name == STARTS else self.whole
            kind[length] = PacketQueue(number, _COPIED[length] if name == STARTS else None)
        self.sets = PairSets(Socket(NETLINK_NETFILTER))
        self.sender = Sender()


def open_switch(directory: Path) -> Switch:
    """Return the switch of the testbed in directory, or else of the caller's own network."""
    pin = directory / "ns" / ".switch" / "net"
    with namespaces.in_network(pin) if pin.exists() else nullcontext():
        return Switch()
