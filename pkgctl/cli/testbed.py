# SPDX-License-Identifier: GPL-3.0-or-later
"""``pkgctl up``, ``status``, ``down``, ``exec`` and ``shell``."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, TypeVar

import click

from pkgctl.cli.text import as_json, output_option, table

Command = TypeVar("Command", bound=Callable[..., Any])
_DEFAULT_TOPOLOGY = "three-sites"


def name_option(command: Command) -> Command:
    """Add ``--name``, the testbed."""
    return click.option(
        "--name",
        "--testbed",
        "name",
        metavar="TESTBED",
        help="Which testbed; $PKGCTL_TESTBED, else `default`.",
    )(command)


@click.command("up", epilog="Example: pkgctl up three-sites")
@click.argument("topology", default=_DEFAULT_TOPOLOGY)
@name_option
@click.option("--dry-run", is_flag=True, help="Only say what would change.")
@output_option
def up(topology: str, name: str | None, dry_run: bool, output: str) -> None:
    """Bring a testbed up from TOPOLOGY (a name or a file), or change it to that.

    What is there already and does not differ is left alone.
    """
    from pkgctl import topology as topologies
    from pkgctl.local import paths, testbed

    place = paths.paths(name)
    outcome = testbed.up(topologies.load(topology), place, dry_run=dry_run)
    for warning in outcome.warnings:
        click.echo(f"warning: {warning}", err=True)
    if output == "json":
        shown = {"testbed": place.name, "changed": outcome.changed, "changes": outcome.lines}
        click.echo(as_json({**shown, "warnings": outcome.warnings, "seconds": outcome.seconds}))
        return
    _show(outcome.lines)
    done = "would change" if dry_run else "is up"
    facts = f"{len(outcome.lines)} changes" if outcome.changed else "nothing to change"
    click.echo(f"testbed {place.name} {done}: {facts} ({outcome.seconds:.2f} s)")


def _show(lines: list[str], most: int = 40) -> None:
    for line in lines[:most]:
        click.echo(line)
    if len(lines) > most:
        click.echo(f"… and {len(lines) - most} more")


@click.command("down", epilog="Example: pkgctl down --name default")
@name_option
@click.option("--all", "everything", is_flag=True, help="Every testbed of this machine.")
@output_option
def down(name: str | None, everything: bool, output: str) -> None:
    """Remove a testbed and everything it left, also after a crash."""
    from pkgctl.local import paths, removal

    places = [paths.Paths(each) for each in paths.testbeds()] if everything else [paths.paths(name)]
    outcomes = {place.name: removal.down(place) for place in places}
    if output == "json":
        click.echo(
            as_json(
                {
                    each: {"changed": one.changed, "seconds": one.seconds}
                    for each, one in outcomes.items()
                }
            )
        )
        return
    for each, outcome in outcomes.items():
        what = f"is down ({outcome.seconds:.2f} s)" if outcome.changed else "was not up"
        click.echo(f"testbed {each} {what}")


@click.command("status", epilog="Example: pkgctl status -o json")
@name_option
@output_option
def status(name: str | None, output: str) -> None:
    """Show the nodes of a testbed, the layers on them, and what is left of their time."""
    from pkgctl.local import overview, paths

    facts = overview.overview(paths.paths(name))
    if output == "json":
        click.echo(as_json(facts))
        return
    nodes = facts["nodes"]
    click.echo(f"testbed {facts['testbed']}: topology {facts['topology']}, {len(nodes)} nodes")
    click.echo(table(_NODE_COLUMNS, [_node_row(node, nodes[node]) for node in nodes]))
    if facts["layers"]:
        click.echo()
        click.echo(table(_LAYER_COLUMNS, [_layer_row(layer) for layer in facts["layers"]]))
    if facts["delay_line"]:
        click.echo(f"\ndelay line: {_delay_line(facts['delay_line'])}")
    for what, alive in (("agent", facts["agent"]), ("delay line", facts["delay_line"])):
        if not alive:
            click.echo(
                f"warning: the {what} does not answer; `pkgctl up` starts it again", err=True
            )


_NODE_COLUMNS = ("NODE", "SITE", "KIND", "ADDRESS", "HEALTH", "CPU", "MEMORY", "PROCS", "LAYERS")
_LAYER_COLUMNS = ("LAYER", "KIND", "WHERE", "SETTING", "STATE", "FOR", "LEFT")


def _node_row(node: str, known: dict[str, Any]) -> list[object]:
    from pkgctl.nodeside import units

    return [
        node,
        known["site"],
        known["kind"],
        known["address"],
        known["health"],
        units.show_cpu(known["cpu_now"]) if known["cpu_now"] else "-",
        f"{known['memory_used'] >> 20}/{(known['memory_now'] or known['memory']) >> 20}Mi",
        known["processes"],
        ", ".join(known["layers"]) or "-",
    ]


def _layer_row(layer: dict[str, Any]) -> list[object]:
    from pkgctl.watch import words

    return [
        layer["name"],
        "+".join(layer["kinds"]),
        layer["where"],
        layer["setting"] or "-",
        layer["state"] or "?",
        "-" if layer["age"] is None else words.seconds(layer["age"]),
        layer["left"],
    ]


def _delay_line(figures: dict[str, Any]) -> str:
    return (
        f"{figures['pairs']} pairs, {figures['delayed']} packets delayed, {figures['lost']} lost,"
        f" {figures['waiting']} waiting; late by {figures['mean_late'] * 1e3:.3f} ms on average,"
        f" {figures['most_late'] * 1e3:.1f} ms at most"
    )


@click.command(
    "exec",
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
    epilog="Example: pkgctl exec edge-1 -- ping -c 3 cloud-1",
)
@name_option
@click.argument("node")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def execute(name: str | None, node: str, command: tuple[str, ...]) -> None:
    """Run COMMAND inside NODE, with its network, files and limits."""
    from pkgctl.local import enter, paths

    words = command[1:] if command[0] == "--" else command
    if not words:
        raise click.UsageError("name a command: pkgctl exec edge-1 -- hostname")
    sys.stdout.flush()
    enter.run(paths.paths(name), node, words)


@click.command("shell", epilog="Example: pkgctl shell edge-1")
@name_option
@click.argument("node")
def shell(name: str | None, node: str) -> None:
    """Open a shell inside NODE."""
    from pkgctl.local import enter, paths

    enter.shell(paths.paths(name), node)
