# SPDX-License-Identifier: GPL-3.0-or-later
"""The programs of the nodes, started as a node starts them."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.programs.starting import PATIENCE_SECONDS, Start, Started, command


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start programs, wait until each is ready, and end what still runs after the test."""
    address = str(tmp_path / "notify")
    processes: list[subprocess.Popen[str]] = []
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notices:
        notices.bind(address)
        notices.settimeout(PATIENCE_SECONDS)

        def begin(program: str, *arguments: object) -> Started:
            environment = {**os.environ, "NOTIFY_SOCKET": address, "PKGCTL_JOB": "job-1"}
            process = subprocess.Popen(
                command(program, *arguments), env=environment, stderr=subprocess.PIPE, text=True
            )
            processes.append(process)
            return Started(process, notices.recv(4096).decode().split("\n"))

        yield begin
        for process in processes:
            process.kill()
            process.communicate(timeout=PATIENCE_SECONDS)


@pytest.fixture
def free_port() -> int:
    """Return a port on which nobody listens."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])
