# SPDX-License-Identifier: GPL-3.0-or-later
"""The testbeds that are held against the same tests."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest

from pkgctl import topology
from pkgctl.local import paths, removal, testbed
from tests.conformance.subjects import TOPOLOGY, Subject


@pytest.fixture(scope="module", params=[pytest.param("local", marks=pytest.mark.root)])
def subject(request: pytest.FixtureRequest) -> Iterator[Subject]:
    """A running testbed with the nodes of trio.yaml."""
    name = f"c{uuid.uuid4().hex[:8]}"
    place = paths.paths(name)
    try:
        network = topology.load(TOPOLOGY)
        testbed.up(network, place)
        groups = {node.name: f"{place.cgroup}/nodes/{node.name}" for node in network.nodes}
        yield Subject(name, request.param, groups)
    finally:
        removal.down(place)
