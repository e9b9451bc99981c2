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
from pkgctl.nodeside import perturbation, selection, units
from pkgctl.spec.models import Body

PERTURB, HEAL = "perturb.yml", "heal.yml"


def check(name: str, given: Mapping[str, Any], paths: Paths) -> None:
    """Refuse words of a playbook that make no sense, or not on this testbed.

    Raises:
        SpecError: in one line, with the word at fault.
    """
    try:
        if name == HEAL:
            healing = perturbation.read_healing(given)
            healing.hosts(targets(testbed.read_state(paths)))
        else:
            asked = perturbation.read(given)
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


def words(body: Body) -> dict[str, dict[str, Any]]:
    """Return the playbook's variables for each perturbation of a cell, by its name.

    One without a duration lasts until the run is over.
    """
    found = {}
    for name in body.active:
        read = body.disturbance(name)
        rest = units.show_duration(round(body.duration - read.start, 6))
        found[name] = {"start": "0s", "duration": rest, **body.perturbations[name], "name": name}
    return found


def arm(body: Body, timeline: str, paths: Paths, artifacts: Path) -> None:
    """Arm a cell's perturbations on a timeline.

    Raises:
        PlayError: if a node refuses.
    """
    for variables in words(body).values():
        given = {**variables, "timeline": timeline}
        playbook.play(PERTURB, given, testbed=paths.name, artifacts=artifacts)


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
