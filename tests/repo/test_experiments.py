# SPDX-License-Identifier: GPL-3.0-or-later
"""Everything that comes with the project can be read by the project."""

from __future__ import annotations

import pytest

from pkgctl import project, spec, topology

TOPOLOGIES = project.names(project.topologies())
EXPERIMENTS = project.names(project.experiments())


@pytest.mark.parametrize("name", TOPOLOGIES)
def test_every_topology_loads_under_its_own_name_and_has_a_matrix(name):
    found = topology.load(name)

    assert found.name == name
    assert found.description
    assert len(list(found.pairs())) == len(found.nodes) * (len(found.nodes) - 1)


@pytest.mark.parametrize("name", TOPOLOGIES)
def test_every_topology_survives_its_own_text_and_json(name):
    found = topology.load(name)

    assert topology.loads(topology.dumps(found)) == found
    assert topology.Topology.from_dict(found.to_dict()) == found


@pytest.mark.parametrize("name", ["three-sites", "duo"])
def test_the_topologies_for_every_day_fit_into_a_small_machine(name):
    found = topology.load(name)

    topology.check_machine(found, 4 * 2**30)
    assert all(disk.size <= 256 * 2**20 for node in found.nodes for disk in node.disks.values())


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_experiment_loads_under_its_own_name(name):
    found = spec.load(name)

    assert found.head.name == name.replace("_", "-")
    assert found.cells


@pytest.mark.parametrize("name", EXPERIMENTS + [f"topologies/{name}" for name in TOPOLOGIES])
def test_the_first_line_of_every_file_says_what_it_is_for(name):
    path = next(project.experiments().glob(f"{name}.y*ml"))

    first = path.read_text().splitlines()[0]

    assert first.startswith("# ") and first.endswith((".", "?"))
