# SPDX-License-Identifier: GPL-3.0-or-later
"""The parts of a layer on a node: from a module's options to a change of links, limits or disks.

A layer holds one setting for each direction of a link, each limit and each disk. Setting some of
them again leaves the others of the same layer as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from . import arming, disks, identity, layers, limits, links, quotas, words
from .change import Change
from .errors import DisturbanceError
from .identity import Identity
from .quality import Quality, parse
from .specifications import KINDS, LIMITS

Options = Mapping[str, object]
EVERY_LAYER = "*"
EVERY_PEER = "*"


@dataclass(frozen=True, slots=True)
class Layer:
    """Which layer a module is about: its name, and whether it should be there."""

    name: str
    present: bool = True

    def __post_init__(self) -> None:
        """Refuse names that no disturbance may have."""
        if self.name == EVERY_LAYER and not self.present:
            return
        try:
            words.read_name("name", self.name)
        except ValueError as error:
            raise DisturbanceError(f"layer{str(error).removeprefix('name')}") from error

    @property
    def stored(self) -> str | None:
        """The name by which the stores know it; None is every layer but base."""
        return None if self.name == EVERY_LAYER else self.name


def set_link(options: Options, *, dry_run: bool) -> dict[str, object]:
    """Do what the link module was told, and return its report; see perform."""
    return perform(options, {"link": given(options, ("egress", "ingress"))}, dry_run=dry_run)


def set_quota(options: Options, *, dry_run: bool) -> dict[str, object]:
    """Do what the quota module was told, and return its report; see perform."""
    return perform(options, {"quota": given(options, (*LIMITS, "force"))}, dry_run=dry_run)


def set_disk(options: Options, *, dry_run: bool) -> dict[str, object]:
    """Do what the disk module was told, and return its report; see perform."""
    return perform(options, {"disk": given(options, ("disk", "condition"))}, dry_run=dry_run)


def set_layer(options: Options, *, dry_run: bool) -> dict[str, object]:
    """Do what the layer module was told, and return its report; see perform.

    A layer that is to be absent is absent in all its kinds.
    """
    if options["state"] == "absent":
        return perform(options, {kind: {} for kind in KINDS}, dry_run=dry_run)
    parts = {kind: part for kind in KINDS if isinstance(part := options.get(kind), Mapping)}
    return perform(options, {kind: given(parts[kind]) for kind in parts}, dry_run=dry_run)


def perform(options: Options, asked: Mapping[str, Options], *, dry_run: bool) -> dict[str, object]:
    """Do on this node what a module was told, now or by a timeline, and return its report.

    Args:
        options: those that all modules have: layer, state, timeline, start, duration.
        asked: the other options by kind: "link", "quota", "disk".
        dry_run: only say what would be done.

    Raises:
        DisturbanceError: in one line.
        ValueError: in one line, for an option that cannot be read.
    """
    node = identity.load(f"{identity.DIRECTORY}/node.json")
    layer = Layer(str(options["layer"]), options["state"] == "present")
    if options.get("timeline") is None:
        called_off = (
            0 if layer.present else arming.cancel(node, layer.stored, asked, dry_run=dry_run)
        )
        return result(change(node, layer, asked, dry_run=dry_run), called_off)
    if not layer.present:
        raise DisturbanceError("timeline: a layer cannot be taken away by one; give it a duration")
    bodies = {kind: _BODIES[kind](node, asked[kind]) for kind in asked}
    times = arming.read_times(options)
    return arming.arm(node, layer.name, bodies, times, dry_run=dry_run)


def change(
    node: Identity, layer: Layer, asked: Mapping[str, Options], *, dry_run: bool
) -> dict[str, Change]:
    """Bring each kind of disturbance that is asked for to what it should be.

    Several kinds are all tried dry first, so that what is refused leaves nothing half done.

    Args:
        node: this node.
        layer: the layer, and whether it should be there.
        asked: the options by kind: "link", "quota", "disk".
        dry_run: only say what would be done.

    Raises:
        DisturbanceError: in one line.
        ValueError: in one line, for an option that cannot be read.
    """
    if dry_run or len(asked) > 1:
        foreseen = _pass(node, layer, asked, dry_run=True)
        if dry_run:
            return foreseen
    return _pass(node, layer, asked, dry_run=False)


def _pass(
    node: Identity, layer: Layer, asked: Mapping[str, Options], *, dry_run: bool
) -> dict[str, Change]:
    changers: Mapping[str, _Changer] = {"link": _link, "quota": _quota, "disk": _disk}
    return {kind: changers[kind](node, layer, asked[kind], dry_run) for kind in asked}


_Changer = Callable[[Identity, Layer, Options, bool], Change]


def result(changes: Mapping[str, Change], called_off: int = 0) -> dict[str, object]:
    """Return what a module reports: changed, actions, and a diff for each kind.

    Args:
        changes: what changed, by kind.
        called_off: how many steps of timelines will not happen.
    """
    return {
        "changed": bool(called_off) or any(change.changed for change in changes.values()),
        "actions": ["call off what was to come"] * bool(called_off)
        + [action for change in changes.values() for action in change.actions],
        "diff": [
            {
                "before_header": kind,
                "after_header": kind,
                "before": change.before,
                "after": change.after,
            }
            for kind, change in changes.items()
        ],
    }


def _link(node: Identity, layer: Layer, options: Options, dry_run: bool) -> Change:
    body = link_body(node, options, _held(node, links.STORE, layer)) if layer.present else {}
    return links.change(
        node,
        layer=layer.stored,
        egress=_qualities(body.get("egress", {})),
        ingress=_qualities(body.get("ingress", {})),
        present=layer.present,
        dry_run=dry_run,
    )


def _quota(node: Identity, layer: Layer, options: Options, dry_run: bool) -> Change:
    held = _held(node, quotas.STORE, layer)
    return quotas.change(
        node,
        layer=layer.stored,
        limits={**held, **quota_body(options)} if layer.present else {},
        present=layer.present,
        force=bool(options.get("force")),
        dry_run=dry_run,
    )


def _disk(node: Identity, layer: Layer, options: Options, dry_run: bool) -> Change:
    name = options.get("disk")
    return disks.change(
        node,
        layer=layer.stored,
        disk=None if name is None else str(name),
        state=str(options.get("condition", disks.STATES[0])),
        present=layer.present,
        dry_run=dry_run,
    )


def link_body(node: Identity, options: Options, held: layers.Body) -> layers.Body:
    """Return a layer's content for links: what it holds, and over that what the options name.

    Args:
        node: this node; the peer ``*`` stands for each of its peers that is not listed.
        options: "egress" and "ingress", each ``{peer: {"rate": "5mbit", "delay": "40ms"}}``.
        held: the layer's content so far.

    Raises:
        ValueError: for a value that cannot be read, naming way, peer and key.
        DisturbanceError: for a peer that is not there.
    """
    return {way: _one_way(node, way, options, held) for way in ("egress", "ingress")}


def _one_way(
    node: Identity, way: str, options: Options, held: layers.Body
) -> dict[str, dict[str, object]]:
    merged: dict[str, dict[str, object]] = {**held.get(way, {})}
    for peer, numbers in _named(node, way, options.get(way) or {}).items():
        merged[peer] = {**merged.get(peer, Quality().to_dict()), **numbers}
    return merged


def _named(node: Identity, way: str, texts: object) -> dict[str, dict[str, object]]:
    """Return the numbers that the options name for each peer, ``*`` resolved."""
    if not isinstance(texts, Mapping):
        raise ValueError(
            f"{way}: {texts!r} is no mapping of peers; write {{cloud-1: {{rate: 5mbit}}}}"
        )
    node.check_peers({peer: None for peer in texts if peer != EVERY_PEER})
    numbers = {peer: _numbers(f"{way}.{peer}", text) for peer, text in texts.items()}
    everyone = numbers.pop(EVERY_PEER, None)
    return numbers if everyone is None else {**dict.fromkeys(node.peers, everyone), **numbers}


def _numbers(place: str, texts: object) -> dict[str, object]:
    if not isinstance(texts, Mapping) or not texts:
        raise ValueError(f"{place}: {texts!r} is no quality; write {{rate: 5mbit, delay: 40ms}}")
    try:
        numbers = parse(texts).to_dict()
    except ValueError as error:
        raise ValueError(f"{place}.{error}") from error
    return {key: numbers[key] for key in texts}


def _qualities(ways: Mapping[str, Mapping[str, int | float | None]]) -> dict[str, Quality]:
    return {peer: Quality.from_dict(numbers) for peer, numbers in ways.items()}


def quota_body(options: Options) -> dict[str, float | int]:
    """Return a layer's content for capacity: the limits that the options name, as numbers.

    Raises:
        ValueError: for a value that cannot be read, naming its key.
    """
    return limits.read({key: value for key, value in given(options).items() if key != "force"})


def disk_body(node: Identity, options: Options) -> dict[str, str]:
    """Return what the agent is told of a disk: its name and the condition.

    Raises:
        DisturbanceError: if there is no such disk, or several and none was named.
    """
    names = [str(options["disk"])] if options.get("disk") else sorted(node.disks)
    if len(names) != 1 or names[0] not in node.disks:
        found = ", ".join(sorted(node.disks)) or "none"
        raise DisturbanceError(f"disk: name one of the disks of {node.name} (it has: {found})")
    return {"disk": names[0], "state": str(options["condition"])}


def _held(node: Identity, store: str, layer: Layer) -> layers.Body:
    """Return what the layer holds already."""
    return layers.load(Path(node.directory, store)).get(layer.name, {})


def given(options: Options, names: Iterable[str] | None = None) -> dict[str, object]:
    """Return the options that were given a value, all of them or those of some names."""
    chosen = options if names is None else names
    return {name: options[name] for name in chosen if options.get(name) is not None}


_BODIES: Mapping[str, Callable[[Identity, Options], Mapping[str, object]]] = {
    "link": lambda node, options: link_body(node, options, {}),
    "quota": lambda node, options: quota_body(options),
    "disk": disk_body,
}
