# SPDX-License-Identifier: GPL-3.0-or-later
"""``pkgctl perturb`` and ``pkgctl heal``: the playbooks of the same names, with the same words."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import click

from pkgctl.cli.text import as_json, output_option

if TYPE_CHECKING:
    from pkgctl.playbook import Play

Command = TypeVar("Command", bound=Callable[..., Any])


def _common(command: Command) -> Command:
    for option in (
        output_option,
        click.option("--dry-run", is_flag=True, help="Only say what would change."),
        click.option("--testbed", metavar="NAME", help="The testbed; $PKGCTL_TESTBED or default."),
    ):
        command = option(command)
    return command


@click.command(short_help="Disturb links, capacity or disks of a running testbed.")
@click.argument("words", nargs=-1, required=True, metavar="WORD=VALUE...")
@click.option("--name", metavar="NAME", help="The perturbation's name, by which it is healed.")
@_common
def perturb(
    words: tuple[str, ...], name: str | None, testbed: str | None, dry_run: bool, output: str
) -> None:
    """Disturb links, capacity or disks of a running testbed.

    \b
    Links:     src dst site direction   bw delay jitter loss partition
    Capacity:  node site                cpu mem io pids
    Disks:     node site                disk
    Time:      start duration
    \b
    Examples:
      pkgctl perturb bw=5mbit src=edge-1 --name slow
      pkgctl perturb site=edge-a delay=40ms loss=1% duration=30s
      pkgctl perturb node=edge-2 cpu=0.2 mem=128Mi
      pkgctl perturb node=edge-1 disk=unmounted
    """  # noqa: D301 - the \b keeps click from filling the lines
    given = _read(words)
    if name is not None:
        given["name"] = name
    _show([_play("perturb.yml", given, testbed, dry_run=dry_run)], output, dry_run=dry_run)


@click.command(short_help="Take disturbances away again.")
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("--node", metavar="NODE", help="Only on this node, or on these: edge-1,edge-2.")
@click.option("--site", metavar="SITE", help="Only on the nodes of this site.")
@_common
def heal(
    names: tuple[str, ...],
    node: str | None,
    site: str | None,
    testbed: str | None,
    dry_run: bool,
    output: str,
) -> None:
    """Take disturbances away again: those that are named, or all.

    \b
    Examples:
      pkgctl heal
      pkgctl heal slow
      pkgctl heal slow --site edge-a
    """  # noqa: D301 - the \b keeps click from filling the lines
    where = {"node": node, "site": site}
    plays = [
        _play("heal.yml", {"name": name, **where}, testbed, dry_run=dry_run)
        for name in names or (None,)
    ]
    _show(plays, output, dry_run=dry_run)


def _read(words: Sequence[str]) -> dict[str, Any]:
    from pkgctl.errors import SpecError

    given: dict[str, Any] = {}
    for text in words:
        word, equals, value = text.partition("=")
        if not equals or not word or not value:
            raise SpecError(f"{text!r} is no word=value; write one such as bw=5mbit")
        if word in given:
            raise SpecError(f"{word} is given twice")
        given[word] = value
    return given


def _play(playbook: str, words: Mapping[str, Any], testbed: str | None, *, dry_run: bool) -> Play:
    """Judge the words against the testbed, which takes no time, and then play."""
    from pkgctl import playbook as playbooks
    from pkgctl.experiment import disturb
    from pkgctl.local.paths import paths

    place = paths(testbed)
    disturb.check(playbook, words, place)
    return playbooks.play(playbook, words, testbed=place.name, check=dry_run)


def _show(plays: Sequence[Play], output: str, *, dry_run: bool) -> None:
    hosts = {
        host: None for play in plays for host, counts in play.stats.items() if counts["changed"]
    }
    if output == "json":
        click.echo(as_json({"dry_run": dry_run, "changed": list(hosts)}))
    elif hosts:
        click.echo(f"{'would change' if dry_run else 'changed'}: {', '.join(hosts)}")
    else:
        click.echo("nothing to change")
