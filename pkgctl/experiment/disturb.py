# SPDX-License-Identifier: GPL-3.0-or-later
"""Disturbances by playbook: judged against a testbed first, armed for a run, healed for good."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pkgctl import playbook
from pkgctl.errors import SpecError
from pkgctl.local import testbed
from pkgctl.local.overview import by_layer
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


def located(given: Mapping[str, Any], *folders: Path) -> dict[str, Any]:
    """Return the words with the files that they name as whole paths, if a folder has them."""
    return perturbation.located(given, *folders)


def words(body: Body) -> dict[str, dict[str, Any]]:
    """Return the playbook's variables for each perturbation of a cell, by its name.

    One without a duration lasts until the run is over; one that waits for something has no end of
    its own, and is healed after the run.
    """
    found = {}
    for name in body.active:
        given = body.perturbations[name]
        found[name] = {**_usual_times(body, name), **given, "name": name}
    return found


def _usual_times(body: Body, name: str) -> dict[str, str]:
    read = body.disturbance(name)
    if read.timing.is_conditional:
        return {}
    rest = units.show_duration(round(body.duration - read.start, 6))
    return {"start": "0s", "duration": rest}


def open_ended(body: Body) -> set[str]:
    """Return the perturbations of a cell that are healed after the run, for they have no end."""
    return {name for name in body.active if "duration" not in words(body)[name]}


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
    stored = paths.reach().layers(testbed.read_state(paths))
    return sorted({layer for stores in stored.values() for layer in by_layer(stores)})


def heal(names: list[str], paths: Paths, artifacts: Path) -> None:
    """Take layers away, all in one play.

    Raises:
        PlayError: if a node refuses.
    """
    if names:
        playbook.play(HEAL, {"name": ",".join(names)}, testbed=paths.name, artifacts=artifacts)
