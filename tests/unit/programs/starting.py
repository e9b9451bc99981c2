# SPDX-License-Identifier: GPL-3.0-or-later
"""How the tests run the programs of the nodes: as a node does, on loopback and free ports."""

from __future__ import annotations

import contextlib
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ansible_collections.pkgctl.testbed.plugins.module_utils.programs import service

PATIENCE_SECONDS = 30.0


@dataclass(frozen=True)
class Started:
    """A program that has said it is ready."""

    process: subprocess.Popen[str]
    notice: list[str]

    @property
    def port(self) -> int:
        return int(self.notice[-1].rpartition(" ")[2])

    def end(self) -> tuple[int, str]:
        """Wait for the program's end; return its exit code and what it said on stderr."""
        _, said = self.process.communicate(timeout=PATIENCE_SECONDS)
        return self.process.returncode, said


Start = Callable[..., Started]


def command(program: str, *arguments: object) -> list[str]:
    """Return the command line with which a node runs a program."""
    file = Path(service.__file__).with_name(f"{program}.py")
    return [sys.executable, "-S", "-E", str(file), *map(str, arguments)]


def run(program: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run a program to its end."""
    return subprocess.run(
        command(program, *arguments), capture_output=True, text=True, timeout=PATIENCE_SECONDS
    )


@contextlib.contextmanager
def answering(*replies: bytes | None) -> Iterator[tuple[int, list[bytes]]]:
    """A server whose n-th connection gets the n-th reply and is closed; None is never answered.

    Yields its port, and the list of what each connection asked for.
    """
    heard: list[bytes] = []
    kept: list[socket.socket] = []

    def serve() -> None:
        for reply in replies:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            client.settimeout(PATIENCE_SECONDS)
            kept.append(client)
            if reply is None:
                continue
            heard.append(_request(client))
            client.sendall(reply)
            client.close()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listener.getsockname()[1], heard
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(PATIENCE_SECONDS)
            for client in kept:
                client.close()


def _request(client: socket.socket) -> bytes:
    """Take a whole request: whoever closes before what came is read resets the connection."""
    heard = b""
    while b"\r\n\r\n" not in heard:
        if not (came := client.recv(65536)):
            return heard
        heard += came
    head, _, body = heard.partition(b"\r\n\r\n")
    length = re.search(rb"(?im)^content-length: *(\d+)", head)
    left = (int(length[1]) if length else 0) - len(body)
    while left > 0 and (came := client.recv(min(left, 65536))):
        heard += came
        left -= len(came)
    return heard
