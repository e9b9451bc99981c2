# SPDX-License-Identifier: GPL-3.0-or-later
"""Disturbances by playbook: judged against a testbed first, armed for a run, healed for good."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pkgctl import playbook
from pkgctl.errors import SpecError
from pkgctl.local import testbed
from pkgctl.local.overview import active_layers
from pkgctl.local.paths import Paths
from pkgctl.nodeside import perturbation, selection
from pkgctl.spec.models import Body

PERTURB, HEAL = "perturb.yml", "heal.yml"


def check(name: str, words: Mapping[str, Any], paths: Paths) -> None:
    """Refuse words of a playbook that make no sense, or not on this testbed.

    Raises:
        SpecError: in one line, with the word at fault.
    """
    try:
        if name == HEAL:
            healing = perturbation.read_healing(words)
            healing.hosts(targets(testbed.read_state(paths)))
        else:
            asked = perturbation.read(words)
            asked.plan(targets(testbed.read_state(paths)))
    except ValueError as error:
        raise SpecError(str(error)) from error


def targets(state: Mapping[str, Any]) -> list[selection.Node]:
    """Return the nodes of a running testbed, as choices of nodes see them."""
    return [
        selection.Node(
            name=name,
            site=node["site"],
            role=node["role"] or "",
            kind=node["kind"] or "",
            labels=node["labels"],
            disks=tuple(node["disks"]),
        )
        for name, node in state["nodes"].items()
    ]


def timeline(names: tuple[str, ...]) -> str:
    """Return the name of the timeline that carries these perturbations."""
    return "-".join(("experiment", *names))[:63].strip("-.")


def arm(body: Body, paths: Paths, artifacts: Path) -> str | None:
    """Arm a cell's perturbations on one timeline; return its name, or None if there are none.

    Raises:
        PlayError: if a node refuses.
    """
    if not body.active:
        return None
    line = timeline(body.active)
    for name in body.active:
        words = {"start": "0s", **body.perturbations[name], "name": name, "timeline": line}
        playbook.play(PERTURB, words, testbed=paths.name, artifacts=artifacts)
    return line


def in_force(paths: Paths) -> list[str]:
    """Return the names of the layers, beside the testbed's own, that are on any node."""
    nodes = testbed.read_state(paths)["nodes"]
    return sorted({layer for name in nodes for layer in active_layers(paths, name)})


def heal(names: list[str], paths: Paths, artifacts: Path) -> None:
    """Take layers away.

    Raises:
        PlayError: if a node refuses.
    """
    for name in names:
        playbook.play(HEAL, {"name": name}, testbed=paths.name, artifacts=artifacts)
