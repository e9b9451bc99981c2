# SPDX-License-Identifier: GPL-3.0-or-later
"""Netlink sockets and messages: a batch of requests is one system call.

A socket belongs to the network namespace in which it was made, wherever its owner goes later.
Formats: linux/netlink.h; attributes are four-byte aligned, all numbers in host order unless said.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from .errors import CapabilityError, KernelError

NETLINK_ROUTE = 0
NETLINK_NETFILTER = 12
NLM_F_REQUEST = 0x1
NLM_F_ACK = 0x4
NLM_F_EXCL = 0x200
NLM_F_REPLACE = 0x100
NLM_F_CREATE = 0x400
NLM_F_APPEND = 0x800
NLM_F_DUMP = 0x300
NLMSG_ERROR = 2
NLMSG_DONE = 3
NLM_F_CAPPED = 0x100
NLM_F_ACK_TLVS = 0x200
SOL_NETLINK = 270
NETLINK_CAP_ACK = 10
NETLINK_EXT_ACK = 11
NLMSGERR_ATTR_MSG = 1
SO_SNDBUFFORCE = 32
SO_RCVBUFFORCE = 33

_ATTRIBUTE = struct.Struct("=HH")
_HEADER = struct.Struct("=IHHII")
_BUFFER = 4 << 20
_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class Message:
    """One request: its type, its flags beside NLM_F_REQUEST, its body, and what it is for."""

    kind: int
    flags: int
    body: bytes
    what: str = "netlink request"


def attribute(kind: int, payload: bytes) -> bytes:
    """Return one attribute, padded to four bytes."""
    length = 4 + len(payload)
    return _ATTRIBUTE.pack(length, kind) + payload + b"\0" * (-length % 4)


def nested(kind: int, *attributes: bytes) -> bytes:
    """Return an attribute that holds others."""
    return attribute(kind | 0x8000, b"".join(attributes))


def u32(kind: int, value: int) -> bytes:
    """Return an attribute with a 32-bit number."""
    return attribute(kind, struct.pack("=I", value))


def u64(kind: int, value: int) -> bytes:
    """Return an attribute with a 64-bit number."""
    return attribute(kind, struct.pack("=Q", value))


def be32(kind: int, value: int) -> bytes:
    """Return an attribute with a 32-bit number in network order."""
    return attribute(kind, struct.pack(">I", value))


def text(kind: int, value: str) -> bytes:
    """Return an attribute with a zero-terminated string."""
    return attribute(kind, value.encode() + b"\0")


def attributes(data: bytes, offset: int = 0, most: int = 1 << 16) -> dict[int, bytes]:
    """Return the attributes of data by type (flag bits removed); the last of a type wins.

    Args:
        data: attributes one after another.
        offset: where the first begins.
        most: how many to read; what is not needed often comes last.
    """
    found: dict[int, bytes] = {}
    end = len(data) - 4
    while offset <= end and most:
        length, kind = _ATTRIBUTE.unpack_from(data, offset)
        if length < 4:
            break
        found[kind & 0x3FFF] = data[offset + 4 : offset + length]
        offset += (length + 3) & ~3
        most -= 1
    return found


def attribute_list(data: bytes, offset: int = 0) -> Iterator[tuple[int, bytes]]:
    """Yield (type, payload) of each attribute of data."""
    while offset + 4 <= len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, offset)
        if length < 4:
            return
        yield kind & 0x3FFF, data[offset + 4 : offset + length]
        offset += (length + 3) & ~3


class Socket:
    """A netlink socket of the caller's present network namespace."""

    def __init__(self, protocol: int) -> None:
        """Open a socket for protocol (NETLINK_ROUTE, NETLINK_NETFILTER)."""
        try:
            self.socket = socket.socket(
                socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol
            )
        except OSError as error:
            raise CapabilityError(
                f"no netlink protocol {protocol} here: {error.strerror}"
            ) from error
        for option in (SO_RCVBUFFORCE, SO_SNDBUFFORCE):
            self.socket.setsockopt(socket.SOL_SOCKET, option, _BUFFER)
        self.socket.setsockopt(SOL_NETLINK, NETLINK_CAP_ACK, 1)
        self.socket.setsockopt(SOL_NETLINK, NETLINK_EXT_ACK, 1)
        self.socket.bind((0, 0))
        self._sequence = 0

    def __enter__(self) -> Socket:
        """Return the socket itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the socket."""
        self.close()

    def close(self) -> None:
        """Close the socket."""
        self.socket.close()

    def request(self, messages: Sequence[Message]) -> None:
        """Send messages, in as few system calls as their size allows, and wait until all are done.

        Raises:
            KernelError: with the words of the first request that was refused.
        """
        chunk: list[Message] = []
        size = 0
        for message in messages:
            chunk.append(message)
            size += len(message.body) + _HEADER.size + 3
            if size > _CHUNK:
                self._send_and_wait(chunk)
                chunk, size = [], 0
        if chunk:
            self._send_and_wait(chunk)

    def transaction(self, batch: Sequence[Message]) -> None:
        """Send a batch that nfnetlink takes or refuses as a whole; its ends are the frame.

        Raises:
            KernelError: with the words of the first request that was refused.
        """
        self._send_and_wait(batch, acknowledged=len(batch) - 2)

    def _send_and_wait(self, messages: Sequence[Message], acknowledged: int = -1) -> None:
        first = self._sequence + 1
        final = acknowledged % len(messages)
        data = bytearray()
        for number, message in enumerate(messages):
            flags = NLM_F_REQUEST | message.flags | (NLM_F_ACK if number == final else 0)
            data += self._encode(message.kind, flags, message.body)
        self.socket.sendall(data)
        self._await(first, first + final, messages)

    def _encode(self, kind: int, flags: int, body: bytes) -> bytes:
        self._sequence += 1
        length = _HEADER.size + len(body)
        header = _HEADER.pack(length, kind, flags, self._sequence, 0)
        return header + body + b"\0" * (-length % 4)

    def _await(self, first: int, final: int, messages: Sequence[Message]) -> None:
        failure: KernelError | None = None
        waiting = True
        while waiting:
            for kind, flags, sequence, body in self._receive():
                if kind != NLMSG_ERROR or not first <= sequence < first + len(messages):
                    continue
                code = -struct.unpack_from("=i", body)[0]
                if code and failure is None:
                    what = messages[sequence - first].what
                    failure = KernelError(what, code, _extended(body, flags, code))
                waiting = waiting and sequence != final
        if failure is not None:
            raise failure

    def _receive(self) -> Iterator[tuple[int, int, int, bytes]]:
        data = self.socket.recv(1 << 18)
        offset = 0
        while offset + _HEADER.size <= len(data):
            length, kind, flags, sequence, _ = _HEADER.unpack_from(data, offset)
            yield kind, flags, sequence, data[offset + _HEADER.size : offset + length]
            offset += (length + 3) & ~3

    def dump(self, kind: int, body: bytes, *, what: str = "list") -> list[bytes]:
        """Return the bodies of all objects that a dump request lists.

        Raises:
            KernelError: if the kernel refuses; a dump that was interrupted is taken again.
        """
        while True:
            result, interrupted = self._dump_once(kind, body, what)
            if not interrupted:
                return result

    def _dump_once(self, kind: int, body: bytes, what: str) -> tuple[list[bytes], bool]:
        self.socket.sendall(self._encode(kind, NLM_F_REQUEST | NLM_F_DUMP, body))
        found: list[bytes] = []
        interrupted = False
        while True:
            for reply, flags, sequence, payload in self._receive():
                if sequence != self._sequence:
                    continue
                interrupted = interrupted or bool(flags & 0x10)
                if reply in (NLMSG_DONE, NLMSG_ERROR):
                    code = -struct.unpack_from("=i", payload)[0] if payload else 0
                    if code:
                        raise KernelError(what, code)
                    return found, interrupted
                found.append(payload)

    def get(self, message: Message) -> bytes:
        """Return the body of the one object that message asks for.

        Raises:
            KernelError: if there is none.
        """
        self.socket.sendall(self._encode(message.kind, NLM_F_REQUEST | message.flags, message.body))
        while True:
            for kind, _, sequence, body in self._receive():
                if sequence != self._sequence:
                    continue
                if kind == NLMSG_ERROR:
                    raise KernelError(message.what, -struct.unpack_from("=i", body)[0])
                return body


def _extended(body: bytes, flags: int, code: int) -> str:
    """Return the kernel's own sentence of an error message, if it gave one."""
    if not flags & NLM_F_ACK_TLVS:
        return ""
    offset = 4 + _HEADER.size
    if not flags & NLM_F_CAPPED:
        (length,) = struct.unpack_from("=I", body, 4)
        offset = 4 + ((length + 3) & ~3)
    words = (
        attributes(body, offset).get(NLMSGERR_ATTR_MSG, b"").rstrip(b"\0").decode(errors="replace")
    )
    return f"{os.strerror(code)} ({words})" if words else ""
