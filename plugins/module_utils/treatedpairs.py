# SPDX-License-Identifier: GPL-3.0-or-later
"""The pairs that a delay line treats: told by requests, and read from all nodes' layers at start.

A pair is known by its key: source and destination side by side, 8 bytes of IPv4 or 32 of IPv6.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from pathlib import Path

from . import channel, identity, layers, links
from .errors import AgentError, DisturbanceError
from .pairsets import STARTS, WHOLE, PairSets, by_end
from .quality import Quality
from .treatment import Treatment, impairment, is_single

_IPV4, _IPV6 = 8, 32


def kind(quality: Quality) -> str:
    """Return the name of the set in which a pair of this quality must be."""
    return WHOLE if is_single(quality) else STARTS


def asked(place: Path) -> dict[bytes, Quality]:
    """Return what the layers of the node in a folder ask for what arrives there.

    Raises:
        NodeError: if its description or its layers cannot be read.
    """
    node = identity.load(place / "node.json")
    ingress = links.wanted(layers.load(place / links.STORE)).ingress
    return {
        key: quality
        for peer, quality in links.treated(node, ingress).items()
        for key in links.pair_keys(node, peer)
    }


class TreatedPairs:
    """The treatment of each pair, and the kernel's sets that follow from it.

    Attributes:
        by_key: the treatment of each pair.
    """

    def __init__(self, directory: Path, sets: PairSets, source: random.Random) -> None:
        """Treat nothing yet, in the testbed in directory, by numbers from source."""
        self._directory = directory
        self._sets = sets
        self._source = source
        self.by_key: dict[bytes, Treatment] = {}
        self._by_end: Mapping[bytes, list[bytes]] | None = None

    def __len__(self) -> int:
        """Return how many pairs of nodes are treated, each by the one IPv4 address that it has."""
        return sum(len(key) == _IPV4 for key in self.by_key)

    def load(self) -> None:
        """Treat what all nodes' layers ask for, and nothing else.

        Raises:
            DisturbanceError: naming the first node that cannot be read, after the others were;
                what is unknown stays as it is.
        """
        wanted: dict[bytes, Quality | None] = {}
        failures = []
        for path in sorted(self._directory.glob("nodes/*/node.json")):
            try:
                wanted |= asked(path.parent)
            except (DisturbanceError, ValueError, TypeError, AttributeError) as error:
                failures.append(f"{path.parent.name}: {error}")
        known = () if failures else {*self.by_key, *self._sets.members()}
        self.change({**dict.fromkeys(known), **wanted})
        if failures:
            raise DisturbanceError(failures[0])

    def change(self, wanted: Mapping[bytes, Quality | None]) -> None:
        """Treat some pairs by other qualities, or no longer; all at once, others stay.

        Raises:
            ValueError: for a quality that cannot be had.
            KernelError: if the kernel refuses; then nothing has changed.
        """
        fresh = {
            key: self._treatment(quality, self.by_key.get(key))
            for key, quality in wanted.items()
            if quality is not None
        }
        self._sets.change(
            {key: None if quality is None else kind(quality) for key, quality in wanted.items()}
        )
        gone = [key for key in wanted.keys() - fresh.keys() if self.by_key.pop(key, None)]
        if gone or not fresh.keys() <= self.by_key.keys():
            self._by_end = None
        self.by_key |= fresh

    def _treatment(self, quality: Quality, before: Treatment | None) -> Treatment:
        if before is not None and before.quality == quality:
            return before
        return Treatment(quality, self._source, before)

    def set(self, request: channel.Body) -> None:
        """Change what a request names: pairs, a list of keys in hexadecimal and a quality each.

        Raises:
            AgentError: for a request that makes no sense; then nothing has changed.
            KernelError: if the kernel refuses.
        """
        try:
            self.change(
                {
                    _key(name): None if numbers is None else impairment(Quality.from_dict(numbers))
                    for names, numbers in request["pairs"]
                    for name in names
                }
            )
        except (KeyError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
            raise AgentError(f"bad pairs: {type(error).__name__} {error}") from error

    def listing(self, request: channel.Body) -> channel.Body:
        """Return the pairs toward the addresses of a request: key, quality, whether it is queued.

        A pair that the kernel queues for nothing has no quality.

        Raises:
            AgentError: for a request that makes no sense.
        """
        try:
            ends = {bytes.fromhex(each) for each in request["to"]}
        except (KeyError, TypeError, ValueError) as error:
            raise AgentError(f"bad addresses: {type(error).__name__} {error}") from error
        if self._by_end is None:
            self._by_end = by_end(self.by_key)
        queued = self._sets.toward(ends)
        known = {key: self.by_key[key] for end in ends for key in self._by_end.get(end, ())}
        found: list[list[object]] = [
            [key.hex(), each.quality.to_dict(), queued.get(key) == kind(each.quality)]
            for key, each in known.items()
        ]
        found += [[key.hex(), None, True] for key in queued.keys() - known.keys()]
        return {"pairs": found}

    def losses(self, request: channel.Body) -> channel.Body:
        """Return of the pairs that a request names how many packets were met, and how many lost.

        Counted since the pair's present quality was set. Only what is named is looked up: whoever
        watches a few links keeps no packet of others waiting.

        Raises:
            AgentError: for a request that makes no sense.
        """
        try:
            found = {name: self.by_key.get(_key(name)) for name in request["pairs"]}
        except (KeyError, TypeError, ValueError) as error:
            raise AgentError(f"bad pairs: {type(error).__name__} {error}") from error
        return {"losses": {name: [each.met, each.lost] for name, each in found.items() if each}}


def _key(name: str) -> bytes:
    key = bytes.fromhex(name)
    if len(key) not in (_IPV4, _IPV6):
        raise ValueError(f"{name!r} is no pair of addresses")
    return key
