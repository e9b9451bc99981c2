# SPDX-License-Identifier: GPL-3.0-or-later
"""What is said before a setting is applied, with what is known of this machine."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from pkgctl.nodeside import Quality, baseline, layers, links, predictions, quality
from pkgctl.nodeside import errors as node_errors

Matrix = Mapping[str, Mapping[str, Quality]]


def learn() -> predictions.Machine:
    """Return what this machine does without shaping, measuring it if that was not done yet.

    It takes about a second, once after each boot. Where it cannot be measured nothing is known.
    """
    known = baseline.load()
    if known is None:
        with suppress(node_errors.DisturbanceError, OSError):
            known = baseline.measure()
            baseline.save(known)
    return known or predictions.Machine()


def of_matrix(matrix: Matrix, machine: predictions.Machine | None = None) -> list[str]:
    """Return what will not be as asked of the links of a topology; this measures nothing.

    Args:
        matrix: what is asked.
        machine: what the nodes' machine does without shaping; what is known of this one if None.
    """
    machine = machine or baseline.load() or predictions.Machine()
    return predictions.foresee_all(matrix, machine, measured=False)


def of_plan(
    plan: Mapping[str, Mapping[str, Any]], state: Mapping[str, Any], layer: str
) -> list[str]:
    """Return what will not be as asked of links that a perturbation changes; measures nothing.

    Args:
        plan: by node, what the perturbation does there; ``link`` holds qualities as texts.
        state: the running testbed, whose other layers count too.
        layer: the perturbation's name.
    """
    changed: dict[str, dict[str, Quality]] = {}
    losing = False
    for source, parts in plan.items():
        asked = (parts.get("link") or {}).get("egress") or {}
        losing |= any({"loss", "burst", "corrupt"} & texts.keys() for texts in asked.values())
        if asked:
            present = _others(state, source, layer)
            peers = [name for name in state["nodes"] if name != source]
            everyone = dict.fromkeys(peers, asked["*"]) if "*" in asked else {}
            named = {peer: texts for peer, texts in asked.items() if peer != "*"}
            changed[source] = {
                peer: quality.compose(present.get(peer, Quality()), quality.parse(texts))
                for peer, texts in {**everyone, **named}.items()
            }
    machine = (None if _has_machines(state) else baseline.load()) or predictions.Machine()
    return predictions.foresee_all(changed, machine, measured=losing)


def _has_machines(state: Mapping[str, Any]) -> bool:
    """Return whether nodes are machines of their own: then this one's limits are not theirs."""
    return any("domain" in node for node in state["nodes"].values())


def _others(state: Mapping[str, Any], node: str, layer: str) -> Mapping[str, Quality]:
    if "domain" in state["nodes"][node]:
        # Its layers are on the machine itself, and asking it takes seconds.
        row = state["links"].get(node, {})
        return {peer: Quality.from_dict(numbers) for peer, numbers in row.items()}
    stored = layers.load(Path(state["nodes"][node]["directory"], links.STORE))
    return links.wanted({name: body for name, body in stored.items() if name != layer}).egress
