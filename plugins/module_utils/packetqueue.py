# SPDX-License-Identifier: GPL-3.0-or-later
"""The kernel's packet queues (NFQUEUE): packets come with an id, and wait there for a verdict.

Only the start of a packet is copied to us where that is enough; the packet itself never leaves the
kernel. Wire format: linux/netfilter/nfnetlink_queue.h.
"""

from __future__ import annotations

import socket
import struct

from .netlink import NETLINK_NETFILTER, SO_RCVBUFFORCE, Message, Socket, attribute, be32

PACKET_ID = slice(24, 28)

_SUBSYSTEM = 3 << 8
_VERDICT, _CONFIG = 1, 2
_BIND, _COPY_PACKET, _GSO = 1, 2, 4
_DROP, _ACCEPT = 0, 1
_PAYLOAD = 10
_LONGEST_QUEUE = 1 << 16
_WHOLE = 0xFFFF
_KIND = slice(4, 6)
_PACKET = struct.pack("=H", _SUBSYSTEM)
_FIRST_ATTRIBUTE = 20
_ATTRIBUTE = struct.Struct("=HH")
_NO_ENOBUFS = 5
_SOL_NETLINK = 270
# Whole frames take more of a socket's buffer: room for a tenth of a second at a gigabit.
_FRAMES_BUFFER = 16 << 20
# A verdict with its header: 32 bytes; some of them hold a packet.
_AT_ONCE = 256


def verdict_prefix(queue: int, verdict: int, length: int = 32) -> bytes:
    """Return a verdict message up to the packet id that completes it."""
    head = struct.pack("=IHHII", length, _SUBSYSTEM | _VERDICT, 1, 0, 0)
    generic = struct.pack(">BBH", 0, 0, queue)
    return head + generic + struct.pack("=HH", 12, 2) + struct.pack(">I", verdict)


def is_packet(message: bytes) -> bool:
    """Return whether a message of a queue is a packet, and no word about an earlier verdict."""
    return message[_KIND] == _PACKET


def packet_place(message: bytes) -> slice:
    """Return where in a message the packet is; an empty place if it holds none."""
    offset = _FIRST_ATTRIBUTE
    while offset + 4 <= len(message):
        length, kind = _ATTRIBUTE.unpack_from(message, offset)
        if kind == _PAYLOAD:
            return slice(offset + 4, offset + length)
        offset += max((length + 3) & ~3, 4)
    return slice(0, 0)


class PacketQueue:
    """One queue of the network namespace in which it was made.

    Attributes:
        receive: returns the next message; raises BlockingIOError if none waits.
        room: how many bytes a message may have.
        accept: a verdict up to the packet id: let it go on.
        drop: the same: forget it.
        ready: verdicts that are to be given with the next flush.
    """

    def __init__(self, number: int, copied: int | None) -> None:
        """Listen on a queue.

        Args:
            number: which one.
            copied: how many bytes of a packet to hand over, super-packets as they are; None hands
                over each frame by itself and whole, its checksums filled in.

        Raises:
            KernelError: if another process listens on the queue.
            CapabilityError: if the kernel has none.
        """
        self._netlink = Socket(NETLINK_NETFILTER)
        self._netlink.socket.setsockopt(_SOL_NETLINK, _NO_ENOBUFS, 1)
        generic = struct.pack(">BBH", 2, 0, number)
        ways = be32(4, _GSO) + be32(5, 0 if copied is None else _GSO)
        amount = struct.pack(">IB", copied or _WHOLE, _COPY_PACKET)
        if copied is None:
            self._netlink.socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, _FRAMES_BUFFER)
        settings = (
            attribute(1, struct.pack(">BxH", _BIND, 2)),
            attribute(2, amount) + be32(3, _LONGEST_QUEUE),
            ways,
        )
        what = f"listen on packet queue {number}"
        for part in settings:
            self._netlink.request([Message(_SUBSYSTEM | _CONFIG, 0, generic + part, what)])
        self._netlink.socket.setblocking(False)
        self.receive = self._netlink.socket.recv
        self.room = 4096 if copied else _WHOLE + 4096
        self.accept = verdict_prefix(number, _ACCEPT)
        self.drop = verdict_prefix(number, _DROP)
        self.ready: list[bytes] = []
        self._number = number
        self._start = 0

    def fileno(self) -> int:
        """Return the descriptor on which packets arrive."""
        return self._netlink.socket.fileno()

    def packet(self, message: bytes) -> bytes:
        """Return the packet that a message holds; empty if it holds none."""
        start = self._start
        # Nearly always it begins where it did in the message before.
        if len(message) >= start >= _FIRST_ATTRIBUTE + 4:
            length, kind = _ATTRIBUTE.unpack_from(message, start - 4)
            if kind == _PAYLOAD and 0 <= len(message) - start + 4 - length < 4:
                return message[start : start - 4 + length]
        place = packet_place(message)
        self._start = place.start
        return message[place]

    def accept_as(self, identity: bytes, packet: bytes) -> bytes:
        """Return the verdict that lets another packet go on in place of the one with an id."""
        part = attribute(_PAYLOAD, packet)
        return verdict_prefix(self._number, _ACCEPT, 32 + len(part)) + identity + part

    def flush(self) -> None:
        """Give the kernel the verdicts that are ready, many with one system call."""
        verdicts = self.ready
        for start in range(0, len(verdicts), _AT_ONCE):
            self._netlink.socket.send(b"".join(verdicts[start : start + _AT_ONCE]))
        verdicts.clear()

    def close(self) -> None:
        """Stop listening; what waits is dropped by the kernel."""
        self._netlink.close()
