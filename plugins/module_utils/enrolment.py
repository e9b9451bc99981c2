# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading what a machine is told of the node that it is to be; pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from . import identity, kinds, layers, links, quotas
from .errors import DisturbanceError, NodeError
from .identity import Disk, Identity
from .quality import Quality
from .words import read_name

_TEXTS = ("name", "testbed", "interface", "address", "network", "cgroup", "address6", "impairment")
_MAPPINGS = ("peers", "peers6", "disks")
_WHOLE = ("memory", "pids")
_RATES = ("access", "access_down")
_WAYS = ("egress", "ingress")

Options = Mapping[str, Any]


def read_identity(given: Mapping[str, Any]) -> Identity:
    """Return the identity that a mapping holds, as node.json would.

    Raises:
        NodeError: in one line that names the key at fault.
    """
    known = {field.name for field in fields(Identity)}
    for key in given:
        if key not in known:
            raise NodeError(f"identity: unknown key {key!r}; known are {', '.join(sorted(known))}")
    _check_values(given)
    disks = {name: _disk(name, disk) for name, disk in given.get("disks", {}).items()}
    try:
        node = Identity(**{**given, "disks": disks, "directory": identity.DIRECTORY})
    except TypeError as error:
        lacking = str(error).partition("argument")[2].lstrip("s: ")
        raise NodeError(f"identity: it lacks {lacking}") from error
    _check_addresses(node)
    return node


def _check_values(given: Mapping[str, Any]) -> None:
    checks = (
        *((key, isinstance(given.get(key, ""), str), "a text") for key in _TEXTS),
        *((key, isinstance(given.get(key, {}), Mapping), "a mapping") for key in _MAPPINGS),
        *((key, _is_whole(given.get(key, 1)), "a whole number above zero") for key in _WHOLE),
        ("cpu", _is_positive(given.get("cpu", 1)), "a number above zero"),
        *((key, _is_rate(given.get(key)), "bits/s above zero") for key in _RATES),
    )
    for key, is_right, what in checks:
        if not is_right:
            raise NodeError(f"identity.{key}: {given[key]!r} is not {what}")


def _is_positive(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and value > 0


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and _is_positive(value)


def _is_rate(value: object) -> bool:
    return value is None or _is_whole(value)


def _disk(name: str, given: object) -> Disk:
    try:
        disk = Disk(**given) if isinstance(given, Mapping) else None
    except TypeError:
        disk = None
    if disk is None or not disk.mount.startswith("/") or not _is_whole(disk.size):
        raise NodeError(f"identity.disks.{name}: it needs image, mount (from the root) and size")
    return disk


def _check_addresses(node: Identity) -> None:
    try:
        read_name("identity.name", node.name)
        ipaddress.ip_network(node.network)
        for name, address in {node.name: node.address, **node.peers}.items():
            if ipaddress.ip_address(address) not in ipaddress.ip_network(node.network):
                raise ValueError(f"{address} of {name} is not in {node.network}")
        for address in filter(None, (node.address6, *node.peers6.values())):
            ipaddress.IPv6Address(address)
    except ValueError as error:
        raise NodeError(f"identity: {error}") from error
    if node.name in node.peers:
        raise NodeError(f"identity.peers: {node.name} is not a peer of itself")


def read_bodies(node: Identity, options: Options) -> dict[str, layers.Body]:
    """Return the base of each kind of layer.

    Raises:
        DisturbanceError: for a peer that is not there or a limit that cannot be.
        ValueError: for a quality that cannot be read, naming way and peer.
    """
    ways = {way: _qualities(node, way, options["links"].get(way) or {}) for way in _WAYS}
    own = {key: getattr(node, key) for key in ("cpu", "memory", "pids")}
    limits = options.get("limits") or own
    for key, limit in limits.items():
        if not _is_positive(limit):
            raise DisturbanceError(f"limits.{key}: {limit!r} is not a number above zero")
    quotas.check(limits)
    return {"link": links.body(**ways), "quota": dict(limits), "disk": {}}


def _qualities(node: Identity, way: str, given: Mapping[str, Any]) -> dict[str, Quality]:
    node.check_peers(given)
    found: dict[str, Quality] = {}
    for peer, numbers in given.items():
        try:
            found.update(kinds.qualities({peer: numbers}))
        except (ValueError, TypeError, AttributeError) as error:
            raise ValueError(f"links.{way}.{peer}: {error}") from error
    return found


def hosts(node: Identity) -> str:
    """Return the lines of /etc/hosts for a node and its peers, IPv4 first."""
    names = {node.name: node.address, **node.peers}
    seconds = {node.name: node.address6, **node.peers6}
    found = [f"{names[name]} {name}" for name in sorted(names)]
    found += [f"{seconds[name]} {name}" for name in sorted(seconds) if seconds[name]]
    return "".join(f"{line}\n" for line in found)
