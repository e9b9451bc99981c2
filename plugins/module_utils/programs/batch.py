# SPDX-License-Identifier: GPL-3.0-or-later
"""A batch job: take the input, compute, give the output, end.

    batch.py --cpu SECONDS [--in URL|-] [--out URL|-] [--out-bytes N] [--memory BYTES]

The input is a GET, the output a PUT of N bytes; ``-`` is none. Between them the job uses that
much CPU time. It holds its memory from the start, and says READY when it begins. Exit code 1 and
one line say what went wrong.

How fast a job starts is something that experiments measure: hence the C module ``_socket``, whose
face ``socket`` takes longer to import than everything else here.
"""

from __future__ import annotations

import os
import sys
from _socket import (
    AF_INET,
    AF_UNIX,
    SO_RCVTIMEO,
    SO_SNDTIMEO,
    SOCK_DGRAM,
    SOCK_STREAM,
    SOL_SOCKET,
    socket,
)
from struct import pack
from time import thread_time

# Nothing at all for this long means that the other side is lost.
STALLED_SECONDS = 60
READ_BYTES = 1 << 18
LONGEST_HEAD_BYTES = 16384
PAGE_BYTES = 4096
FILLING = bytes(1 << 16)
SPIN = range(200)
USAGE = "usage: batch.py --cpu SECONDS [--in URL|-] [--out URL|-] [--out-bytes N] [--memory BYTES]"


class TransferError(Exception):
    """The input could not be had, or the output not be given."""


def connect(url: str, method: str, size: int) -> socket:
    """Return a socket on which a request's head has been sent."""
    scheme, _, rest = url.partition("://")
    place, slash, path = rest.partition("/")
    host, _, port = place.partition(":")
    if scheme != "http" or not host or not (port or "80").isdigit():
        raise TransferError("not a URL of the form http://HOST[:PORT]/PATH")
    sock = socket(AF_INET, SOCK_STREAM)
    limit = pack("ll", STALLED_SECONDS, 0)
    sock.setsockopt(SOL_SOCKET, SO_RCVTIMEO, limit)
    sock.setsockopt(SOL_SOCKET, SO_SNDTIMEO, limit)
    sock.connect((host, int(port or 80)))
    length = f"Content-Length: {size}\r\n" if method == "PUT" else ""
    head = f"{method} {slash + path or '/'} HTTP/1.1\r\nHost: {host}\r\n{length}"
    sock.sendall(f"{head}Connection: close\r\n\r\n".encode())
    return sock


def read_answer(sock: socket) -> None:
    """Take the whole answer and drop its body.

    Raises:
        TransferError: if its status is no success, or it ends early.
    """
    text = b""
    while b"\r\n\r\n" not in text:
        data = sock.recv(READ_BYTES)
        if not data or len(text) > LONGEST_HEAD_BYTES:
            raise TransferError("the answer is no HTTP")
        text += data
    head, _, body = text.partition(b"\r\n\r\n")
    first, *headers = head.decode("latin-1").lower().split("\r\n")
    if first.split(" ")[1:2] not in (["200"], ["201"], ["204"]):
        raise TransferError(f"the answer was {first!r}")
    drop_body(sock, len(body), headers)


def drop_body(sock: socket, come: int, headers: list[str]) -> None:
    """Read a body to its end and check its length, where the headers tell it."""
    buffer = bytearray(READ_BYTES)
    while count := sock.recv_into(buffer):
        come += count
    for line in headers:
        name, _, value = line.partition(":")
        if name == "content-length" and value.strip() != str(come):
            raise TransferError(f"{come} of {value.strip()} bytes came")


def transfer(url: str, method: str, size: int) -> None:
    """Send that many bytes with the request and drop what is answered; nothing if URL is ``-``.

    Raises:
        TransferError: one line that names the URL.
    """
    if url == "-":
        return
    try:
        sock = connect(url, method, size)
        while size:
            size -= sock.send(FILLING[:size])
        read_answer(sock)
    except BlockingIOError:
        raise TransferError(f"{url}: nothing came for {STALLED_SECONDS} s") from None
    except (OSError, TransferError) as error:
        raise TransferError(f"{url}: {error}") from error


def burn(cpu_seconds: float) -> None:
    """Use that much CPU time of this thread; time spent waiting for a CPU does not count."""
    end = thread_time() + cpu_seconds
    while thread_time() < end:
        for _ in SPIN:
            pass


def occupy(memory_bytes: int) -> bytearray:
    """Return that much memory with every page really there."""
    block = bytearray(memory_bytes)
    block[::PAGE_BYTES] = b"\1" * len(block[::PAGE_BYTES])
    return block


def notify(*lines: str) -> None:
    """Tell whoever started this program how it stands (the sd_notify protocol)."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    job = os.environ.get("PKGCTL_JOB")
    text = "\n".join([f"PKGCTL_JOB={job}", *lines] if job else lines)
    sock = socket(AF_UNIX, SOCK_DGRAM)
    sock.sendto(text.encode(), "\0" + address[1:] if address[0] == "@" else address)
    sock.close()


def options(arguments: list[str]) -> dict[str, str]:
    """Return the values of the command line.

    Raises:
        ValueError: if it is not as the usage says.
    """
    values = {"--cpu": "", "--in": "-", "--out": "-", "--out-bytes": "0", "--memory": "0"}
    for name, value in zip(arguments[::2], arguments[1::2], strict=True):
        if name not in values:
            raise ValueError(f"unknown option {name}")
        values[name] = value
    if not 0.0 <= float(values["--cpu"]) < float("inf"):
        raise ValueError(f"--cpu {values['--cpu']}")
    for name in ("--out-bytes", "--memory"):
        if int(values[name]) < 0:
            raise ValueError(f"{name} {values[name]}")
    return values


def main(arguments: list[str]) -> None:
    """Do the job that the command line describes."""
    try:
        values = options(arguments)
    except ValueError as error:
        print(f"batch.py: {error}; {USAGE}", file=sys.stderr)
        sys.exit(2)
    try:
        memory = occupy(int(values["--memory"]))
        notify("READY=1")
        transfer(values["--in"], "GET", 0)
        burn(float(values["--cpu"]))
        transfer(values["--out"], "PUT", int(values["--out-bytes"]))
        del memory
    except (OSError, MemoryError, TransferError) as error:
        sys.exit(f"batch.py: {error or 'not enough memory'}")


if __name__ == "__main__":
    main(sys.argv[1:])
