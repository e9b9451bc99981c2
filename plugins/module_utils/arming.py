# SPDX-License-Identifier: GPL-3.0-or-later
"""Layers that come later, or do not stay: telling the node's agent what to do, when, how long."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from . import channel, identity, words
from .errors import AgentError
from .identity import Identity
from .syscalls import monotonic


def arm(
    node: Identity,
    layer: str,
    bodies: Mapping[str, Mapping[str, object]],
    times: Mapping[str, object],
    timeline: str,
    *,
    dry_run: bool,
) -> dict[str, object]:
    """Tell the agent to set a layer later, and return a module's report.

    Args:
        node: this node.
        layer: the layer's name.
        bodies: its content by kind: "link", "quota", "disk", "health", "stress".
        times: when it is in force; see times.Times.
        timeline: on which timeline.
        dry_run: only have the agent say what it would arm.

    Raises:
        AgentError: if the agent is out of reach or refuses.
    """
    step = {"timeline": timeline, "node": node.name, "layer": layer, "times": dict(times)}
    # All are judged before the first is armed.
    fresh = [kind for kind in bodies if _arm(node, step, kind, bodies[kind], dry_run=True)]
    for kind in () if dry_run else fresh:
        _arm(node, step, kind, bodies[kind], dry_run=False)
    actions = [f"arm {layer} ({kind}) on {timeline}" for kind in fresh]
    return {"changed": bool(fresh), "actions": actions}


def _arm(
    node: Identity,
    step: Mapping[str, Any],
    kind: str,
    body: Mapping[str, object],
    *,
    dry_run: bool,
) -> bool:
    """Return whether the agent had something else armed."""
    told = {**step, "kind": kind, "body": dict(body), "dry_run": dry_run}
    return bool(_ask(node, "timeline-arm", **told)["changed"])


def perform(options: Mapping[str, object], *, dry_run: bool) -> dict[str, object]:
    """Do on this node what the timeline module was told, and return its report.

    Raises:
        DisturbanceError: in one line.
        ValueError: in one line, for a name that cannot be one.
    """
    node = identity.load(f"{identity.DIRECTORY}/node.json")
    name = words.read_name("name", options["name"])
    begins = options["state"] == "begun"
    if dry_run:
        found = _ask(node, "timeline-list")["timelines"]
        return {"changed": would_change(found, name, begins=begins)}
    steps = begin(node, name) if begins else drop(node, name)
    return {"changed": steps > 0, "steps": steps}


def would_change(timelines: Iterable[Mapping[str, Any]], timeline: str, *, begins: bool) -> bool:
    """Return whether a timeline has steps to begin, or to drop, by the agents' lists.

    A play that runs dry has armed nothing, so one that no agent knows would begin.
    """
    states = {each["state"] for each in timelines if each["timeline"] == timeline}
    return "armed" in states or not states if begins else bool(states)


def begin(node: Identity, timeline: str) -> int:
    """Let a timeline begin now, and return how many steps begin; what is under way goes on.

    Raises:
        AgentError: if the agent is out of reach or refuses.
    """
    return int(_ask(node, "timeline-start", timeline=timeline, t0=monotonic())["steps"])


def drop(node: Identity, timeline: str) -> int:
    """Forget a timeline, end what it has in force, and return how many steps it had.

    Raises:
        AgentError: if the agent is out of reach or refuses.
    """
    return int(_ask(node, "timeline-drop", timeline=timeline)["steps"])


def cancel(node: Identity, layer: str | None, kinds: Iterable[str], *, dry_run: bool) -> int:
    """Forget what begun timelines still hold for a layer here; None is every layer.

    Returns:
        How many steps that were; none where no agent runs, which could not hold any.

    Raises:
        AgentError: if the agent refuses, or goes away meanwhile: what it holds would come back.
    """
    asked = {"node": node.name, "layer": layer, "kinds": list(kinds), "dry_run": dry_run}
    try:
        client = channel.Client(socket(node))
    except AgentError:
        return 0
    with client:
        return int(client.call("timeline-cancel", **asked)["steps"])


def lease(node: Identity, layer: str, seconds: float | None, *, dry_run: bool) -> None:
    """Have the agent take a layer off this node unless it is asked again within some seconds.

    Args:
        node: this node.
        layer: the layer's name.
        seconds: for how long it may stay; None lets it stay, and needs no agent.
        dry_run: only see whether the agent is there.

    Raises:
        AgentError: if the agent is out of reach, but for a layer that may stay.
    """
    if dry_run:
        if seconds is not None:
            _ask(node, "ping")
        return
    try:
        _ask(node, "lease-set", node=node.name, layer=layer, seconds=seconds)
    except AgentError:
        if seconds is not None:
            raise


def release(node: Identity, layer: str | None) -> None:
    """Have the agent forget the lease of a layer that is gone from this node; None is of all."""
    with suppress(AgentError):
        channel.call(socket(node), "lease-drop", node=node.name, layer=layer)


def _ask(here: Identity, op: str, **fields: object) -> channel.Body:
    try:
        client = channel.Client(socket(here))
    except AgentError as error:
        raise AgentError(
            f"{here.name} has no agent to see to what comes later ({error}); `pkgctl up` starts it"
        ) from error
    with client:
        return client.call(op, **fields)


def socket(node: Identity) -> Path:
    """Return where the node's agent listens."""
    return node.agent
