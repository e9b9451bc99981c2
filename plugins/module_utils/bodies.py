# SPDX-License-Identifier: GPL-3.0-or-later
"""From the options of a module to the body of a layer: plain numbers, as the stores keep them.

A layer holds one setting for each direction of a link, each limit and each disk. Setting some of
them again leaves the others of the same layer as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from . import layers, limits, settings, words
from .ends import EVERY_PEER
from .errors import DisturbanceError
from .identity import Identity
from .quality import Quality, parse
from .texts import quote

Options = Mapping[str, object]
Body = dict[str, Any]


def body(kind: str, node: Identity, options: Options, held: layers.Body) -> Body:
    """Return a layer's content of one kind: what it holds, and over that what the options name.

    Args:
        kind: "link", "quota", "disk", "health" or "stress".
        node: this node.
        options: those of the module of that kind.
        held: the layer's content so far.

    Raises:
        ValueError: for a value that cannot be read, naming its key.
        DisturbanceError: for a peer or a disk that is not there.
    """
    return _BODIES[kind](node, options, held)


def link(node: Identity, options: Options, held: layers.Body) -> Body:
    """Return a layer's content for links.

    Args:
        node: this node; the peer ``*`` stands for each of its peers that is not listed.
        options: "egress" and "ingress", each ``{peer: {"rate": "5mbit", "delay": "40ms"}}``.
        held: the layer's content so far.

    Raises:
        ValueError: for a value that cannot be read, naming way, peer and key.
        DisturbanceError: for a peer that is not there.
    """
    return {way: _one_way(node, way, options, held) for way in ("egress", "ingress")}


def _one_way(node: Identity, way: str, options: Options, held: layers.Body) -> Body:
    merged: Body = {**held.get(way, {})}
    for peer, numbers in _named(node, way, options.get(way) or {}).items():
        merged[peer] = Quality.from_dict({**merged.get(peer, {}), **numbers}).to_dict()
    return merged


def _named(node: Identity, way: str, texts: object) -> dict[str, Body]:
    """Return the numbers that the options name for each peer, ``*`` resolved."""
    if not isinstance(texts, Mapping):
        raise ValueError(
            f"{way}: {quote(texts)} is no mapping of peers; write {{cloud-1: {{rate: 5mbit}}}}"
        )
    node.check_peers({peer: None for peer in texts if peer != EVERY_PEER})
    numbers = {peer: _numbers(f"{way}.{peer}", text) for peer, text in texts.items()}
    everyone = numbers.pop(EVERY_PEER, None)
    return numbers if everyone is None else {**dict.fromkeys(node.peers, everyone), **numbers}


def _numbers(place: str, texts: object) -> Body:
    if not isinstance(texts, Mapping) or not texts:
        raise ValueError(f"{place}: {quote(texts)} is no quality; write {{rate: 5mbit}}")
    try:
        quality = parse(texts)
    except ValueError as error:
        raise ValueError(f"{place}.{error}") from error
    return {key: getattr(quality, key) for key in texts}


def quota(_: Identity, options: Options, held: layers.Body) -> Body:
    """Return a layer's content for capacity.

    Raises:
        ValueError: for a value that cannot be read, naming its key.
    """
    return {**held, **limits.read(given(options))}


def disk(node: Identity, options: Options, held: layers.Body) -> Body:
    """Return a layer's content for disks.

    Raises:
        ValueError: for a value that cannot be read, naming its key.
        DisturbanceError: if there is no such disk, or several and none was named.
    """
    names = [str(options["disk"])] if options.get("disk") else sorted(node.disks)
    if len(names) != 1 or names[0] not in node.disks:
        found = ", ".join(sorted(node.disks)) or "none"
        raise DisturbanceError(f"disk: name one of the disks of {node.name} (it has: {found})")
    wanted = _disk_numbers(given(options))
    before = held.get(names[0], {})
    if "condition" in wanted:
        # How it went is of the condition that it had.
        before = {key: value for key, value in before.items() if key != "how"}
    return {**held, names[0]: {**before, **wanted}}


def _disk_numbers(options: Options) -> Body:
    condition = options.get("condition")
    if "how" in options and condition not in settings.GENTLE:
        fitting = " or ".join(settings.GENTLE)
        raise ValueError(f"how: says how a disk goes; needs condition {fitting}")
    found: Body = {key: options[key] for key in ("condition", "how") if key in options}
    if "fill" in options:
        found["fill"] = words.read_with("fill", options["fill"], limits.share)
    if "size" in options:
        found["size"] = words.read_with("size", options["size"], limits.memory)
    return found


def health(_: Identity, options: Options, held: layers.Body) -> Body:
    """Return a layer's content for the node's health."""
    return {**held, **given(options)}


def stress(_: Identity, options: Options, held: layers.Body) -> Body:
    """Return a layer's content for stress.

    Raises:
        ValueError: for a value that cannot be read, naming its key.
    """
    return {**held, **limits.read_stress(given(options))}


def given(options: Options, names: Iterable[str] | None = None) -> dict[str, object]:
    """Return the options that were given a value, all of them or those of some names."""
    chosen = options if names is None else names
    return {name: options[name] for name in chosen if options.get(name) is not None}


_BODIES: Mapping[str, Callable[[Identity, Options, layers.Body], Body]] = {
    "link": link,
    "quota": quota,
    "disk": disk,
    "health": health,
    "stress": stress,
}
