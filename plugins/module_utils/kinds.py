# SPDX-License-Identifier: GPL-3.0-or-later
"""The kinds of disturbance, and one way to set, heal and check each of them.

A layer's part of a kind is a body of plain numbers, kept in that kind's store in the node's folder;
the module of the kind says what the body means and brings the node to what all layers ask for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from . import disks, domains, health, links, quotas, stress
from .change import Change
from .errors import DisturbanceError
from .identity import Identity
from .quality import Quality

Body = Mapping[str, Any]
_Setter = Callable[[Identity, str | None, Body | None, bool, bool], Change]


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of disturbance.

    Attributes:
        store: the file in the node's folder that holds its layers.
        set: takes identity, layer, body (None takes the layer away), force and dry_run.
        converge: takes identity and dry_run.
    """

    store: str
    set: _Setter
    converge: Callable[..., Change]


def _link(
    node: Identity, layer: str | None, body: Body | None, force: bool, dry_run: bool
) -> Change:
    egress, ingress = (qualities((body or {}).get(way, {})) for way in ("egress", "ingress"))
    return links.change(
        node,
        layer=layer,
        egress=egress,
        ingress=ingress,
        present=body is not None,
        dry_run=dry_run,
    )


def qualities(numbers: Mapping[str, Mapping[str, Any]]) -> dict[str, Quality]:
    """Return the qualities of one way of a link's body, by peer."""
    return {peer: Quality.from_dict(each) for peer, each in numbers.items()}


def _quota(
    node: Identity, layer: str | None, body: Body | None, force: bool, dry_run: bool
) -> Change:
    return quotas.change(
        node, layer=layer, limits=body, present=body is not None, force=force, dry_run=dry_run
    )


def _disk(
    node: Identity, layer: str | None, body: Body | None, force: bool, dry_run: bool
) -> Change:
    return disks.change(node, layer=layer, body=body, present=body is not None, dry_run=dry_run)


def _health(
    node: Identity, layer: str | None, body: Body | None, force: bool, dry_run: bool
) -> Change:
    state, present = None if body is None else str(body["health"]), body is not None
    if isinstance(node, domains.Guest):
        return domains.change(node, layer=layer, health=state, present=present, dry_run=dry_run)
    return health.change(node, layer=layer, health=state, present=present, dry_run=dry_run)


def _converge_health(node: Identity, *, dry_run: bool = False) -> Change:
    if isinstance(node, domains.Guest):
        return domains.converge(node, dry_run=dry_run)
    return health.converge(node, dry_run=dry_run)


def _stress(
    node: Identity, layer: str | None, body: Body | None, force: bool, dry_run: bool
) -> Change:
    return stress.change(node, layer=layer, body=body, present=body is not None, dry_run=dry_run)


# In the order in which a node is brought up: what comes later stands on what comes before.
KINDS: Mapping[str, Kind] = {
    "link": Kind(links.STORE, _link, links.converge),
    "quota": Kind(quotas.STORE, _quota, quotas.converge),
    "disk": Kind(disks.STORE, _disk, disks.converge),
    "health": Kind(health.STORE, _health, _converge_health),
    "stress": Kind(stress.STORE, _stress, stress.converge),
}
NAMES = tuple(KINDS)


def kind(name: str) -> Kind:
    """Return the kind of that name.

    Raises:
        DisturbanceError: if there is none.
    """
    if name not in KINDS:
        raise DisturbanceError(f"unknown kind {name!r}; known are {', '.join(NAMES)}")
    return KINDS[name]


def store(name: str) -> str:
    """Return the name of the file in a node's folder that holds the layers of a kind."""
    return kind(name).store


def set_layer(
    node: Identity,
    name: str,
    layer: str | None,
    body: Body | None,
    *,
    force: bool = False,
    dry_run: bool = False,
) -> Change:
    """Set or take away a layer's part of one kind, inside the node's namespaces.

    Args:
        node: the node.
        name: the kind.
        layer: its name; None with no body takes away all but base.
        body: its content; None takes it away.
        force: do it though something is lost by it.
        dry_run: only say what would be done.

    Raises:
        DisturbanceError: one line.
    """
    return kind(name).set(node, layer, body, force, dry_run)


def converge(node: Identity, name: str, *, dry_run: bool = False) -> Change:
    """Bring a node to what the stored layers of one kind ask for; a dry run tells the drift.

    Raises:
        DisturbanceError: one line.
    """
    return kind(name).converge(node, dry_run=dry_run)
