# SPDX-License-Identifier: GPL-3.0-or-later
"""A running testbed compared with what was asked of it, node by node, without changing anything."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pkgctl.local import testbed
from pkgctl.local.holding import explained
from pkgctl.local.paths import Paths
from pkgctl.nodeside import (
    Quality,
    errors,
    identity,
    linkkernel,
    namespaces,
    readback,
    sampler,
)


def drift(paths: Paths, names: Iterable[str] | None = None) -> dict[str, list[str]]:
    """Return how nodes differ from what their layers and the testbed's description ask for.

    Args:
        paths: the testbed.
        names: which nodes; all if not given.

    Returns:
        Lines by node; a node that is as asked is left out.

    Raises:
        TestbedError: if the testbed is not up, or a node cannot be entered.
    """
    state = testbed.read_state(paths)
    base = base_links(state)
    found = {}
    for name in state["nodes"] if names is None else names:
        with explained(), testbed.inside(paths, name) as here:
            lines = readback.drift(here, base[name])
        if lines := lines + _port_drift(paths, here):
            found[name] = lines
    return found


def _port_drift(paths: Paths, node: identity.Identity) -> list[str]:
    """Return how the switch's port to a node differs from what bounds all that arrives there."""
    try:
        with namespaces.in_network(paths.switch / "net"):
            actions = linkkernel.bound(node, sampler.port(node.address), dry_run=True)
    except (OSError, errors.DisturbanceError) as error:
        return [f"switch: {error}"]
    return [f"switch: needs: {action}" for action in actions]


def base_links(state: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return each node's links by the testbed's description, both ways."""
    ingress = _transposed(state["links"])
    return {
        name: {"egress": state["links"].get(name, {}), "ingress": ingress.get(name, {})}
        for name in state["nodes"]
    }


def _transposed(links: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return each node's column of the matrix: what comes from each other."""
    found: dict[str, dict[str, Any]] = {}
    for source, row in links.items():
        for target, cell in row.items():
            found.setdefault(target, {})[source] = cell
    return found


def in_force(state: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return what all layers of each node add up to, read from outside of the nodes."""
    with explained():
        return {
            name: readback.in_force(identity.load(Path(node["directory"], "node.json")))
            for name, node in state["nodes"].items()
        }


def matrix(facts: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Quality]]:
    """Return the quality now in force of each directed pair, from what in_force returned."""
    return readback.matrix(facts)


def lines(found: Mapping[str, Iterable[str]]) -> list[str]:
    """Return the drift for people, a line each."""
    return [f"{node}: {line}" for node, told in found.items() for line in told]
