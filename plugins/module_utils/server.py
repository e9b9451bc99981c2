# SPDX-License-Identifier: GPL-3.0-or-later
"""The listening side of a channel: many clients, none of which can hold up the others."""

from __future__ import annotations

import select
import socket
import sys
from collections.abc import Callable
from typing import Any

from . import channel
from .errors import AgentError, DisturbanceError
from .loop import Loop

Body = dict[str, Any]
_MOST_WAITING = 16 << 20
_MOST_CLIENTS = 256
_LONGEST_ERROR = 500


class Client:
    """Someone connected; messages that its socket does not take at once wait here."""

    def __init__(self, connection: socket.socket, loop: Loop) -> None:
        """Talk through a connection."""
        connection.setblocking(False)
        self._socket = connection
        self._loop = loop
        self._received = bytearray()
        self._waiting = bytearray()
        self.connected = True

    @property
    def descriptor(self) -> int:
        """The connection's descriptor."""
        return self._socket.fileno()

    def send(self, message: Body) -> None:
        """Send a message, or hang up on a client that does not read."""
        if not self.connected:
            return
        try:
            self._waiting += channel.encode(message)
            self.flush()
        except (OSError, AgentError):
            self.hang_up()

    def flush(self) -> None:
        """Send what the socket takes now.

        Raises:
            OSError: if the client went away, or lets too much pile up.
        """
        try:
            while self._waiting:
                sent = self._socket.send(self._waiting)
                del self._waiting[:sent]
        except BlockingIOError:
            if len(self._waiting) > _MOST_WAITING:
                raise ConnectionError("the reader is too slow") from None
        self._loop.mind_writing(self.descriptor, wanted=bool(self._waiting))

    def lines(self) -> list[bytes]:
        """Return the complete lines that have arrived.

        Raises:
            OSError: if the client went away.
            AgentError: if a line is too long.
        """
        data = self._socket.recv(1 << 16)
        if not data:
            raise ConnectionError("hung up")
        *complete, rest = bytes(self._received + data).split(b"\n")
        if len(rest) > channel.LONGEST:
            raise AgentError("the message is too long")
        self._received = bytearray(rest)
        return complete

    def hang_up(self) -> None:
        """Close the connection."""
        if self.connected:
            self.connected = False
            self._loop.forget(self.descriptor)
            self._socket.close()


Operation = Callable[[Client, Body], Body | None]


class Server:
    """Takes requests of clients and answers each with what its operation returns."""

    def __init__(
        self, loop: Loop, listener: socket.socket, operations: dict[str, Operation]
    ) -> None:
        """Serve operations, by name, to whoever connects to listener."""
        self._loop = loop
        self._listener = listener
        self._operations = operations
        self._clients: set[Client] = set()
        loop.watch(listener.fileno(), self._accept)

    def _accept(self, _: int) -> None:
        try:
            connection, _address = self._listener.accept()
        except OSError:
            return  # Whoever it was has hung up.
        self._clients = {client for client in self._clients if client.connected}
        if len(self._clients) >= _MOST_CLIENTS:
            connection.close()
            return
        client = Client(connection, self._loop)
        self._clients.add(client)
        self._loop.watch(client.descriptor, lambda mask: self._talk(client, mask))

    def _talk(self, client: Client, mask: int) -> None:
        try:
            if mask & select.EPOLLOUT:
                client.flush()
            if mask & ~select.EPOLLOUT:
                for line in client.lines():
                    self._answer(client, line)
        except AgentError as error:
            client.send(_refusal(str(error)))
            client.hang_up()
        except OSError:
            client.hang_up()

    def _answer(self, client: Client, line: bytes) -> None:
        try:
            client.send({"ok": True, **self._perform(client, line)})
        except DisturbanceError as error:
            client.send(_refusal(str(error)))
        except (KeyError, TypeError, ValueError) as error:
            client.send(_refusal(f"bad request: {type(error).__name__} {error}"))
        except Exception as error:
            # Whatever a request brings about, the others are served.
            print(f"unforeseen: {error!r}"[:_LONGEST_ERROR], file=sys.stderr, flush=True)
            client.send(_refusal(f"bad request: {type(error).__name__} {error}"))

    def _perform(self, client: Client, line: bytes) -> Body:
        request = channel.decode(line)
        operation = self._operations.get(str(request.pop("op", "")))
        if operation is None:
            raise AgentError(f"unknown request; known are {', '.join(self._operations)}")
        return operation(client, request) or {}


def _refusal(words: str) -> Body:
    return {"ok": False, "error": " ".join(words.split())[:_LONGEST_ERROR]}
