# SPDX-License-Identifier: GPL-3.0-or-later
"""What a node's delay line should do, how it is told of a change, and asked what it does.

A pair of nodes is known by the keys of its packets: source and destination address side by side,
one key for IPv4 and one for IPv6.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from . import channel
from .errors import AgentError
from .quality import UNSHAPED, Quality

SOCKET = "delay.sock"
# A request of so many pairs, or so many bytes, does not hold up packets for long.
_PAIRS_A_REQUEST = 200
_BYTES_A_REQUEST = 1 << 19
_HINT = "delay, jitter and loss need the node's delay line"

Table = Mapping[str, Quality]
Change = tuple[Sequence[str | bytes], Quality | None]


def show(entries: Table) -> str:
    """Return a table as text, one peer a line."""
    return "".join(
        f"delay line from {peer}: {quality.show()}\n" for peer, quality in sorted(entries.items())
    )


def actions(now: Table, then: Table) -> list[str]:
    """Return what changes between two tables, a line for each peer."""
    return [
        f"delay line from {peer}: {'stop' if peer not in then else 'set'}"
        for peer in sorted({**now, **then})
        if now.get(peer) != then.get(peer)
    ]


def tell(path: str | Path, changes: Iterable[Change], *, required: bool = True) -> None:
    """Have a delay line treat some pairs otherwise; all others stay as they are.

    Args:
        path: the delay line's socket.
        changes: the keys of each pair (bytes, or in hexadecimal) and its quality; None lets its
            packets pass, as does a quality without an impairment.
        required: whether a delay line that is out of reach is an error.

    Raises:
        AgentError: if a request is refused; those before it have taken effect.
    """
    batches = list(_batches(changes))
    if not batches:
        return
    try:
        with channel.Client(path) as client:
            for batch in batches:
                client.call("set", pairs=batch)
    except AgentError as error:
        if required:
            raise AgentError(f"{_HINT}: {error}; `pkgctl up` starts it") from error


def _batches(changes: Iterable[Change]) -> Iterator[list[list[object]]]:
    batch: list[list[object]] = []
    size = 0
    for names, quality in changes:
        words = [each if isinstance(each, str) else each.hex() for each in names]
        entry: list[object] = [words, None if quality is None else quality.to_dict()]
        length = len(json.dumps(entry))
        if batch and (len(batch) == _PAIRS_A_REQUEST or size + length > _BYTES_A_REQUEST):
            yield batch
            batch, size = [], 0
        batch.append(entry)
        size += length
    if batch:
        yield batch


def pairs(path: str | Path, ends: Iterable[bytes]) -> dict[bytes, Quality]:
    """Return what a delay line does with the packets to some packed addresses, by their key.

    A pair of which it and the kernel do not know the same has an UNSHAPED quality.

    Raises:
        AgentError: if nobody answers.
    """
    found = channel.call(path, "pairs", to=[each.hex() for each in ends])["pairs"]
    return {
        bytes.fromhex(key): Quality.from_dict(asked) if asked and queued else UNSHAPED
        for key, asked, queued in found
    }
