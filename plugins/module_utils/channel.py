# SPDX-License-Identifier: GPL-3.0-or-later
"""The words between the node agent, the delay line and those who ask them: one JSON object a line.

A unix stream socket that only its owner may open; a message is one mebibyte at most.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .errors import AgentError

# Where the agent listens, below a testbed's folder, and below each node's own.
AGENT = "agent/agent.sock"
# Where the one listens who answers for the agents of nodes that are machines of their own.
RELAY = "agent/relay.sock"
LONGEST = 1 << 20
Body = dict[str, Any]


def listen(path: Path) -> socket.socket:
    """Return a socket that listens at path, for its owner only; a stale one is replaced."""
    path.unlink(missing_ok=True)
    server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    server.bind(str(path))
    path.chmod(0o600)
    server.listen(512)
    return server


def encode(message: Body) -> bytes:
    """Return a message as one line.

    Raises:
        AgentError: if it is too long.
    """
    line = json.dumps(message, separators=(",", ":")).encode() + b"\n"
    if len(line) > LONGEST:
        raise AgentError(f"a message of {len(line)} bytes is too long: {LONGEST} is the most")
    return line


def decode(line: bytes) -> Body:
    """Return the message of one line.

    Raises:
        AgentError: if it is no JSON object.
    """
    try:
        message = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise AgentError(f"not a message: {error}") from error
    if not isinstance(message, dict):
        raise AgentError("not a message: no JSON object")
    return message


class Client:
    """A connection to an agent."""

    def __init__(self, path: str | Path, *, timeout: float | None = 30.0) -> None:
        """Connect to the agent that listens at path; timeout is in seconds.

        Raises:
            AgentError: if nobody listens there.
        """
        self._path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        self._socket.settimeout(timeout)
        try:
            self._socket.connect(str(path))
        except OSError as error:
            self._socket.close()
            raise AgentError(f"nobody answers at {path}: {error.strerror or error}") from error
        self._lines = self._socket.makefile("rb")

    def __enter__(self) -> Client:
        """Return the client itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Hang up."""
        self.close()

    def close(self) -> None:
        """Hang up."""
        self._lines.close()
        self._socket.close()

    def fileno(self) -> int:
        """Return the socket's descriptor, to wait on."""
        return self._socket.fileno()

    def send(self, op: str, **fields: Any) -> None:
        """Send a request; its answer is the next message.

        Raises:
            OSError: if the agent went away.
        """
        self._socket.sendall(encode({"op": op, **fields}))

    def call(self, op: str, **fields: Any) -> Body:
        """Return the agent's answer to one request.

        Raises:
            AgentError: with the agent's own words if it refuses, or if it went away.
        """
        try:
            self.send(op, **fields)
            answer = self._next()
        except OSError as error:
            raise AgentError(f"the agent at {self._path} did not answer {op}: {error}") from error
        if answer is None:
            raise AgentError(f"the agent at {self._path} hung up during {op}")
        if not answer.get("ok"):
            raise AgentError(str(answer.get("error", f"{op} failed")))
        return answer

    def stream(self, op: str, **fields: Any) -> Iterator[Body]:
        """Yield what the agent sends after one request, until either side hangs up.

        Raises:
            AgentError: if the agent refuses.
        """
        self.call(op, **fields)
        self._socket.settimeout(None)
        while (message := self._next()) is not None:
            yield message

    def _next(self) -> Body | None:
        line = self._lines.readline(LONGEST + 1)
        return decode(line) if line.endswith(b"\n") else None


def call(path: str | Path, op: str, **fields: Any) -> Body:
    """Connect, ask once, hang up, and return the answer.

    Raises:
        AgentError: if nobody listens at path, or the request is refused.
    """
    with Client(path) as client:
        return client.call(op, **fields)


def tell(path: str | Path, op: str, **fields: Any) -> None:
    """Send one request and hang up, without waiting for the answer: the caller may be the agent.

    Raises:
        AgentError: if nobody listens at path.
        OSError: if nobody takes the request soon.
    """
    with Client(path, timeout=0.5) as client:
        client.send(op, **fields)
