# SPDX-License-Identifier: GPL-3.0-or-later
"""The command line as a whole: its table, its help, its documents, and how fast it starts."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from pkgctl.cli import COMMANDS, cli

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
HEAVY = (
    "ansible",
    "asyncio",
    "jinja2",
    "kubernetes",
    "numpy",
    "plotly",
    "polars",
    "pulumi",
    "pydantic",
    "scipy",
    "yaml",
)
OF_RUN = {"test", "lint"}  # words that ./run keeps for itself

_BLOCK = re.compile(r"^```(?:console|sh|bash|shell)?\n(.*?)^```", re.MULTILINE | re.DOTALL)
_CALL = re.compile(r"^(?:\$ )?(?:sudo )?(?:\./run|pkgctl) +(.*)$")


def commands_of(page: Path) -> Iterator[list[str]]:
    for block in _BLOCK.findall(page.read_text()):
        for line in block.replace("\\\n", " ").splitlines():
            match = _CALL.match(line)
            words = shlex.split(match[1], comments=True) if match else []
            if words and words[0] not in OF_RUN and "..." not in words:
                yield words


def written_commands() -> list[tuple[str, str]]:
    return [(page.name, shlex.join(words)) for page in PAGES for words in commands_of(page)]


def parse(command: click.Command, words: list[str]) -> click.Command:
    """Parse as the program would, down to the last command, without calling any."""
    context = command.make_context(command.name, list(words))
    if not isinstance(command, click.Group):
        return command
    _, inner, rest = command.resolve_command(context, [*context._protected_args, *context.args])
    assert inner is not None
    return parse(inner, rest)


def all_commands(group: click.Group, path: str) -> Iterator[tuple[str, click.Command]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        yield f"{path} {name}", command
        if isinstance(command, click.Group):
            yield from all_commands(command, f"{path} {name}")


ALL = dict(all_commands(cli, "pkgctl"))


def test_the_documents_hold_commands():
    assert {page for page, _ in written_commands()} >= {"README.md"}


@pytest.mark.parametrize(("page", "line"), written_commands())
def test_every_command_in_the_documents_parses(page, line):
    assert isinstance(parse(cli, shlex.split(line)), click.Command)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_listed_in_one_short_line(name):
    _, line = COMMANDS[name]

    assert isinstance(ALL[f"pkgctl {name}"], click.Command)
    assert line.endswith(".") and len(line) <= 66


def test_every_module_of_commands_is_in_the_table():
    paths = (ROOT / "pkgctl" / "cli").glob("*.py")
    # A group of many commands has more modules, called after the one that holds it.
    modules = {
        path.stem if path.stem == "__init__" else path.stem.partition("_")[0] for path in paths
    }

    assert modules - {"__init__", "text"} == {module for module, _ in COMMANDS.values()}


@pytest.mark.parametrize("path", ALL)
def test_every_command_has_help_with_an_example(path):
    command = ALL[path]
    words = f"{command.help} {command.epilog}"

    assert command.help
    assert f"pkgctl {path.split()[1]}" in words, "no example"


@pytest.mark.parametrize("path", ALL)
def test_every_option_says_what_it_does(path):
    options = [each for each in ALL[path].params if isinstance(each, click.Option)]

    assert [each.name for each in options if not each.help] == []


def test_nothing_heavy_is_imported_to_show_the_help():
    run = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "pkgctl", "--help"],
        capture_output=True,
        text=True,
        check=True,
    )

    imported = {line.rpartition("|")[2].strip() for line in run.stderr.splitlines()}
    assert "click" in imported
    assert [name for name in HEAVY if name in imported] == []
