# SPDX-License-Identifier: GPL-3.0-or-later
"""The programs, built once before the first test that takes them, and a control plane to share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pkgctl.cluster.client import Api, connect

from . import assets
from .controlplane import ControlPlane, control_plane
from .schedulers import admit


@pytest.fixture(scope="session", autouse=True)
def programs(request: pytest.FixtureRequest) -> None:
    """Have what the tests run; whoever comes second waits for the first."""
    marked = [item for item in request.session.items if item.get_closest_marker("kubernetes")]
    if any(not item.get_closest_marker("skip") for item in marked):
        for recipe in assets.RECIPES:
            for program in recipe.programs:
                assets.path(program)


@pytest.fixture(scope="module")
def plane(request: pytest.FixtureRequest) -> Iterator[ControlPlane]:
    """A control plane with as many nodes played as the module says by NODES."""
    with control_plane(fake_nodes=request.module.NODES) as made:
        yield made


@pytest.fixture(scope="module")
def api(plane: ControlPlane) -> Iterator[Api]:
    """Its API, with every right."""
    made = connect(plane.kubeconfig)
    yield made
    made.close()


@pytest.fixture(scope="module")
def account(plane: ControlPlane) -> Path:
    """The kubeconfig of our scheduler's account there."""
    return admit(plane)
