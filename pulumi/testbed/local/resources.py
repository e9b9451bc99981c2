# SPDX-License-Identifier: GPL-3.0-or-later
"""A local testbed as Pulumi resources: itself, its sites, its nodes, and its listed links.

    declared = resources.declare(testbed, settings, topology)

The resources mirror the topology file, so that one edit of it is one update; what the model says of
links that no entry of ``links:`` is about follows from the sites.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pulumi
from pulumi.dynamic import Resource

from pkgctl.local import declared as parts
from pkgctl.local import foresight, planning
from pkgctl.local import testbed as machine
from pkgctl.local.paths import Paths
from pkgctl.network import Topology
from pkgctl.remote import places
from testbed.components import Declared, Testbed
from testbed.local.provider import (
    LinkProvider,
    NodeProvider,
    PieceProvider,
    SiteProvider,
    TestbedProvider,
)
from testbed.settings import LOCAL, Settings


class LocalTestbed(Resource, module="local", name="Testbed"):
    """A testbed without nodes; everything else needs it and goes with it."""


class LocalSite(Resource, module="local", name="Site"):
    """A place with nodes: its access network and its location."""


class LocalNode(Resource, module="local", name="Node"):
    """A node.

    Attributes:
        address: its IPv4 address.
        address6: its IPv6 address; empty where the machine has none.
    """

    address: pulumi.Output[str]
    address6: pulumi.Output[str]


class LocalLink(Resource, module="local", name="Link"):
    """What the topology lists of the links from one end to another."""


@dataclass(frozen=True)
class Local(Declared):
    """A local testbed's resources, by the names that the topology gives them."""

    testbed: LocalTestbed
    sites: Mapping[str, LocalSite] = field(default_factory=dict)
    nodes: Mapping[str, LocalNode] = field(default_factory=dict)
    links: Mapping[str, LocalLink] = field(default_factory=dict)


def declare(testbed: Testbed, settings: Settings, topology: Topology) -> Local:
    """Declare a topology as a local testbed.

    Args:
        testbed: the component that it is part of.
        settings: of which it takes the testbed's name.
        topology: what is asked for.

    Raises:
        SpecError: if this machine is too small, or virtual machines have the name.
    """
    paths = Paths(settings.testbed)
    places.refuse_taken(paths.name, LOCAL)
    machine.check_fits(topology)
    for warning in machine.warnings(topology) + foresight.of_matrix(topology.matrix()):
        pulumi.log.warn(warning, testbed)
    return _declare(testbed, paths, topology)


def _declare(testbed: Testbed, paths: Paths, topology: Topology) -> Local:
    pieces = parts.pieces(topology)
    root = LocalTestbed(
        TestbedProvider(),
        paths.name,
        {"testbed": paths.name, **pieces[parts.TESTBED][""]},
        testbed.inside,
    )

    def piece(
        provider: PieceProvider, name: str, values: Mapping[str, Any], within: pulumi.Resource
    ) -> tuple[PieceProvider, str, dict[str, Any], pulumi.ResourceOptions]:
        after = [root, *([sites[values["site"]]] if provider.kind == parts.NODE else [])]
        # All goes with the testbed, by one removal.
        options = pulumi.ResourceOptions(parent=within, depends_on=after, deleted_with=root)
        return provider, name, {"testbed": paths.name, "name": name, **values}, options

    sites: dict[str, LocalSite] = {
        name: LocalSite(*piece(SiteProvider(), name, values, testbed.sites[name]))
        for name, values in pieces[parts.SITE].items()
    }
    links = {
        name: LocalLink(*piece(LinkProvider(), name, values, testbed))
        for name, values in pieces[parts.LINK].items()
    }
    # What is only known once a node is there is named here, or Pulumi would not pass it on.
    learned = dict.fromkeys(NodeProvider.learned)
    nodes = {
        name: LocalNode(*piece(NodeProvider(), name, {**learned, **values}, testbed.nodes[name]))
        for name, values in pieces[parts.NODE].items()
    }
    state = _state(paths, topology, nodes)
    return Local(state, pulumi.Output.from_input(str(paths.state)), root, sites, nodes, links)


def _state(
    paths: Paths, topology: Topology, nodes: Mapping[str, LocalNode]
) -> pulumi.Output[Mapping[str, Any]]:
    """Return what the testbed's state says once all nodes have their addresses."""

    def describe(addresses: Mapping[str, list[str]]) -> dict[str, Any]:
        known = {name: own[0] for name, own in addresses.items()}
        ipv6 = any(own[1] for own in addresses.values())
        return planning.plan(topology, paths, known, ipv6=ipv6).state(paths)

    every = {name: pulumi.Output.all(node.address, node.address6) for name, node in nodes.items()}
    return pulumi.Output.all(**every).apply(describe)
