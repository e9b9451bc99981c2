# SPDX-License-Identifier: GPL-3.0-or-later
"""Pieces of a local testbed made, changed, taken away and looked at one by one.

Every change is made as `pkgctl up` makes it: the topology of which the state tells gets the piece,
and the testbed is brought to that. Several pieces are one change.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pkgctl.errors import SpecError, TestbedError, nearest
from pkgctl.local import declared, removal, testbed
from pkgctl.local.declared import LINK, NODE, SITE, TESTBED, Pieces, Values
from pkgctl.local.holding import explained, locked, require_root
from pkgctl.local.paths import Paths
from pkgctl.local.paths import paths as places
from pkgctl.network import Topology
from pkgctl.nodeplan import NETWORK
from pkgctl.nodeside import Quality, layers, links, quotas

_NOTE = "declared"
State = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Edit:
    """One piece as it should be; values is None where it should not be there."""

    kind: str
    name: str
    values: Values | None


def make(name: str, values: Values) -> None:
    """Make a testbed without nodes; one that was left half-made or empty is taken over.

    Raises:
        TestbedError: if a testbed of that name is in use already.
        PkgctlError: if the machine lacks or refuses something.
    """
    require_root()
    paths = places(name)
    with locked(), explained():
        before = _load(paths)
        if before is not None and (before["nodes"] or _NOTE not in before):
            raise TestbedError(
                f"testbed {name!r} is up already and was made by something else: take another name,"
                f" or run `pkgctl down --name {name}` first"
            )
        if before is None and removal.is_there(paths):
            removal.remove(paths)
        empty: Pieces = {TESTBED: {"": values}, SITE: {}, NODE: {}, LINK: {}}
        _bring(paths, before, empty, testbed.Manner(noted={_NOTE: empty}))


def change(name: str, edits: Sequence[Edit]) -> list[str]:
    """Give a running testbed other pieces; return what changed on the machine, a fact a line.

    Raises:
        TestbedError: if there is no such testbed any more.
        SpecError: if a piece needs another that is not there.
        PkgctlError: if the machine lacks or refuses something.
    """
    require_root()
    paths = places(name)
    with locked(), explained():
        before = _load(paths)
        if before is None:
            if all(edit.values is None for edit in edits):
                return []
            raise TestbedError(
                f"testbed {name!r} is gone, taken down by something else: `pulumi refresh` sees it,"
                " and `pulumi up` then makes it anew"
            )
        wanted = edited(_pieces(before), edits)
        manner = testbed.Manner(
            addresses=_addresses(wanted), suspects=_suspects(wanted, edits), noted={_NOTE: wanted}
        )
        return _bring(paths, before, wanted, manner)


def remove(name: str) -> None:
    """Remove a testbed with all that is in it.

    Raises:
        TestbedError: if something would not go.
    """
    removal.down(places(name))


def edited(pieces: Pieces, edits: Sequence[Edit]) -> Pieces:
    """Return the pieces with some changed.

    Raises:
        SpecError: if a node's site is not there.
    """
    fresh = {kind: dict(pieces[kind]) for kind in declared.KINDS}
    for edit in edits:
        if edit.values is None:
            fresh[edit.kind].pop(edit.name, None)
        else:
            fresh[edit.kind][edit.name] = edit.values
    for name, node in fresh[NODE].items():
        if node["site"] not in fresh[SITE]:
            hint = nearest(node["site"], fresh[SITE])
            raise SpecError(
                f"node {name} is at {node['site']!r}, and no such site is there; {hint}"
            )
    return fresh


def details(name: str, node: str) -> Values:
    """Return what a running testbed chose for a node: its addresses."""
    known = testbed.node_state(testbed.read_state(places(name)), node)
    return {"address": known["address"], "address6": known["address6"]}


def look(name: str, kind: str, piece: str) -> Values | None:
    """Return a piece as it is on the machine now; None if it is not there.

    Of a link and of a node's limits it is the layer base: what perturbations put on top of it is
    no part of the testbed. A node tells under ``drift`` of links without an entry of their own.

    Raises:
        TestbedError: if the state cannot be read.
    """
    require_root()
    paths = places(name)
    stamp = layers.stamp(paths.state)
    if stamp is None:
        return None
    with explained():
        return _picture(paths, stamp).look(kind, piece)


@functools.lru_cache(maxsize=1)
def _picture(paths: Paths, stamp: tuple[int, int]) -> Picture:
    """Return what is known of a running testbed; whoever looks at one piece looks at more."""
    return Picture(paths, testbed.read_state(paths))


def _load(paths: Paths) -> State | None:
    return testbed.read_state(paths) if paths.state.exists() else None


def _pieces(state: State) -> Pieces:
    """Return the pieces of a running testbed; one that `pkgctl up` changed is taken apart."""
    noted: Pieces | None = state.get(_NOTE)
    return noted or declared.pieces(Topology.from_dict(state["topology"]))


def _bring(paths: Paths, before: State | None, wanted: Pieces, manner: testbed.Manner) -> list[str]:
    topology = declared.topology(wanted)
    testbed.check_fits(topology)
    lines, _ = testbed.bring(topology, paths, before, manner)
    return lines


def _addresses(pieces: Pieces) -> dict[str, str]:
    """Return the address by each node's number, so that it is the one that `pkgctl up` gives."""
    return {
        name: str(NETWORK[int(node["number"])])
        for name, node in pieces[NODE].items()
        if 0 < int(node["number"]) < NETWORK.num_addresses - 2
    }


def _suspects(pieces: Pieces, edits: Sequence[Edit]) -> set[str]:
    """Return the nodes that an edit is about, which are then what they should be."""
    topology = declared.topology(pieces)
    found = {edit.name for edit in edits if edit.kind == NODE}
    for edit in edits:
        if edit.kind == LINK and edit.values is not None:
            found |= topology.select(edit.values["from"]) | topology.select(edit.values["to"])
    return found & pieces[NODE].keys()


class Picture:
    """A running testbed as its state tells, beside what its nodes have stored."""

    def __init__(self, paths: Paths, state: State) -> None:
        """Take apart what the state tells."""
        self._paths, self._state = paths, state
        self._pieces = _pieces(state)
        topology = declared.topology(self._pieces)
        self._matrix = topology.matrix()
        # The entry that decides last on each pair; what nothing decides follows from the model.
        self._decider: dict[tuple[str, str], str] = {}
        for name, values in declared.in_order(self._pieces[LINK]):
            ends = topology.select(values["from"]), topology.select(values["to"])
            self._decider |= dict.fromkeys(itertools.product(*ends), name)

    def look(self, kind: str, piece: str) -> Values | None:
        """Return a piece as it is; None if it is not there."""
        values = self._pieces[kind].get(piece)
        if values is None or kind in (TESTBED, SITE):
            return values
        return self._link(piece, values) if kind == LINK else self._node(piece, values)

    def _link(self, piece: str, values: Values) -> Values:
        """Return a link's values, with those of the first pair that has others in their place."""
        for (source, to), decider in self._decider.items():
            if decider == piece and source != to:
                asked = self._matrix[source][to]
                for found in self._stored(source, to):
                    if found != asked:
                        return {
                            **_only(values, ("from", "to", "order")),
                            **_seen(values, asked, found),
                        }
        return values

    def _stored(self, source: str, to: str) -> Iterator[Quality]:
        """Yield what both ends of a directed pair have stored of it."""
        for node, way, peer in ((source, "egress", to), (to, "ingress", source)):
            numbers = self._links(node).get(way, {}).get(peer)
            yield Quality.from_dict(numbers) if numbers else Quality()

    def _links(self, node: str) -> Mapping[str, Any]:
        path = self._paths.node(node) / links.STORE
        return _base(path, layers.stamp(path))

    def _node(self, piece: str, values: Values) -> Values | None:
        if piece not in self._state["nodes"] or not testbed.is_whole(self._paths, piece):
            return None
        known = self._state["nodes"][piece]
        found = {**values, "address": known["address"], "address6": known["address6"]}
        limits = testbed.base(self._paths, piece, quotas.STORE)
        if limits.keys() >= {"cpu", "memory", "pids"}:
            # In the words that were asked where they mean the same.
            found |= {
                key: text
                for key, text in declared.spell_limits(**limits).items()
                if declared.LIMITS[key](text) != declared.LIMITS[key](values[key])
            }
        drift = list(self._drift(piece))
        return {**found, "drift": drift} if drift else found

    def _drift(self, piece: str) -> Iterator[str]:
        """Yield how a node's links differ that no entry is about, a line each."""
        for other in self._matrix[piece]:
            for source, to, found in (
                (piece, other, next(self._stored(piece, other))),
                (other, piece, list(self._stored(other, piece))[1]),
            ):
                asked = self._matrix[source][to]
                if (source, to) not in self._decider and found != asked:
                    yield f"{source} -> {to}: {found.show()}, not {asked.show()}"


@functools.lru_cache(maxsize=4096)
def _base(path: Path, stamp: tuple[int, int] | None) -> Mapping[str, Any]:
    return layers.load(path).get(layers.BASE, {})


def _seen(values: Values, asked: Quality, found: Quality) -> Values:
    """Return a link's words for what was found, those kept that still hold."""
    same = [key for key in declared.QUALITIES if getattr(asked, key) == getattr(found, key)]
    return {**declared.spell_quality(found), **_only(values, same)}


def _only(values: Values, keys: Iterable[str]) -> Values:
    return {key: values[key] for key in keys if key in values}
