# SPDX-License-Identifier: GPL-3.0-or-later
"""The parts of a testbed as components, whatever nodes are made of.

Their type tokens and names are in every stack's state: another name would mean another resource.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import pulumi

from pkgctl.local import declared
from pkgctl.network import Node as TopologyNode
from pkgctl.network import Rule
from pkgctl.network import Site as TopologySite
from testbed import inventory
from testbed.disks import Disks, kept
from testbed.given import Given
from testbed.settings import LIBVIRT

_TOKEN = "pkgctl:testbed:"


@dataclass(frozen=True)
class Declared:
    """What a provider has declared.

    Attributes:
        state: the testbed's record.
        path: the file that it is in.
    """

    state: pulumi.Output[Mapping[str, Any]]
    path: pulumi.Output[str]


class Part(pulumi.ComponentResource):
    """A component whose children are declared by others."""

    @property
    def inside(self) -> pulumi.ResourceOptions:
        """The options of what belongs to it."""
        return pulumi.ResourceOptions(parent=self)


@dataclass(frozen=True)
class SiteArgs:
    """A place of nodes."""

    site: TopologySite


class Site(Part):
    """A place of nodes."""

    def __init__(self, name: str, args: SiteArgs, opts: pulumi.ResourceOptions) -> None:
        """Declare it."""
        super().__init__(f"{_TOKEN}Site", name, None, opts)
        self.register_outputs(_plain(asdict(args.site)))


@dataclass(frozen=True)
class NodeArgs:
    """A node of a topology."""

    node: TopologyNode


class Node(Part):
    """A node; what it is made of is declared inside."""

    def __init__(self, name: str, args: NodeArgs, opts: pulumi.ResourceOptions) -> None:
        """Declare it."""
        super().__init__(f"{_TOKEN}Node", name, None, opts)
        node = args.node
        known = {"kind": node.kind, "role": node.role, "cpu": node.cpu, "memory": node.memory}
        self.register_outputs({"site": node.site, **known})


@dataclass(frozen=True)
class LinkArgs:
    """What a topology says of the links from one end to another."""

    rule: Rule


class Link(Part):
    """An entry of a topology's list of links; what it is made of is declared inside."""

    def __init__(self, name: str, args: LinkArgs, opts: pulumi.ResourceOptions) -> None:
        """Declare it."""
        super().__init__(f"{_TOKEN}Link", name, None, opts)
        rule = args.rule
        said = rule.whole.show() if rule.whole else _plain(rule.change)
        self.register_outputs({"from": rule.source, "to": rule.to, "quality": said})


@dataclass(frozen=True)
class TestbedArgs:
    """What a testbed is declared from."""

    given: Given


class Testbed(Part):
    """All of a testbed.

    Attributes:
        sites: its sites by name.
        nodes: its nodes by name.
        links: what the topology lists of its links, by the names of both ends.
        guard: what all that has content of nodes depends on.
        outputs: inventory, links, addresses of nodes, path of the record.
    """

    def __init__(
        self, name: str, args: TestbedArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        """Declare it."""
        super().__init__(f"{_TOKEN}Testbed", name, None, opts)
        given = args.given
        self.given = given
        self.guard = Disks(
            "disks",
            given.settings.testbed,
            _kept(given),
            replace=given.settings.replace_disks,
            opts=self.inside,
        )
        self.sites = {
            site: Site(site, SiteArgs(known), self.inside)
            for site, known in given.topology.sites.items()
        }
        self.nodes = {
            node.name: Node(node.name, NodeArgs(node), self.sites[node.site].inside)
            for node in given.topology.nodes
        }
        rules = given.topology.rules
        self.links = {
            link: Link(link, LinkArgs(rule), self.inside)
            for link, rule in zip(declared.link_names(rules), rules, strict=True)
        }
        made = self._declare()
        self.outputs: dict[str, Any] = {
            "inventory": made.state.apply(inventory.inventory),
            "links": made.state.apply(lambda state: state["links"]),
            "addresses": made.state.apply(_addresses),
            "state": made.path,
        }
        # All else is the stack's: Pulumi writes its whole state before and after each step.
        self.register_outputs({"state": made.path})

    def _declare(self) -> Declared:
        """Declare what nodes are made of; only that provider's libraries are imported."""
        if self.given.settings.provider == LIBVIRT:
            from testbed import libvirt

            return libvirt.declare(self)
        from testbed.local import resources

        return resources.declare(self, self.given.settings, self.given.topology)


def _kept(given: Given) -> dict[str, dict[str, str]]:
    if given.image is None:
        return {}
    return kept(given.machines, given.image.fingerprint)


def _addresses(state: Mapping[str, Any]) -> dict[str, str]:
    return {name: node["address"] for name, node in state["nodes"].items()}


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value is not None}
