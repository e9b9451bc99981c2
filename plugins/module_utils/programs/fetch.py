# SPDX-License-Identifier: GPL-3.0-or-later
"""Download an artifact to a file: whole and right, or not at all.

    fetch.py URL PATH BYTES

The length must be BYTES, and the content must have the CRC-32 that the header ``X-Content-CRC32``
names, where there is one. PATH appears in one step when all of it is there. Exit code 1 and one
line say what went wrong.

The download is a part of a job's start, which experiments measure: hence the C modules ``_socket``
and ``_signal``, whose faces take longer to import than everything else here.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # typeshed knows only its face
import os
import sys
import zlib
from _socket import AF_INET, SO_RCVTIMEO, SO_SNDTIMEO, SOCK_STREAM, SOL_SOCKET, socket
from struct import pack

# Nothing at all for this long means that the source is lost.
STALLED_SECONDS = 60
READ_BYTES = 1 << 18
LONGEST_HEAD_BYTES = 16384


class FetchError(Exception):
    """The artifact could not be had."""


def split_url(url: str) -> tuple[str, int, str]:
    """Return host, port and path of ``http://host[:port]/path``."""
    scheme, _, rest = url.partition("://")
    place, slash, path = rest.partition("/")
    host, _, port = place.partition(":")
    if scheme != "http" or not host or not (port or "80").isdigit():
        raise FetchError(f"{url}: not a URL of the form http://HOST[:PORT]/PATH")
    return host, int(port or 80), slash + path or "/"


def request(url: str) -> socket:
    """Return a socket on which the answer to a GET will arrive."""
    host, port, path = split_url(url)
    sock = socket(AF_INET, SOCK_STREAM)
    limit = pack("ll", STALLED_SECONDS, 0)
    sock.setsockopt(SOL_SOCKET, SO_RCVTIMEO, limit)
    sock.setsockopt(SOL_SOCKET, SO_SNDTIMEO, limit)
    sock.connect((host, port))
    sock.sendall(f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
    return sock


def read_head(sock: socket) -> tuple[dict[str, str], bytes]:
    """Return the headers of a good answer, and the first bytes of its body.

    Raises:
        FetchError: if the answer is no HTTP, or its status is not 200.
    """
    text = b""
    while b"\r\n\r\n" not in text:
        data = sock.recv(READ_BYTES)
        if not data or len(text) > LONGEST_HEAD_BYTES:
            raise FetchError("the answer is no HTTP")
        text += data
    head, _, body = text.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    if first.split(" ")[1:2] != ["200"]:
        raise FetchError(f"the answer was {first!r}")
    pairs = (line.partition(":") for line in lines)
    return {name.lower(): value.strip() for name, _, value in pairs}, body


def copy_body(sock: socket, body: bytes, target: int) -> tuple[int, int]:
    """Write all that comes to a file descriptor; return its length and its CRC-32."""
    buffer = memoryview(bytearray(READ_BYTES))
    size, crc, data = 0, 0, memoryview(body)
    while True:
        size += len(data)
        crc = zlib.crc32(data, crc)
        while data:
            data = data[os.write(target, data) :]
        count = sock.recv_into(buffer)
        if not count:
            return size, crc
        data = buffer[:count]


def download(url: str, target: int, wanted_bytes: int) -> None:
    """Write the artifact to a file descriptor and check it."""
    sock = request(url)
    headers, body = read_head(sock)
    declared = headers.get("content-length", str(wanted_bytes))
    if declared != str(wanted_bytes):
        raise FetchError(f"{declared} bytes are offered, {wanted_bytes} are wanted")
    size, crc = copy_body(sock, body, target)
    if size != wanted_bytes:
        raise FetchError(f"{size} bytes came, {wanted_bytes} are wanted")
    expected = headers.get("x-content-crc32", f"{crc:08x}")
    if expected != f"{crc:08x}":
        raise FetchError(f"the content's CRC-32 is {crc:08x}, the source says {expected}")


def fetch(url: str, path: str, wanted_bytes: int) -> None:
    """Bring the artifact to the path in one step; its folder is made if need be."""
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)  # noqa: PTH103, PTH120 (see below)
    partial = f"{path}.{os.getpid()}.part"
    target = -1
    try:
        target = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        download(url, target, wanted_bytes)
        os.rename(partial, path)  # noqa: PTH104 (pathlib costs as much time as the rest)
    except BaseException:
        # Called off at any moment, also just before or after the file came to be.
        if os.path.exists(partial):  # noqa: PTH110 (see above)
            os.unlink(partial)  # noqa: PTH108 (see above)
        raise
    finally:
        if target >= 0:
            os.close(target)


def main(arguments: list[str]) -> None:
    """Fetch what the command line names."""
    if len(arguments) != 3 or not arguments[2].isdecimal():
        print("usage: fetch.py URL PATH BYTES", file=sys.stderr)
        sys.exit(2)
    # So that a fetch that is called off leaves no partial file.
    _signal.signal(_signal.SIGTERM, lambda *_: sys.exit("fetch.py: called off"))
    url, path, size = arguments
    try:
        fetch(url, path, int(size))
    except BlockingIOError:
        sys.exit(f"fetch.py: {url}: nothing came for {STALLED_SECONDS} s")
    except (OSError, FetchError) as error:
        sys.exit(f"fetch.py: {url}: {error}")


if __name__ == "__main__":
    main(sys.argv[1:])
