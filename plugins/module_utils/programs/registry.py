# SPDX-License-Identifier: GPL-3.0-or-later
"""A store of artifacts of any size that takes no space and next to no CPU time.

    registry.py --port PORT

``GET /artifacts/NAME?bytes=N`` streams N bytes that follow from the name alone: one block, made
from the name and hard to compress, over and over. ``X-Content-CRC32`` carries the CRC-32 of the
whole, which is computed from the block's without running through the content. ``PUT
/objects/NAME`` takes a body, drops it, and answers how many bytes came.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import json
import os
import signal
import socket
import sys
import zlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

BLOCK_BYTES = 1 << 16
LARGEST_BYTES = 1 << 44
# A client that takes or gives nothing for this long has vanished.
STALLED_SECONDS = 300.0
# The generator polynomial of CRC-32 with its bits reversed, as zlib has it.
POLYNOMIAL = 0xEDB88320
ONE = 1 << 31


@functools.lru_cache(maxsize=64)
def block_of(name: str) -> bytes:
    """Return the block that an artifact repeats."""
    return hashlib.shake_128(name.encode()).digest(BLOCK_BYTES)


def multiply(left: int, right: int) -> int:
    """Return the product of two polynomials over GF(2), modulo CRC-32's (bit 31 is x**0)."""
    product = 0
    for bit in range(31, -1, -1):
        if left >> bit & 1:
            product ^= right
        right = right >> 1 ^ (POLYNOMIAL if right & 1 else 0)
    return product


def shift_over(size: int) -> int:
    """Return x**(8 * size) modulo the polynomial: what that many following bytes do to a CRC."""
    result, power = ONE, ONE >> 8
    while size:
        if size & 1:
            result = multiply(result, power)
        power = multiply(power, power)
        size >>= 1
    return result


@functools.lru_cache(maxsize=1024)
def checksum(name: str, size: int) -> int:
    """Return the CRC-32 of the first ``size`` bytes of an artifact, in time logarithmic in size."""
    block = block_of(name)
    count, rest = divmod(size, BLOCK_BYTES)
    total, crc, length = 0, zlib.crc32(block), BLOCK_BYTES
    while count:
        if count & 1:
            total = multiply(total, shift_over(length)) ^ crc
        crc = multiply(crc, shift_over(length)) ^ crc
        length *= 2
        count >>= 1
    return multiply(total, shift_over(rest)) ^ zlib.crc32(block[:rest])


class Handler(BaseHTTPRequestHandler):
    """One client of the registry."""

    protocol_version = "HTTP/1.1"
    timeout = STALLED_SECONDS
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        """Stream an artifact, or say that the registry is there."""
        address = urlsplit(self.path)
        if address.path == "/healthz":
            self.send_text("ok\n")
            return
        name = address.path.removeprefix("/artifacts/")
        size = self.size_asked(address.query)
        if not name or name == address.path:
            self.send_error(404, "ask for /artifacts/NAME?bytes=N")
        elif size is None:
            self.send_error(400, "say how many bytes: /artifacts/NAME?bytes=N")
        else:
            self.send_artifact(name, size)

    def do_PUT(self) -> None:
        """Take an object, drop it, and say how many bytes it had."""
        length = self.headers.get("Content-Length", "")
        if not self.path.startswith("/objects/"):
            self.refuse(404, "put to /objects/NAME")
        elif not length.isdecimal():
            self.refuse(411, "an object needs its Content-Length")
        else:
            self.send_text(json.dumps({"bytes": self.drop(int(length))}) + "\n")

    def refuse(self, status: int, reason: str) -> None:
        """Answer an error without reading the body that follows."""
        self.close_connection = True
        self.send_error(status, reason)

    def drop(self, length: int) -> int:
        """Read a body of that length and return how much of it came."""
        left = length
        while left:
            data = self.rfile.read1(min(left, BLOCK_BYTES))
            if not data:
                raise ConnectionAbortedError(f"the body ended {left} bytes early")
            left -= len(data)
        return length

    def size_asked(self, query: str) -> int | None:
        """Return the number of bytes that a query names, or None if it names none."""
        text = parse_qs(query).get("bytes", [""])[0]
        size = int(text) if text.isdecimal() else None
        return size if size is not None and size <= LARGEST_BYTES else None

    def send_artifact(self, name: str, size: int) -> None:
        """Stream the content that belongs to the name."""
        self.send_response(200)
        self.send_header("Content-Type", "application/octet-stream")
        self.send_header("Content-Length", str(size))
        self.send_header("X-Content-CRC32", f"{checksum(name, size):08x}")
        self.end_headers()
        block = memoryview(block_of(name))
        while size:
            part = block[: min(size, BLOCK_BYTES)]
            self.wfile.write(part)
            size -= len(part)

    def send_text(self, text: str) -> None:
        """Answer a short text."""
        self.send_response(200)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, format: str, *args: object) -> None:
        """Keep quiet: the log would grow with the load."""


class Registry(ThreadingHTTPServer):
    """The registry's server: a thread for each client, for they mostly wait for the network."""

    request_queue_size = 1024
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Say in one line that a client was lost; clients may vanish at any time."""
        print(f"registry.py: {client_address}: {sys.exception()!r}", file=sys.stderr)


def notify(*lines: str) -> None:
    """Tell whoever started this program how it stands (the sd_notify protocol)."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    job = os.environ.get("PKGCTL_JOB")
    text = "\n".join([f"PKGCTL_JOB={job}", *lines] if job else lines)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.sendto(text.encode(), "\0" + address[1:] if address[0] == "@" else address)


def main() -> None:
    """Serve until told to end."""
    parser = argparse.ArgumentParser(prog="registry.py", description="Serve artifacts.")
    parser.add_argument("--port", type=int, required=True, help="TCP port; 0 takes any free one")
    port = parser.parse_args().port
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        server = Registry(("0.0.0.0", port), Handler)
        notify("READY=1", f"STATUS=listening on port {server.server_address[1]}")
    except (OSError, OverflowError) as error:
        sys.exit(f"registry.py: cannot start: {error}")
    server.serve_forever()


if __name__ == "__main__":
    main()
