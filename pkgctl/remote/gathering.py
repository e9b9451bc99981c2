# SPDX-License-Identifier: GPL-3.0-or-later
"""The answers of several agents as that of one. Pure."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from statistics import fmean
from typing import Any

Body = dict[str, Any]
Answers = Mapping[str, Body]
# An answer is one mebibyte at most; of what goes beyond half of it the rest is asked for again.
_ROOM = 1 << 19


def _concatenated(*keys: str) -> Callable[[Answers], Body]:
    def gather(answers: Answers) -> Body:
        found: Sequence[Body] = list(answers.values())
        return {key: [each for answer in found for each in answer.get(key, ())] for key in keys}

    return gather


def _joined(key: str) -> Callable[[Answers], Body]:
    def gather(answers: Answers) -> Body:
        found: Body = {}
        for answer in answers.values():
            found |= answer[key]
        return {key: found}

    return gather


def _summed(key: str) -> Callable[[Answers], Body]:
    return lambda answers: {key: sum(answer[key] for answer in answers.values())}


def _traffic(answers: Answers) -> Body:
    """Return all pairs; ``monos`` says when each node's were read."""
    monos = {name: answer["mono"] for name, answer in answers.items()}
    pairs = _concatenated("pairs")(answers)
    return {**pairs, "monos": monos, "mono": fmean(monos.values()) if monos else 0.0}


def _look(answers: Answers) -> Body:
    """Return as many nodes as a message holds; ``left`` names the others."""
    found: Body = {}
    left: list[str] = []
    room = _ROOM
    for answer in answers.values():
        for name, node in answer["nodes"].items():
            size = len(json.dumps(node))
            if found and size > room:
                left.append(name)
            else:
                found[name] = node
                room -= size
    return {"nodes": found, "left": left}


# How each request that goes to all nodes is answered.
GATHER: Mapping[str, Callable[[Answers], Body]] = {
    "artifact-list": _joined("artifacts"),
    "layer-list": _concatenated("layers", "leases"),
    "timeline-list": _concatenated("timelines"),
    "lease-list": _concatenated("leases"),
    "timeline-start": _summed("steps"),
    "timeline-drop": _summed("steps"),
    "traffic": _traffic,
    "look": _look,
}
# What concerns health as well, and so the watchman.
OF_WATCHMAN = ("layer-list", "timeline-list", "lease-list", "timeline-start", "timeline-drop")
