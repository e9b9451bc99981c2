# SPDX-License-Identifier: GPL-3.0-or-later
"""A node's links: what its layers ask for, brought about by the kernel and by the delay line.

Of a directed pair the sender bounds the rate, and others do the rest; both ends are told all. See
shaping.py for the kernel's part; from delay to bit errors it is the delay line, which is told what
has changed.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from . import condition, delayclient, layers, nftables
from .change import Change
from .identity import Identity
from .linkkernel import Kernel
from .quality import UNSHAPED, Quality, compose
from .shaping import Qualities, plan, wanted_state
from .treatment import impairment

STORE = "links.json"


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the layers of a node add up to: the quality toward and from each peer that has one."""

    egress: Qualities
    ingress: Qualities


def body(egress: Qualities, ingress: Qualities) -> layers.Body:
    """Return a layer's content, ready for JSON; what is unshaped is left out."""
    # Equal qualities are written from one dictionary: a node has many peers and few kinds of them.
    known = {each: each.to_dict() for each in {*egress.values(), *ingress.values()}}
    return {
        way: {peer: known[each] for peer, each in qualities.items() if each != UNSHAPED}
        for way, qualities in (("egress", egress), ("ingress", ingress))
    }


def wanted(stored: layers.Layers) -> Wanted:
    """Return what the layers add up to."""
    return Wanted(*(_composed(stored.values(), way) for way in ("egress", "ingress")))


def _composed(bodies: Iterable[layers.Body], way: str) -> dict[str, Quality]:
    parts: dict[str, list[Quality]] = {}
    for content in bodies:
        for peer, numbers in content.get(way, {}).items():
            parts.setdefault(peer, []).append(Quality.from_dict(numbers))
    composed = {
        peer: found[0] if len(found) == 1 else compose(*found) for peer, found in parts.items()
    }
    return {peer: quality for peer, quality in composed.items() if quality != UNSHAPED}


def change(
    identity: Identity,
    *,
    layer: str | None,
    egress: Qualities | None = None,
    ingress: Qualities | None = None,
    present: bool = True,
    dry_run: bool = False,
    kernel: Kernel | None = None,
    delays: Path | None = None,
) -> Change:
    """Set or take away one layer of this node's links and bring the kernel to what all layers ask.

    Args:
        identity: the node, in whose network namespace the caller is, or kernel's sockets are.
        layer: its name; None with present=False takes away all but base.
        egress: the quality of each direction from this node to a peer.
        ingress: the quality of each direction from a peer to this node. Every directed pair is
            given to both its ends: to the sender as egress, to the receiver as ingress.
        present: whether the layer should be there.
        dry_run: only say what would be done.
        kernel: the node's tables, if they are open already.
        delays: where the delay line listens, if not in the node's own folder.

    Returns:
        What changed.

    Raises:
        DisturbanceError: one line; a refused request leaves the layer stored, to be tried again.
    """
    egress, ingress = egress or {}, ingress or {}
    identity.check_peers({**egress, **ingress})
    path = Path(identity.directory, STORE)
    content = body(egress, ingress) if present else None
    with layers.locked(path), _opened(identity, kernel) as tables:
        step = _step(identity, tables, delays or _delays(identity), layer, content)
        return step.perform(path, dry_run=dry_run)


def converge(identity: Identity, *, dry_run: bool = False) -> Change:
    """Bring the kernel and the delay line to what the stored layers ask for, whatever they have.

    The caller is in the node's network namespace. The actions of a dry run are the drift.

    Raises:
        DisturbanceError: one line.
    """
    path = Path(identity.directory, STORE)
    with layers.locked(path), Kernel.here(identity.interface) as tables:
        stored, where = layers.load(path), _delays(identity)
        step = _Step(identity, tables, where, stored, stored, known=_heard(identity, where))
        return step.perform(path, dry_run=dry_run)


def prepare(
    identity: Identity,
    kernel: Kernel,
    delays: Path,
    *,
    layer: str,
    egress: Qualities,
    ingress: Qualities,
    present: bool,
) -> Prepared:
    """Do all of a change that can be done before its time; the arguments are those of change.

    Raises:
        DisturbanceError: one line.
    """
    identity.check_peers({**egress, **ingress})
    path = Path(identity.directory, STORE)
    stamps = _stamps(identity)
    content = body(egress, ingress) if present else None
    return Prepared(path, stamps, _step(identity, kernel, delays, layer, content))


def _step(
    identity: Identity,
    kernel: Kernel,
    delays: Path,
    layer: str | None,
    content: layers.Body | None,
) -> _Step:
    """Return the way from what is stored now to a layer's new content."""
    stored = layers.load(Path(identity.directory, STORE))
    return _Step(identity, kernel, delays, stored, layers.changed(stored, layer, content))


@dataclass(frozen=True, slots=True)
class Prepared:
    """A change that only has to be sent."""

    path: Path
    stamps: tuple[object, ...]
    step: _Step

    def commit(self) -> Change | None:
        """Make the change; None, and nothing done, if the node was changed since it was prepared.

        Raises:
            DisturbanceError: one line.
        """
        with layers.locked(self.path):
            if _stamps(self.step.identity) != self.stamps:
                return None
            return self.step.perform(self.path, dry_run=False)


def _stamps(identity: Identity) -> tuple[object, ...]:
    """Return what tells whether a node's layers have changed, or a change was cut short."""
    links, health = (Path(identity.directory, name) for name in (STORE, condition.STORE))
    return layers.stamp(links), layers.stamp(health), layers.is_unfinished(links)


def _opened(identity: Identity, kernel: Kernel | None) -> AbstractContextManager[Kernel]:
    return Kernel.here(identity.interface) if kernel is None else nullcontext(kernel)


def _delays(identity: Identity) -> Path:
    return Path(identity.directory, "agent", delayclient.SOCKET)


class _Step:
    """One change of a node's links: from the layers that are stored to fresh ones."""

    def __init__(
        self,
        identity: Identity,
        kernel: Kernel,
        delays: Path,
        stored: layers.Layers,
        fresh: layers.Layers,
        known: Qualities | None = None,
    ) -> None:
        self.identity, self._kernel, self._delays = identity, kernel, delays
        self._stored, self._fresh = stored, fresh
        asked = wanted(fresh)
        closed = not condition.is_up(condition.load(identity.directory))
        self._now = kernel.read()
        self._then = wanted_state(
            identity, asked.egress, asked.ingress, closed=closed, impaired=identity.has_netem
        )
        self._plan = plan(kernel.index, self._now, self._then)
        self._treated = treated(identity, asked.ingress)
        self._before = treated(identity, wanted(stored).ingress) if known is None else known

    def perform(self, path: Path, *, dry_run: bool) -> Change:
        """Do it, unless dry, and return what changed."""
        actions = self._plan.actions + delayclient.actions(self._before, self._treated)
        if not dry_run:
            with layers.working(path) as resumed:
                if self._fresh != self._stored:
                    layers.save(path, self._fresh)
                self._tell(everything=resumed)
                self._kernel.apply(self._plan)
        return Change(
            changed=bool(actions) or self._fresh != self._stored,
            before=lambda: self._now.show() + delayclient.show(self._before),
            after=lambda: self._then.show() + delayclient.show(self._treated),
            actions=actions,
        )

    def _tell(self, *, everything: bool) -> None:
        """Tell the delay line what differs; all of it if a change before was cut short."""
        peers = self.identity.peers if everything else {**self._before, **self._treated}
        changes = [
            (pair_keys(self.identity, peer), self._treated.get(peer))
            for peer in peers
            if peer in self.identity.peers
            and (everything or self._before.get(peer) != self._treated.get(peer))
        ]
        if changes:
            delayclient.tell(self._delays, changes, required=bool(self._treated))


def treated(identity: Identity, ingress: Qualities) -> dict[str, Quality]:
    """Return what the delay line does to what arrives from each peer, rates left out."""
    if identity.has_netem:
        return {}
    return {
        peer: rest
        for peer, quality in ingress.items()
        if peer in identity.peers and (rest := impairment(quality)) is not None
    }


def pair_keys(identity: Identity, peer: str) -> list[bytes]:
    """Return the keys, source and destination side by side, of what a peer sends to this node."""
    own = (identity.address, *([identity.address6] if identity.address6 else []))
    return [nftables.key(*ends) for ends in zip(identity.addresses(peer), own, strict=False)]


def _heard(identity: Identity, delays: Path) -> dict[str, Quality]:
    """Return what the delay line does now to what arrives from each peer; UNSHAPED if half.

    Half is what the delay line knows and the kernel does not hand to it.
    """
    if identity.has_netem:
        return {}
    found = delayclient.pairs(delays, pair_ends(identity))
    heard: dict[str, Quality] = {}
    for peer in identity.peers:
        states = [found.get(key) for key in pair_keys(identity, peer)]
        if any(states):
            first = states[0]
            heard[peer] = first if first and all(each == first for each in states) else UNSHAPED
    return heard


def pair_ends(identity: Identity) -> list[bytes]:
    """Return this node's packed addresses."""
    return [nftables.key(address) for address in (identity.address, identity.address6) if address]
