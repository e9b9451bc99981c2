# SPDX-License-Identifier: GPL-3.0-or-later
"""``pkgctl top``."""

from __future__ import annotations

import os
import shutil
import sys
from contextlib import closing

import click

from pkgctl.cli.testbed import name_option
from pkgctl.cli.text import as_json, output_option

_SHORTEST = 0.1


@click.command(
    "top",
    epilog="Example: pkgctl top --interval 2s, or for a script: pkgctl top --once -o json",
)
@name_option
@click.option("--interval", default="1s", show_default=True, help="Time between two pictures.")
@click.option("--once", is_flag=True, help="Print one picture as text, and end.")
@output_option
def top(name: str | None, interval: str, once: bool, output: str) -> None:
    """Watch the nodes, links and layers of a testbed.

    Nodes with what they use of what they may use, links with what is asked of them and what was
    seen, and the layers with what is left of their time. ? lists the keys, q quits. Where the
    output is no terminal, one picture is printed.
    """
    from pkgctl.local import observer
    from pkgctl.remote import places
    from pkgctl.watch import frame, live, terminal

    seconds = _seconds(interval)
    source = observer.Observer(places.find(name), seconds)
    if output == "table" and not once and sys.stdin.isatty() and sys.stdout.isatty():
        colours = terminal.wants_colours(os.environ)
        live.show(source, terminal.Terminal(0, 1, colours=colours))
        return
    with closing(source), closing(iter(source)) as pictures:
        picture = next(pictures)
    if output == "json":
        click.echo(as_json(picture.to_dict()))
        return
    for line in frame.whole(picture, shutil.get_terminal_size((100, 24)).columns):
        click.echo(line)


def _seconds(text: str) -> float:
    from pkgctl.errors import SpecError
    from pkgctl.nodeside import units

    try:
        seconds = units.duration(text)
    except ValueError as error:
        raise SpecError(f"--interval: {error}") from error
    if seconds < _SHORTEST:
        raise SpecError(f"--interval: {text!r} is below {units.show_duration(_SHORTEST)}")
    return seconds
