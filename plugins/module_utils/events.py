# SPDX-License-Identifier: GPL-3.0-or-later
"""What the agent tells those who listen, numbered, with the last of it kept for latecomers."""

from __future__ import annotations

import time
from collections import deque
from typing import Any

from . import syscalls
from .loop import Loop
from .server import Client

Body = dict[str, Any]
_KEPT = 20_000


class Events:
    """The events of one testbed, and who listens to them."""

    def __init__(self, loop: Loop) -> None:
        """Begin with none."""
        self._loop = loop
        self._sequence = 0
        self._kept: deque[Body] = deque(maxlen=_KEPT)
        self._listeners: dict[Client, bool] = {}

    def stream(self, client: Client, request: Body) -> Body:
        """Send a client what comes, and what came after the number in ``since``.

        With ``renew``, leases do not run out while it listens.
        """
        since = int(request.get("since", self._sequence))

        def catch_up() -> None:
            for event in self._kept:
                if event["seq"] > since:
                    client.send(event)
            self._listeners[client] = bool(request.get("renew"))

        # The answer goes first, and nothing that is told meanwhile overtakes what came before it.
        self._listeners.pop(client, None)
        self._loop.at(0.0, catch_up)
        return {"seq": self._sequence}

    def is_renewing(self) -> bool:
        """Return whether anybody listens who renews leases."""
        return any(renews and client.connected for client, renews in self._listeners.items())

    def tell(self, event: Body) -> None:
        """Stamp an event with a number and both clocks, and send it to all who listen."""
        self._sequence += 1
        told = {"seq": self._sequence, "mono": syscalls.monotonic(), "wall": time.time(), **event}
        self._kept.append(told)
        self._listeners = {
            client: renews for client, renews in self._listeners.items() if client.connected
        }
        for client in self._listeners:
            client.send(told)
