# SPDX-License-Identifier: GPL-3.0-or-later
"""``pkgctl up``, ``status``, ``down``, ``exec`` and ``shell``."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import click

from pkgctl.cli.text import as_json, output_option, pairs, table

if TYPE_CHECKING:
    from pkgctl.local.holding import Outcome
    from pkgctl.local.paths import Paths
    from pkgctl.topology import Topology

LOCAL, LIBVIRT = PROVIDERS = ("local", "libvirt")
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
@click.option(
    "--provider",
    type=click.Choice(PROVIDERS),
    default=LOCAL,
    show_default=True,
    help="What nodes are made of: parts of this machine's kernel, or virtual machines.",
)
@click.option(
    "--host",
    "hosts",
    multiple=True,
    metavar="URI",
    help="libvirt: a host of virtual machines; qemu:///system if not given.",
)
@click.option("--image", default="", metavar="SPEC", help="libvirt: a fingerprint or a qcow2 file.")
@click.option("--network", default="", metavar="CIDR", help="libvirt: the management network.")
@click.option(
    "--ssh-key", default="", metavar="FILE", help="libvirt: a public key that opens the nodes too."
)
@click.option(
    "--set", "others", multiple=True, metavar="KEY=VALUE", help="libvirt: another setting."
)
@click.option("--dry-run", is_flag=True, help="Only say what would change.")
@output_option
def up(
    topology: str,
    name: str | None,
    provider: str,
    hosts: tuple[str, ...],
    image: str,
    network: str,
    ssh_key: str,
    others: tuple[str, ...],
    dry_run: bool,
    output: str,
) -> None:
    """Bring a testbed up from TOPOLOGY (a name or a file), or change it to that.

    What is there already and does not differ is left alone. Virtual machines are declared by the
    Pulumi program in the folder pulumi/; what is not given for them is as it was before.

    \b
    Examples:
      pkgctl up three-sites
      pkgctl up duo --provider libvirt
      pkgctl up duo --provider libvirt --host qemu+ssh://root@two/system --dry-run
    """  # noqa: D301 - the \b keeps click from filling the lines
    from pkgctl import topology as topologies

    asked = topologies.load(topology)
    if provider == LOCAL:
        _refuse_foreign([hosts, image, network, ssh_key, others])
        place, outcome = _local_up(asked, name, dry_run=dry_run)
        shown = outcome.lines
    else:
        given = (hosts, image, network, ssh_key, others)
        place, outcome = _libvirt_up(topology, name, given, output, dry_run=dry_run)
        shown = []
    _conclude(place.name, outcome, shown, output, dry_run=dry_run)


def _refuse_foreign(given: Sequence[object]) -> None:
    names = ("--host", "--image", "--network", "--ssh-key", "--set")
    for name, value in zip(names, given, strict=True):
        if value:
            raise click.UsageError(f"{name} has no effect on local nodes; add --provider libvirt")


def _local_up(asked: Topology, name: str | None, *, dry_run: bool) -> tuple[Paths, Outcome]:
    from pkgctl.local import paths, testbed
    from pkgctl.remote import places

    places.refuse_taken(name, LOCAL)
    place = paths.paths(name)
    outcome = testbed.up(asked, place, dry_run=dry_run)
    for warning in outcome.warnings:
        click.echo(f"warning: {warning}", err=True)
    return place, outcome


def _libvirt_up(
    topology: str, name: str | None, given: tuple[Any, ...], output: str, *, dry_run: bool
) -> tuple[Paths, Outcome]:
    from pkgctl import infra, project
    from pkgctl.remote import places, wish

    hosts, image, network, ssh_key, others = given
    path = project.find("topology", topology, project.topologies()).absolute()
    asked = wish.Wish(
        str(path),
        wish.hosts(hosts),
        image,
        network,
        ssh_key,
        others=pairs(others, "key=value", "impairment=netem", "--set"),
    )
    places.refuse_taken(name, LIBVIRT)
    place = places.places(name)
    return place, infra.up(asked, place, *_voices(output), dry_run=dry_run)


def _voices(output: str) -> tuple[Callable[[str], None], Callable[[str], None]]:
    """Return what says a line as it comes, and what says a warning; JSON has stdout for itself."""

    def say(line: str) -> None:
        click.echo(line, err=output == "json")
        (sys.stderr if output == "json" else sys.stdout).flush()

    def warn(line: str) -> None:
        click.echo(f"warning: {line}", err=True)

    return say, warn


def _conclude(name: str, outcome: Outcome, lines: list[str], output: str, *, dry_run: bool) -> None:
    if output == "json":
        shown = {"testbed": name, "changed": outcome.changed, "changes": outcome.lines}
        click.echo(as_json({**shown, "warnings": outcome.warnings, "seconds": outcome.seconds}))
        return
    _show(lines)
    done = "would change" if dry_run else "is up"
    facts = f"{len(outcome.lines)} changes" if outcome.changed else "nothing to change"
    click.echo(f"testbed {name} {done}: {facts} ({outcome.seconds:.2f} s)")


def _show(lines: list[str], most: int = 40) -> None:
    for line in lines[:most]:
        click.echo(line)
    if len(lines) > most:
        click.echo(f"… and {len(lines) - most} more")


@click.command("down", epilog="Example: pkgctl down --name default")
@name_option
@click.option("--all", "everything", is_flag=True, help="Every testbed of this machine.")
@click.option(
    "--host",
    "hosts",
    multiple=True,
    metavar="URI",
    help="Also what has its name on this libvirt host, though nothing here knows of it.",
)
@output_option
def down(name: str | None, everything: bool, hosts: tuple[str, ...], output: str) -> None:
    """Remove a testbed and everything it left, also after a crash."""
    from pkgctl.local import paths
    from pkgctl.remote import places

    if hosts and everything:
        raise click.UsageError("--host belongs to one testbed; give its --name instead of --all")
    found = [places.places(name) if hosts else places.find(name)]
    if everything:
        found = [paths.Paths(each) for each in paths.testbeds()]
        found += [places.Places(each) for each in places.testbeds()]
    outcomes = {place.name: _down(place, hosts, output) for place in found}
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


def _down(place: Paths, hosts: Sequence[str], output: str) -> Outcome:
    from pkgctl.cluster import elsewhere
    from pkgctl.remote.places import Places

    elsewhere.clear(place, lambda line: click.echo(f"warning: {line}", err=True))

    if isinstance(place, Places):
        from pkgctl import infra

        return infra.down(place, *_voices(output), hosts=hosts)
    from pkgctl.local import removal

    return removal.down(place)


@click.command("status", epilog="Example: pkgctl status -o json")
@name_option
@output_option
def status(name: str | None, output: str) -> None:
    """Show the nodes of a testbed, the layers on them, and what is left of their time."""
    facts = _overview(name)
    if output == "json":
        click.echo(as_json(facts))
        return
    nodes = facts["nodes"]
    click.echo(f"testbed {facts['testbed']}: topology {facts['topology']}, {len(nodes)} nodes")
    columns, row = _MANNERS[facts.get("provider", LOCAL)]
    click.echo(table(columns, [row(node, nodes[node]) for node in nodes]))
    if facts["layers"]:
        click.echo()
        click.echo(table(_LAYER_COLUMNS, [_layer_row(layer) for layer in facts["layers"]]))
    if facts["delay_line"]:
        click.echo(f"\ndelay line: {_delay_line(facts['delay_line'])}")
    for line in _troubles(facts):
        click.echo(f"warning: {line}", err=True)


def _overview(name: str | None) -> dict[str, Any]:
    from pkgctl.remote import places

    place = places.find(name)
    if isinstance(place, places.Places):
        from pkgctl.remote import overview as machines

        return machines.overview(place)
    from pkgctl.local import overview

    return overview.overview(place)


def _troubles(facts: dict[str, Any]) -> Iterator[str]:
    """Yield what should be there and is not."""
    if "silent" in facts:
        yield from facts["silent"].values()
        if not facts["agent"] and not facts["silent"]:
            yield "the agent of some nodes does not answer; `pkgctl up` sets them up again"
        return
    for what, alive in (("agent", facts["agent"]), ("delay line", facts["delay_line"])):
        if not alive:
            yield f"the {what} does not answer; `pkgctl up` starts it again"


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


_MACHINE_COLUMNS = (
    "NODE", "SITE", "KIND", "ADDRESS", "SSH", "MACHINE", "HEALTH", "CPU", "MEMORY", "PROCS",
    "LAYERS",
)  # fmt: skip


def _machine_row(node: str, known: dict[str, Any]) -> list[object]:
    from pkgctl.nodeside import units

    memory = known["memory_now"] or known["memory"]
    return [
        node,
        known["site"],
        known["kind"],
        known["address"],
        known["host"] if known["answers"] else "-",
        known["domain"],
        known["health"],
        units.show_cpu(known["cpu_now"]) if known["cpu_now"] else "-",
        f"{known['memory_used'] >> 20}/{memory >> 20}Mi" if known["answers"] else "-",
        known["processes"] if known["answers"] else "-",
        ", ".join(known["layers"]) or "-",
    ]


_MANNERS: dict[str, tuple[tuple[str, ...], Callable[[str, dict[str, Any]], list[object]]]] = {
    LOCAL: (_NODE_COLUMNS, _node_row),
    LIBVIRT: (_MACHINE_COLUMNS, _machine_row),
}


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
def execute(name: str | None, node: str, command: tuple[str, ...]) -> int:
    """Run COMMAND inside NODE, with its network, files and limits."""
    from pkgctl.remote import places

    words = command[1:] if command[0] == "--" else command
    if not words:
        raise click.UsageError("name a command: pkgctl exec edge-1 -- hostname")
    sys.stdout.flush()
    place = places.find(name)
    if isinstance(place, places.Places):
        from pkgctl.remote import enter as machines

        return machines.run(place, node, words)
    from pkgctl.local import enter

    return enter.run(place, node, words)


@click.command("shell", epilog="Example: pkgctl shell edge-1")
@name_option
@click.argument("node")
def shell(name: str | None, node: str) -> int:
    """Open a shell inside NODE."""
    from pkgctl.remote import places

    place = places.find(name)
    if isinstance(place, places.Places):
        from pkgctl.remote import enter as machines

        return machines.shell(place, node)
    from pkgctl.local import enter

    return enter.shell(place, node)
