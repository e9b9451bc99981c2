# SPDX-License-Identifier: GPL-3.0-or-later
"""``pkgctl cluster install``, ``upgrade``, ``reset``, ``kubeconfig`` and ``status``."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from pkgctl.cli.text import as_json, output_option, pairs, show_changes, table

if TYPE_CHECKING:
    from pkgctl.local.paths import Paths
    from pkgctl.playbook import Play

_Command = TypeVar("_Command", bound=Callable[..., Any])
_NODES = "/api/v1/nodes"
_testbed_option = click.option(
    "--testbed", metavar="NAME", help="The testbed; $PKGCTL_TESTBED or default."
)


def _changes(command: _Command) -> _Command:
    """Add what all commands have that play a playbook."""
    dry_run = click.option("--dry-run", is_flag=True, help="Only say what would change.")
    for option in (output_option, dry_run, _testbed_option):
        command = option(command)
    return command


def _installs(command: _Command) -> _Command:
    """Add what both commands have that bring a release to nodes."""
    wanted = click.option(
        "--bundle",
        type=click.Path(path_type=Path, file_okay=False),
        required=True,
        help="The folder of a release, which pkgctl cluster bundle made.",
    )
    words = click.option(
        "-e",
        "--set",
        "words",
        multiple=True,
        metavar="VARIABLE=VALUE",
        help="A variable of the roles, such as k3s_left_out=[traefik]; @FILE is what a file says."
        " It is remembered until it is given again. May be given more than once.",
    )
    return _changes(wanted(words(command)))


@click.command("install", short_help="Make the nodes of a testbed a K3s cluster.")
@_installs
def install(
    testbed: str | None, bundle: Path, words: tuple[str, ...], dry_run: bool, output: str
) -> None:
    """Make the nodes of a testbed a K3s cluster, offline, from a bundle.

    The label k3s of a node says whether it is a server, an agent or none of the cluster. Without
    such labels the first node of role cloud is the server, and all others are agents.

    \b
    Example: pkgctl cluster install --bundle bundle/v1.34.4+k3s1
    """  # noqa: D301 - the \b keeps click from filling the lines
    from pkgctl.cluster.installing import install as by

    _play(by, testbed, bundle, words, dry_run=dry_run, output=output)


@click.command("upgrade", short_help="Bring a cluster to another release; pods go on running.")
@_installs
def upgrade(
    testbed: str | None, bundle: Path, words: tuple[str, ...], dry_run: bool, output: str
) -> None:
    """Bring a cluster to the release of another bundle, servers first; pods go on running.

    \b
    Example: pkgctl cluster upgrade --bundle bundle/v1.35.1+k3s1
    """  # noqa: D301 - the \b keeps click from filling the lines
    from pkgctl.cluster.installing import upgrade as by

    _play(by, testbed, bundle, words, dry_run=dry_run, output=output)


@click.command("reset", short_help="Take a cluster off the nodes, with all that it made there.")
@click.option(
    "--kubeconfig",
    "own",
    type=click.Path(path_type=Path, dir_okay=False),
    help="A kubeconfig of yours out of which to take the cluster's context; all else stays.",
)
@click.option(
    "--node",
    "nodes",
    multiple=True,
    metavar="NODE",
    help="Only off this node, which the others forget; may be given more than once.",
)
@_changes
def reset(
    testbed: str | None, own: Path | None, nodes: tuple[str, ...], dry_run: bool, output: str
) -> None:
    """Take a cluster off the nodes of a testbed; no file, mount, link or rule of it is left.

    \b
    Examples:
      pkgctl cluster reset
      pkgctl cluster reset --node edge-3
    """  # noqa: D301 - the \b keeps click from filling the lines
    from pkgctl.cluster import installing

    if own is not None and nodes:
        raise click.UsageError("--kubeconfig is for a whole cluster; leave it out beside --node")
    place = _place(testbed)
    play = installing.reset(place, nodes, _tell, dry_run=dry_run)
    if own is not None and not dry_run:
        installing.withdraw(own, f"pkgctl-{place.name}")
    show_changes(play, output, dry_run=dry_run)


@click.command("kubeconfig", short_help="Print the kubeconfig of a testbed's cluster.")
@click.option(
    "--merge",
    "own",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Put its context into this kubeconfig of yours instead; all else there stays.",
)
@click.option("--path", "only_path", is_flag=True, help="Print where it is, not what is in it.")
@_testbed_option
def kubeconfig(testbed: str | None, own: Path | None, only_path: bool) -> None:
    """Print a kubeconfig with which this machine reaches the cluster of a testbed.

    It is the administrator's: keep it from others.

    \b
    Examples:
      kubectl --kubeconfig "$(pkgctl cluster kubeconfig --path)" get nodes
      pkgctl cluster kubeconfig --merge ~/.kube/config
    """  # noqa: D301 - the \b keeps click from filling the lines
    from pkgctl.cluster import installing

    if own is not None and only_path:
        raise click.UsageError("--path has no effect beside --merge; leave one out")
    found = installing.kubeconfig(_place(testbed))
    if own is not None:
        click.echo(installing.merge(own, found))
    else:
        click.echo(found if only_path else found.read_text(), nl=only_path)


@click.command("status", short_help="Show the nodes of a cluster as Kubernetes sees them.")
@click.option(
    "--kubeconfig",
    "file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Ask the cluster of this kubeconfig instead of the testbed's.",
)
@_testbed_option
@output_option
def status(testbed: str | None, file: Path | None, output: str) -> None:
    """Show the nodes of a cluster as Kubernetes sees them.

    \b
    Example: pkgctl cluster status
    """  # noqa: D301 - the \b keeps click from filling the lines
    from pkgctl.cluster import client, installing, listing

    api = client.connect(file or installing.kubeconfig(_place(testbed)))
    rows = listing.rows(api.get(_NODES)["items"])
    if output == "json":
        click.echo(as_json({"server": api.server, "nodes": rows}))
    else:
        click.echo(table(listing.COLUMNS, [[row[key] for key in listing.COLUMNS] for row in rows]))


def _play(
    by: Callable[..., Play],
    testbed: str | None,
    bundle: Path,
    words: tuple[str, ...],
    *,
    dry_run: bool,
    output: str,
) -> None:
    """Bring a release to the nodes, by a function of installing, and show what that changed."""
    given = pairs(words, "variable=value", "k3s_patience=900", may_be_empty=True)
    play = by(_place(testbed), bundle, given, _tell, dry_run=dry_run)
    show_changes(play, output, dry_run=dry_run)


def _place(name: str | None) -> Paths:
    from pkgctl.local.holding import require_root
    from pkgctl.remote import places

    place = places.find(name)
    if not isinstance(place, places.Places):
        require_root()
    return place


def _tell(task: str) -> None:
    """Say what is done now, where somebody may be watching."""
    if sys.stderr.isatty():
        click.echo(task, err=True)
