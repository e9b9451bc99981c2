# SPDX-License-Identifier: GPL-3.0-or-later
"""When nodes come and go, the links of those that stay follow."""

from __future__ import annotations

from pathlib import Path

import pytest

from pkgctl import topology
from pkgctl.local import testbed
from pkgctl.local.paths import Paths
from pkgctl.nodeside import channel, delayclient, links, quality

from .conftest import on_node

pytestmark = pytest.mark.root
TEXT = """\
name: growing
sites:
  cloud: {access: lan}
  edge: {access: lan}
kinds:
  node: {cpu: 0.2, memory: 64Mi}
links:
  - {from: cloud, to: edge, rate: 20mbit, delay: 5ms, symmetric: true}
nodes:
  - {name: cloud-1, site: cloud, kind: node}
"""


def up(place: Paths, folder: Path, *edges: str) -> None:
    path = folder / "growing.yaml"
    nodes = "".join(f"  - {{name: {name}, site: edge, kind: node}}\n" for name in edges)
    path.write_text(TEXT + nodes)
    testbed.up(topology.load(str(path)), place)


def classes(place: Paths) -> int:
    return on_node(place, "cloud-1", "tc", "class", "show", "dev", "eth0").count("rate 20Mbit")


def delayed(place: Paths) -> int:
    return int(channel.call(place.agent / delayclient.SOCKET, "status")["pairs"])


def test_a_new_nodes_links_are_shaped_at_both_ends(place: Paths, tmp_path: Path) -> None:
    up(place, tmp_path, "edge-1")
    assert (classes(place), delayed(place)) == (1, 2)

    up(place, tmp_path, "edge-1", "edge-2")

    assert (classes(place), delayed(place)) == (2, 4)


def test_a_node_that_goes_takes_its_links_along_and_leaves_the_others_changeable(
    place: Paths, tmp_path: Path
) -> None:
    up(place, tmp_path, "edge-1", "edge-2")
    down = {"edge-2": quality.Quality(rate=1_000_000, loss=1.0)}
    with testbed.inside(place, "cloud-1") as here:
        links.change(here, layer="storm", egress=down, ingress=down)

    up(place, tmp_path, "edge-1")

    assert (classes(place), delayed(place)) == (1, 2)
    with testbed.inside(place, "cloud-1") as here:
        assert links.change(here, layer=None, present=False).changed
