# SPDX-License-Identifier: GPL-3.0-or-later
"""Layers that come later: telling the node's agent what to set, when, and for how long."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from . import channel, identity, words
from .errors import AgentError
from .identity import Identity
from .syscalls import monotonic

SOCKET = "agent/agent.sock"


@dataclass(frozen=True, slots=True)
class Times:
    """When a layer is in force: start in seconds after its timeline begins, and how long."""

    timeline: str
    start: float = 0.0
    duration: float | None = None


def read_times(options: Mapping[str, object]) -> Times:
    """Return the times that the options timeline, start and duration mean.

    Raises:
        ValueError: in one line.
    """
    start, duration = options.get("start"), options.get("duration")
    return Times(
        words.read_name("timeline", options.get("timeline")),
        0.0 if start is None else words.read_duration("start", start),
        None if duration is None else words.read_duration("duration", duration),
    )


def arm(
    node: Identity,
    layer: str,
    bodies: Mapping[str, Mapping[str, object]],
    times: Times,
    *,
    dry_run: bool,
) -> dict[str, object]:
    """Tell the agent to set a layer later, and return a module's report.

    Args:
        node: this node.
        layer: the layer's name.
        bodies: its content by kind: "link", "quota", "disk".
        times: when.
        dry_run: only say what would be armed. The agent is not asked what it has armed already.

    Raises:
        AgentError: if the agent is out of reach or refuses.
    """
    told = {kind: dry_run or _tell(node, layer, kind, bodies[kind], times) for kind in bodies}
    return {
        "changed": any(told.values()),
        "actions": [f"arm {layer} ({kind}) on {times.timeline}" for kind in told if told[kind]],
    }


def _tell(node: Identity, layer: str, kind: str, body: Mapping[str, object], times: Times) -> bool:
    """Return whether the agent had something else armed."""
    answer = channel.call(
        socket(node),
        "timeline-arm",
        node=node.name,
        layer=layer,
        kind=kind,
        body=dict(body),
        timeline=times.timeline,
        start=times.start,
        duration=times.duration,
    )
    return bool(answer["changed"])


def perform(options: Mapping[str, object], *, dry_run: bool) -> dict[str, object]:
    """Do on this node what the timeline module was told, and return its report.

    In a dry run the agent is not asked whether it has such a timeline.

    Raises:
        DisturbanceError: in one line.
        ValueError: in one line, for a name that cannot be one.
    """
    node = identity.load(f"{identity.DIRECTORY}/node.json")
    name = words.read_name("name", options["name"])
    if dry_run:
        return {"changed": True}
    steps = begin(node, name) if options["state"] == "begun" else drop(node, name)
    return {"changed": steps > 0, "steps": steps}


def begin(node: Identity, timeline: str) -> int:
    """Let a timeline begin now, and return how many steps it has.

    Raises:
        AgentError: if the agent is out of reach or refuses.
    """
    return int(
        channel.call(socket(node), "timeline-start", timeline=timeline, t0=monotonic())["steps"]
    )


def drop(node: Identity, timeline: str) -> int:
    """Forget what is armed on a timeline that has not begun, and return how many steps that were.

    Raises:
        AgentError: if the agent is out of reach or refuses.
    """
    return int(channel.call(socket(node), "timeline-drop", timeline=timeline)["steps"])


def cancel(node: Identity, layer: str | None, kinds: Iterable[str], *, dry_run: bool) -> int:
    """Forget what begun timelines still hold for a layer here; None is every layer.

    Returns:
        How many steps that were; none where no agent runs, which could not hold any.
    """
    asked = {"node": node.name, "layer": layer, "kinds": list(kinds), "dry_run": dry_run}
    try:
        return int(channel.call(socket(node), "timeline-cancel", **asked)["steps"])
    except AgentError:
        return 0


def socket(node: Identity) -> Path:
    """Return where the node's agent listens."""
    return Path(node.directory, SOCKET)
