# SPDX-License-Identifier: GPL-3.0-or-later
"""What several commands print alike: tables, JSON, and the option that chooses."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click

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
