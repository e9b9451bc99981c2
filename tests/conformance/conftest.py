# SPDX-License-Identifier: GPL-3.0-or-later
"""The testbeds that are held against the same tests."""

from __future__ import annotations

import os
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pkgctl import topology
from pkgctl.local import paths, removal, testbed
from tests import needs
from tests.conformance.subjects import TOPOLOGY, Subject
from tests.vm.hypervisor import hypervisor

SUBJECTS = [
    pytest.param("local", marks=pytest.mark.root),
    pytest.param("libvirt", marks=pytest.mark.vm("pulumi", "libvirt", "qemu", "image", "ssh")),
]


@pytest.fixture(scope="module", params=SUBJECTS)
def subject(request: pytest.FixtureRequest) -> Iterator[Subject]:
    """A running testbed with the nodes of trio.yaml."""
    make = {"local": local_nodes, "libvirt": virtual_machines}[request.param]
    with make(f"c{uuid.uuid4().hex[:8]}") as made:
        yield made


@contextmanager
def local_nodes(name: str) -> Iterator[Subject]:
    """Have nodes that are parts of this machine's kernel while the block runs."""
    place = paths.paths(name)
    try:
        network = topology.load(TOPOLOGY)
        testbed.up(network, place)
        groups = {node.name: f"{place.cgroup}/nodes/{node.name}" for node in network.nodes}
        yield Subject(name, "local", groups)
    finally:
        removal.down(place)


@contextmanager
def virtual_machines(name: str) -> Iterator[Subject]:
    """Have virtual machines on a libvirt host of the tests' own while the block runs."""
    nodes = [node.name for node in topology.load(TOPOLOGY).nodes]
    with hypervisor() as host, tempfile.TemporaryDirectory(prefix="pkgctl-state-") as state:
        made = Subject(
            name,
            "libvirt",
            dict.fromkeys(nodes, "pkgctl.slice"),
            enter=host.enter,
            environment={
                "PATH": needs.path(),
                "PKGCTL_STATE": state,
                "LIBVIRT_DEFAULT_URI": "qemu:///system",
                "HOME": os.environ.get("HOME", str(Path.home())),
            },
        )
        try:
            built = made.run("pkgctl", "image", "build", timeout=600.0)
            assert built.status == 0, built.output + built.errors
            up = made.run("pkgctl", "up", str(TOPOLOGY), "--provider", "libvirt", timeout=900.0)
            assert up.status == 0, up.output + up.errors
            yield made
        finally:
            down = made.run("pkgctl", "down", timeout=300.0)
            left = host.virsh("list", "--all", "--name") + host.virsh("pool-list", "--all")
            assert (down.status, left.strip()) == (0, ""), down.output + down.errors + left
