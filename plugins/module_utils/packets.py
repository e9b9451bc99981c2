# SPDX-License-Identifier: GPL-3.0-or-later
"""IP packets as bytes: damaged, copied as a router would forward them, and sent from here."""

from __future__ import annotations

import random
import socket
from contextlib import suppress

_IPV4_TTL, _IPV6_HOPS = 8, 7
_IPV6_HEADER = 40


def header_length(packet: bytes) -> int:
    """Return the length of the IP header, options of IPv4 included."""
    return _IPV6_HEADER if packet[0] >> 4 == 6 else 4 * (packet[0] & 15)


def damaged(packet: bytes, source: random.Random) -> bytes:
    """Return the packet with one bit flipped behind its IP header; as it is if nothing is there."""
    start = header_length(packet)
    if len(packet) <= start:
        return packet
    place = source.randrange(8 * start, 8 * len(packet))
    changed = bytearray(packet)
    changed[place >> 3] ^= 1 << (place & 7)
    return bytes(changed)


def forwarded(packet: bytes) -> bytes:
    """Return the packet one hop further; empty if it may go none.

    The checksum of IPv4's header is left to whoever sends it.
    """
    place = _IPV6_HOPS if packet[0] >> 4 == 6 else _IPV4_TTL
    if packet[place] <= 1:
        return b""
    return packet[:place] + bytes([packet[place] - 1]) + packet[place + 1 :]


def destination(packet: bytes) -> str:
    """Return the address to which a packet goes."""
    if packet[0] >> 4 == 6:
        return socket.inet_ntop(socket.AF_INET6, packet[24:40])
    return socket.inet_ntop(socket.AF_INET, packet[16:20])


class Sender:
    """Sends whole IP packets into the network namespace in which it was made.

    Attributes:
        ready: packets that are to be sent with the next flush.
    """

    def __init__(self) -> None:
        """Open the sockets; of IPv6 only where the kernel has it."""
        kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
        self._sockets = {4: socket.socket(socket.AF_INET, kind, socket.IPPROTO_RAW)}
        with suppress(OSError):
            self._sockets[6] = socket.socket(socket.AF_INET6, kind, socket.IPPROTO_RAW)
        self.ready: list[bytes] = []

    def flush(self) -> None:
        """Send what is ready, with its own headers; what cannot be sent is lost, as on any link."""
        for packet in self.ready:
            with suppress(OSError, LookupError):
                self._sockets[packet[0] >> 4].sendto(packet, (destination(packet), 0))
        self.ready.clear()

    def close(self) -> None:
        """Close the sockets."""
        for each in self._sockets.values():
            each.close()
