# SPDX-License-Identifier: GPL-3.0-or-later
"""``pkgctl topology``: what a topology means, node by node and link by link."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import click

from pkgctl.cli.text import as_json, output_option, table

if TYPE_CHECKING:
    from pkgctl.network import Node, Topology

MOST_NODES = 16  # listed one by one; beyond it, equal neighbours share a line
_NUMBERED = re.compile(r"(.*?)([1-9]\d*)", re.ASCII)


@click.group(short_help="Show topologies: their nodes and the quality of every link.")
def topology() -> None:
    """Show topologies: their nodes and the quality of every link.

    \b
    pkgctl topology list
    pkgctl topology show three-sites
    """  # noqa: D301 - the \b keeps click from filling the lines


@topology.command("list")
@output_option
def show_list(output: str) -> None:
    """List the topologies that come with pkgctl.

    Example: pkgctl topology list
    """
    from pkgctl import project
    from pkgctl.topology import load

    known = [load(name) for name in project.names(project.topologies())]
    if output == "json":
        click.echo(as_json([_summary(each) for each in known]))
        return
    rows = [(each.name, len(each.nodes), len(each.sites), each.description) for each in known]
    click.echo(table(("NAME", "NODES", "SITES", "DESCRIPTION"), rows))


@topology.command()
@click.argument("name")
@output_option
def show(name: str, output: str) -> None:
    """Show the nodes and the links of a topology, by its name or its file.

    A rate counts Ethernet frames with their headers; delay and jitter are those of one direction.

    Example: pkgctl topology show three-sites
    """
    from pkgctl.topology import load

    found = load(name)
    if output == "json":
        click.echo(as_json(_everything(found)))
        return
    click.echo(f"{found.name}: {found.description}" if found.description else found.name)
    click.echo(f"{found.source}, artifacts on {found.registry}\n")
    click.echo(table(_NODE_COLUMNS, list(_node_rows(found.nodes))))
    links = list(_link_rows(found))
    if links:
        click.echo("\n" + table(_LINK_COLUMNS, links))


_NODE_COLUMNS = ("NODE", "SITE", "KIND", "ROLE", "CPU", "MEMORY", "DISKS")
_LINK_COLUMNS = ("FROM", "TO", "RATE", "DELAY", "JITTER", "LOSS")


def _summary(found: Topology) -> dict[str, Any]:
    return {
        "name": found.name,
        "description": found.description,
        "file": found.source,
        "nodes": len(found.nodes),
        "sites": len(found.sites),
    }


def _everything(found: Topology) -> dict[str, Any]:
    links = {
        source: {to: link.to_dict() for to, link in row.items()}
        for source, row in found.matrix().items()
    }
    return {**found.to_dict(), "file": found.source, "links": links}


def _node_rows(nodes: Sequence[Node]) -> Iterator[tuple[str, ...]]:
    """Yield a row for each node, or for each run of equal ones where there are many."""
    runs: dict[tuple[str, ...], list[str]] = {}
    for node in nodes:
        facts = _facts(node)
        key = facts if len(nodes) > MOST_NODES else (node.name, *facts)
        runs.setdefault(key, []).append(node.name)
    for key, names in runs.items():
        yield (short_names(names), *key[-len(_NODE_COLUMNS) + 1 :])


def _facts(node: Node) -> tuple[str, ...]:
    from pkgctl.nodeside import units

    sizes = [f"{units.show_size(disk.size)} {disk.mount}" for disk in node.disks.values()]
    memory = units.show_size(node.memory)
    return node.site, node.kind, node.role, f"{node.cpu:g}", memory, ", ".join(sizes) or "-"


def _link_rows(found: Topology) -> Iterator[tuple[str, ...]]:
    """Yield a row for each direction between groups of nodes that share all their links."""
    from pkgctl.network import twins

    matrix = found.matrix()
    groups = twins(matrix)
    for group in groups:
        for other in groups:
            source, to = group[0], other[-1]
            if source != to:
                yield (short_names(group), short_names(other), *_link(matrix[source][to]))


def _link(link: Any) -> tuple[str, ...]:
    from pkgctl.nodeside import units

    if link.is_down:
        return ("down", "-", "-", "100%")
    rate = "unshaped" if link.rate is None else units.show_rate(link.rate)
    loss = units.show_ratio(float(f"{link.loss:.3g}"))
    return rate, _milliseconds(link.delay), _milliseconds(link.jitter), loss


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:.4g} ms"


def short_names(names: Sequence[str]) -> str:
    """Return names as a short text: edge-1, edge-2 and edge-3 are ``edge-[1-3]``."""
    runs: list[tuple[str, int, int]] = []
    for name in names:
        match = _NUMBERED.fullmatch(name)
        stem, number = (match[1], int(match[2])) if match else (name, -1)
        if runs and number > 0 and runs[-1][0] == stem and runs[-1][2] == number - 1:
            runs[-1] = (stem, runs[-1][1], number)
        else:
            runs.append((stem, number, number))
    texts = [_run(*run) for run in runs]
    return ",".join(texts) if len(texts) <= 3 else f"{texts[0]} and {len(names) - 1} more"


def _run(stem: str, low: int, high: int) -> str:
    if low < 0:
        return stem
    return f"{stem}{low}" if low == high else f"{stem}[{low}-{high}]"
