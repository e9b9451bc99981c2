# SPDX-License-Identifier: GPL-3.0-or-later
"""What a node's delay line should do, and how it is told that this has changed.

The table follows from the node's stored layers, so the delay line reads it for itself, at its start
and whenever it is told to.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from . import channel
from .errors import AgentError
from .identity import Identity
from .quality import Quality

SOCKET = "delay.sock"
# Per source address: delay and its standard deviation in seconds, and the share of packets lost.
Table = dict[str, tuple[float, float, float]]


def table(identity: Identity, ingress: Mapping[str, Quality]) -> Table:
    """Return the delay line's table for the qualities of what arrives at a node."""
    return {
        identity.peers[peer]: (quality.delay, quality.jitter, quality.loss)
        for peer, quality in ingress.items()
        if peer in identity.peers
        and not quality.is_down
        and (quality.delay or quality.jitter or quality.loss)
    }


def show(entries: Table) -> str:
    """Return a table as text, one source a line."""
    return "".join(
        f"delay line from {address}: {delay * 1e3:g}ms ±{jitter * 1e3:g}ms loss {loss * 100:g}%\n"
        for address, (delay, jitter, loss) in sorted(entries.items())
    )


def actions(now: Table, then: Table) -> list[str]:
    """Return what changes between two tables, a line for each source."""
    return [
        f"delay line from {address}: {'stop' if address not in then else 'set'}"
        for address in sorted({**now, **then})
        if now.get(address) != then.get(address)
    ]


def announce(identity: Identity, *, required: bool) -> None:
    """Have the node's delay line read its table anew.

    Args:
        identity: the node.
        required: whether a delay line that is out of reach is an error.

    Raises:
        AgentError: if it is required and does not answer.
    """
    path = Path(identity.directory, "agent", SOCKET)
    try:
        channel.call(path, "reload", node=identity.name)
    except AgentError as error:
        if required:
            hint = "delay, jitter and loss need the node's delay line"
            raise AgentError(f"{hint}: {error}; `pkgctl up` starts it") from error
