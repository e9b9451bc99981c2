# SPDX-License-Identifier: GPL-3.0-or-later
"""What the kernel has, compared with what a node's layers ask for; it changes nothing.

The stores say what was asked, and each kind knows what would have to be done to have it. Where
nothing would have to be done, the node is as asked; everything else is drift.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from . import cabling, condition, daemon, identity, kinds, layers, links
from .change import Change
from .errors import DisturbanceError
from .identity import Identity
from .quality import UNSHAPED, Quality

_CLASS = re.compile(r"^to (\S+): class (\w+)", re.MULTILINE)
_MINOR = re.compile(r"class (\w+):")
_ADDRESS = re.compile(r"[0-9a-f]+[.:][0-9a-f.:]*[0-9a-f]")

Ways = Mapping[str, Mapping[str, Any]]


def drift(node: Identity, base: Ways | None = None) -> list[str]:
    """Return how this node differs from what its layers ask for, a line each; nothing if not.

    Args:
        node: the node, in whose namespaces the caller is.
        base: the qualities of its links, egress and ingress by peer, by the testbed's own
            description; None compares with the stores alone.
    """
    found = [] if base is None else base_drift(node, base)
    found += _switch_drift(node) if daemon.is_service(Path(node.directory)) else []
    for name in kinds.NAMES:
        try:
            change = kinds.converge(node, name, dry_run=True)
        except DisturbanceError as error:
            found.append(f"{name}: {error}")
        else:
            found += [f"{name}: {line}" for line in told(node, change)]
    return found


def _switch_drift(node: Identity) -> list[str]:
    """Return how the switch of a machine of its own differs from what its node needs."""
    try:
        return [f"switch: needs: {step}" for step in cabling.bring(node, dry_run=True)]
    except DisturbanceError as error:
        return [f"switch: {error}"]


def told(node: Identity, change: Change) -> list[str]:
    """Return what a change would do, as what is and what is asked, in the words of its states."""
    if not change.actions:
        return []
    now, then = change.before.splitlines(), change.after.splitlines()
    gone, lacking = set(now) - set(then), set(then) - set(now)
    classes: dict[str, str] = dict(_CLASS.findall(change.before + change.after))
    peers: dict[str, str] = {
        address: peer
        for known in (node.peers, node.peers6)
        for peer, address in known.items()
        if address
    }
    toward = {minor: peers.get(address, address) for address, minor in classes.items()}
    lines = [f"has {_worded(line, toward, peers)!r}, which is not asked" for line in sorted(gone)]
    lines += [f"lacks {_worded(line, toward, peers)!r}" for line in sorted(lacking)]
    return lines or [f"needs: {action}" for action in change.actions]


def _worded(line: str, toward: Mapping[str, str], peers: Mapping[str, str]) -> str:
    """Return a fact with the names of peers in the place of their addresses."""
    if found := _MINOR.match(line):
        return f"toward {toward.get(found[1], 'others')}: {line}"
    return _ADDRESS.sub(lambda place: peers.get(place[0], place[0]), line)


def base_drift(node: Identity, base: Ways) -> list[str]:
    """Return how the base of a node's stored links differs from the testbed's description."""
    try:
        stored = layers.load(Path(node.directory, links.STORE)).get(layers.BASE, {})
    except DisturbanceError as error:
        return [f"link: {error}"]
    return [
        f"link: base {way} {peer}: stored is {_show(stored.get(way, {}).get(peer))},"
        f" the topology says {_show(wanted)}"
        for way in ("egress", "ingress")
        for peer in {**base.get(way, {}), **stored.get(way, {})}
        if (wanted := base.get(way, {}).get(peer)) != stored.get(way, {}).get(peer)
        and _quality(stored.get(way, {}).get(peer)) != _quality(wanted)
    ]


def _quality(numbers: Mapping[str, Any] | None) -> Quality:
    return UNSHAPED if numbers is None else Quality.from_dict(numbers)


def _show(numbers: Mapping[str, Any] | None) -> str:
    return _quality(numbers).show()


def in_force(node: Identity) -> dict[str, Any]:
    """Return what all layers of a node add up to: health, and links by way and peer."""
    asked = links.wanted(layers.load(Path(node.directory, links.STORE)))
    return {
        "health": condition.load(node.directory),
        "access": node.access,
        "links": links.body(asked.egress, asked.ingress),
    }


def here() -> Identity:
    """Return the node in which this runs.

    Raises:
        NodeError: if it is none.
    """
    return identity.load(f"{identity.DIRECTORY}/node.json")


def matrix(nodes: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Quality]]:
    """Return the quality now in force of each directed pair that has one.

    The sender bounds the rate, what is between delays, and the receiver's side drops, so of each
    pair the rate is as the sender says, and the rest as the receiver says.

    Args:
        nodes: what in_force says of each node.
    """
    found: dict[str, dict[str, Quality]] = {name: {} for name in nodes}
    known: dict[int, Quality] = {}
    for target, facts in nodes.items():
        for source, numbers in facts["links"]["ingress"].items():
            if source in found:
                quality = known.get(id(numbers)) or Quality.from_dict({**numbers, "rate": None})
                known[id(numbers)] = quality
                found[source][target] = quality
    for source, facts in nodes.items():
        for target, numbers in facts["links"]["egress"].items():
            if target in found and numbers["rate"] is not None:
                rest = found[source].get(target, UNSHAPED).to_dict()
                found[source][target] = Quality.from_dict({**rest, "rate": numbers["rate"]})
    return found


def unready(nodes: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Return the condition of each node that is not running, by its name."""
    return {
        name: facts["health"]
        for name, facts in nodes.items()
        if not condition.is_up(facts["health"])
    }
