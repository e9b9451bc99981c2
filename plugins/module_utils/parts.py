# SPDX-License-Identifier: GPL-3.0-or-later
"""The parts of a layer on a node: from a module's options to what the kernel and the agent do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from . import arming, bodies, identity, kinds, layers, timewords, words
from .bodies import Options, given
from .change import Change
from .errors import AgentError, DisturbanceError
from .identity import Identity
from .specifications import ARMING, KINDS

EVERY_LAYER = "*"


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
    return _set("link", options, dry_run=dry_run)


def set_quota(options: Options, *, dry_run: bool) -> dict[str, object]:
    """Do what the quota module was told, and return its report; see perform."""
    return _set("quota", options, dry_run=dry_run)


def set_disk(options: Options, *, dry_run: bool) -> dict[str, object]:
    """Do what the disk module was told, and return its report; see perform."""
    return _set("disk", options, dry_run=dry_run)


def set_health(options: Options, *, dry_run: bool) -> dict[str, object]:
    """Do what the health module was told, and return its report; see perform."""
    return _set("health", options, dry_run=dry_run)


def set_stress(options: Options, *, dry_run: bool) -> dict[str, object]:
    """Do what the stress module was told, and return its report; see perform."""
    return _set("stress", options, dry_run=dry_run)


def _set(kind: str, options: Options, *, dry_run: bool) -> dict[str, object]:
    return perform(options, {kind: given(options, KINDS[kind])}, dry_run=dry_run)


def set_layer(options: Options, *, dry_run: bool) -> dict[str, object]:
    """Do what the layer module was told, and return its report; see perform.

    A layer that is to be absent is absent in all its kinds.
    """
    if options["state"] == "absent":
        return perform(options, {kind: {} for kind in KINDS}, dry_run=dry_run)
    parts = {kind: part for kind in KINDS if isinstance(part := options.get(kind), Mapping)}
    return perform(options, {kind: given(parts[kind]) for kind in parts}, dry_run=dry_run)


def perform(
    options: Options,
    asked: Mapping[str, Options],
    *,
    dry_run: bool,
    node: Identity | None = None,
) -> dict[str, object]:
    """Do on a node what a module was told, now or by a timeline, and return its report.

    All kinds are tried dry before the first is carried out, so that what is refused leaves nothing
    half done.

    Args:
        options: those that all modules have: layer, state, force, lease, timeline and the times.
        asked: the other options by kind: "link", "quota", "disk", "health", "stress".
        dry_run: only say what would be done.
        node: the node; None is the one on which this runs.

    Raises:
        DisturbanceError: in one line.
        ValueError: in one line, for an option that cannot be read.
    """
    node = node or identity.load(f"{identity.DIRECTORY}/node.json")
    layer = Layer(str(options["layer"]), options["state"] == "present")
    if options.get("timeline") is not None:
        return _arm(node, layer, options, asked, dry_run=dry_run)
    if layer.present:
        return _apply(node, layer, options, asked, dry_run=dry_run)
    return _remove(node, layer, asked, dry_run=dry_run)


def _arm(
    node: Identity,
    layer: Layer,
    options: Options,
    asked: Mapping[str, Options],
    *,
    dry_run: bool,
) -> dict[str, object]:
    if not layer.present:
        raise DisturbanceError("timeline: a layer cannot be taken away by one; give it a duration")
    armed = {kind: bodies.body(kind, node, asked[kind], {}) for kind in asked}
    seed = options.get("seed")
    times = timewords.read(
        given(options, (*ARMING, "lease")),
        words.seed_of(layer.name) if seed is None else words.read_seed(seed),
        _no_files,
    )
    timeline = words.read_name("timeline", options["timeline"])
    return arming.arm(node, layer.name, armed, times.to_dict(), timeline, dry_run=dry_run)


def _no_files(_: str) -> str:
    raise ValueError("is no list of rows; files are read by the module perturbation")


def _apply(
    node: Identity,
    layer: Layer,
    options: Options,
    asked: Mapping[str, Options],
    *,
    dry_run: bool,
) -> dict[str, object]:
    """Set a layer now; its lease is noted first, so that whatever stops this, it ends."""
    lease = timewords.read_lease(options.get("lease"))
    force = bool(options.get("force"))
    foreseen = change(node, layer, asked, force=force, dry_run=True)
    arming.lease(node, layer.name, lease, dry_run=dry_run)
    if dry_run:
        return result(foreseen)
    try:
        return result(change(node, layer, asked, force=force, dry_run=False))
    except DisturbanceError:
        # What was refused after all must not leave a lease for a later layer of that name.
        arming.release(node, layer.name)
        raise


def _remove(
    node: Identity, layer: Layer, asked: Mapping[str, Options], *, dry_run: bool
) -> dict[str, object]:
    """Take a layer away now, and what timelines and leases hold of it."""
    foreseen = change(node, layer, asked, dry_run=True)
    try:
        called_off = arming.cancel(node, layer.stored, asked, dry_run=dry_run)
    except AgentError:
        # It goes all the same; that the agent may bring it back is for the caller to know.
        if not dry_run:
            change(node, layer, asked, dry_run=False)
        raise
    if dry_run:
        return result(foreseen, called_off)
    changes = change(node, layer, asked, dry_run=False)
    if _is_gone(node, layer, asked):
        arming.release(node, layer.stored)
    return result(changes, called_off)


def _is_gone(node: Identity, layer: Layer, asked: Mapping[str, Options]) -> bool:
    """Return whether no kind holds the layer any more, so that its lease is over."""
    others = [kind for kind in KINDS if kind not in asked]
    return not others or (
        layer.stored is not None and not any(_held(node, kind, layer) for kind in others)
    )


def change(
    node: Identity,
    layer: Layer,
    asked: Mapping[str, Options],
    *,
    force: bool = False,
    dry_run: bool,
) -> dict[str, Change]:
    """Bring each kind of disturbance that is asked for to what it should be.

    Args:
        node: this node.
        layer: the layer, and whether it should be there.
        asked: the options by kind.
        force: do it though something is lost by it.
        dry_run: only say what would be done.

    Raises:
        DisturbanceError: in one line.
        ValueError: in one line, for an option that cannot be read.
    """
    return {
        kind: kinds.set_layer(
            node,
            kind,
            layer.stored,
            _body(node, kind, layer, asked[kind]) if layer.present else None,
            force=force,
            dry_run=dry_run,
        )
        for kind in asked
    }


def _body(node: Identity, kind: str, layer: Layer, options: Options) -> bodies.Body:
    """Return the layer's content: what it holds already, and over that what the options name."""
    return bodies.body(kind, node, options, _held(node, kind, layer))


def _held(node: Identity, kind: str, layer: Layer) -> layers.Body:
    return layers.load(Path(node.directory, kinds.store(kind))).get(layer.name, {})


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
