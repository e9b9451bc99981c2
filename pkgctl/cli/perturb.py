# SPDX-License-Identifier: GPL-3.0-or-later
"""``pkgctl perturb`` and ``pkgctl heal``: the playbooks of the same names, with the same words."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from pkgctl.cli.text import output_option, pairs, show_changes

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


@click.command(short_help="Disturb links, capacity, disks or health of a running testbed.")
@click.argument("words", nargs=-1, required=True, metavar="WORD=VALUE...")
@click.option("--name", metavar="NAME", help="The perturbation's name, by which it is healed.")
@click.option("--seed", metavar="NUMBER", help="From which random choices follow; else the name.")
@click.option(
    "--lease", metavar="TIME", help="How long it may stay; 10m if not given, none until healed."
)
@click.option("--force", is_flag=True, help="Do it though something is lost by it.")
@_common
def perturb(
    words: tuple[str, ...],
    name: str | None,
    seed: str | None,
    lease: str | None,
    force: bool,
    testbed: str | None,
    dry_run: bool,
    output: str,
) -> None:
    """Disturb links, capacity, disks or the health of nodes of a running testbed.

    \b
    Links:     src dst site node direction
               bw delay jitter distribution loss burst duplicate reorder corrupt
               partition trace
    Capacity:  node site   cpu mem io read write iops slow pids
    Load:      node site   stress_cpu stress_mem stress_io
    Disks:     node site   disk how fill disk_size
    Health:    node site   health
    Time:      start duration ramp repeat flap when after
    \b
    Examples:
      pkgctl perturb bw=5mbit src=edge-1 --name slow
      pkgctl perturb site=edge-a delay=40ms loss=1% duration=30s
      pkgctl perturb node=edge-2 cpu=0.2 mem=128Mi --lease none
      pkgctl perturb node=edge-1 disk=unmounted how=lazy
      pkgctl perturb node="random 1 of edge" health=crashed duration=30s --seed 7
    """  # noqa: D301 - the \b keeps click from filling the lines
    options = {"name": name, "seed": seed, "lease": lease, "force": force or None}
    given = _joined(pairs(words, "word=value", "bw=5mbit"), options)
    _warn(given, testbed)
    show_changes(_play("perturb.yml", given, testbed, dry_run=dry_run), output, dry_run=dry_run)


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
      pkgctl heal slow cut
      pkgctl heal slow --site edge-a
    """  # noqa: D301 - the \b keeps click from filling the lines
    given = {"name": ",".join(names) or None, "node": node, "site": site}
    show_changes(_play("heal.yml", given, testbed, dry_run=dry_run), output, dry_run=dry_run)


def _joined(words: Mapping[str, str], options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the words with the options put in; what is given both ways is a mistake."""
    from pkgctl.errors import SpecError

    given = {word: value for word, value in options.items() if value is not None}
    for word in given:
        if word in words:
            raise SpecError(f"{word} is given twice, as {word}= and as --{word}")
    return {**words, **given}


def _play(playbook: str, words: Mapping[str, Any], testbed: str | None, *, dry_run: bool) -> Play:
    """Judge the words against the testbed, which takes no time, and then play.

    Files are seen from the current folder, which Ansible does not keep.
    """
    from pkgctl import playbook as playbooks
    from pkgctl.experiment import disturb
    from pkgctl.local.holding import require_root
    from pkgctl.remote import places

    place = places.find(testbed)
    words = disturb.located(words, Path.cwd())
    disturb.check(playbook, words, place)
    if not isinstance(place, places.Places):
        require_root()
    return playbooks.play(playbook, words, testbed=place.name, check=dry_run)


def _warn(words: Mapping[str, Any], testbed: str | None) -> None:
    """Say what will not be as asked, before anything is applied."""
    from pkgctl.experiment import disturb, precondition
    from pkgctl.remote import places

    place, given = places.find(testbed), disturb.located(words, Path.cwd())
    disturb.check("perturb.yml", given, place)
    for line in precondition.foresee(given, place):
        click.echo(f"warning: {line}", err=True)
