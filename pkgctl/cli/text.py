# SPDX-License-Identifier: GPL-3.0-or-later
"""What several commands read and print alike: pairs of words, tables, JSON, and their option."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import click

from pkgctl.errors import SpecError

if TYPE_CHECKING:
    from pkgctl.playbook import Play

Command = TypeVar("Command", bound=Callable[..., Any])


def output_option(command: Command) -> Command:
    """Add ``-o table|json``, which arrives as the argument ``output``."""
    return click.option(
        "-o",
        "--output",
        type=click.Choice(["table", "json"]),
        default="table",
        show_default=True,
        help="How to print the result.",
    )(command)


def pairs(
    texts: Sequence[str], form: str, example: str, option: str = "", *, may_be_empty: bool = False
) -> dict[str, str]:
    """Return what texts such as ``key=value`` say.

    Args:
        texts: as they were typed.
        form: what each should be, such as ``word=value``.
        example: one that is.
        option: the option that takes them; arguments have none.
        may_be_empty: whether nothing is a value too.

    Raises:
        SpecError: if one is no such pair, or says again what another has said.
    """
    found: dict[str, str] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not (key and equals and (value or may_be_empty)):
            place = f"{option} " if option else ""
            raise SpecError(f"{place}{text!r} is no {form}; write one such as {example}")
        if key in found:
            place = f"{option}: " if option else ""
            raise SpecError(f"{place}{key} is given twice")
        found[key] = value
    return found


def as_json(value: object) -> str:
    """Return JSON for a reader: two columns of indent, keys in the order they came."""
    return json.dumps(value, indent=2, ensure_ascii=False, default=str)


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return columns of text, each as wide as its widest cell, two spaces apart."""
    lines = [list(header), *([str(cell) for cell in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def show_changes(play: Play, output: str, *, dry_run: bool) -> None:
    """Print which nodes a playbook changed, or would change."""
    hosts = [host for host, counts in play.stats.items() if counts["changed"]]
    if output == "json":
        click.echo(as_json({"dry_run": dry_run, "changed": hosts}))
    elif hosts:
        click.echo(f"{'would change' if dry_run else 'changed'}: {', '.join(hosts)}")
    else:
        click.echo("nothing to change")
