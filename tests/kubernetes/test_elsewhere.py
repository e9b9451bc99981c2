# SPDX-License-Identifier: GPL-3.0-or-later
"""What an experiment that was killed left in a cluster apart from its testbed goes by `down`."""

from __future__ import annotations

import subprocess
import sys
import uuid

import pytest

from pkgctl import topology
from pkgctl.cluster import elsewhere, owning
from pkgctl.cluster.client import connect
from pkgctl.local import paths, removal, testbed

from .controlplane import ControlPlane, control_plane

pytestmark = [pytest.mark.root, pytest.mark.kubernetes("control-plane")]


def test_down_has_a_cluster_apart_remove_what_is_there():
    place = paths.paths(f"t{uuid.uuid4().hex[:10]}")
    down = [sys.executable, "-m", "pkgctl", "down", "--name", place.name]
    try:
        with control_plane(controllers=True) as plane:
            testbed.up(topology.load("duo"), place)
            elsewhere.remember(place, plane.kubeconfig, None)
            owning.settle(connect(plane.kubeconfig), place.name)
            assert f"pkgctl-{place.name}" in _namespaces(plane)

            done = subprocess.run(down, capture_output=True, text=True, timeout=240, check=True)

            assert done.stderr == ""
            space = f"pkgctl-{place.name}"
            plane.wait_for(lambda: space not in _namespaces(plane), "the namespace to go")
    finally:
        removal.down(place)


def _namespaces(plane: ControlPlane) -> set[str]:
    found = plane.api("GET", "/api/v1/namespaces")["items"]
    return {each["metadata"]["name"] for each in found}
