# SPDX-License-Identifier: GPL-3.0-or-later
"""The command line: a group whose commands are imported only when they are called.

Each family of commands is a module of this package. What a user can cause ends as one line on
stderr and the exit code that the error's class carries; a traceback is always a bug.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any

import click

from pkgctl import __version__
from pkgctl.errors import PkgctlError, nearest

# Command: the module that holds it, and its line in the list of commands.
COMMANDS: Mapping[str, tuple[str, str]] = {
    "doctor": ("doctor", "Say what this machine can do, and how to get what is missing."),
    "image": ("image", "Build and keep the base image of virtual machines."),
    "topology": ("topology", "Show topologies: their nodes and the quality of every link."),
    "up": ("testbed", "Bring a testbed up from a topology."),
    "status": ("testbed", "Show nodes, the layers on them, and what is left of their time."),
    "top": ("top", "Watch nodes, links and layers in the terminal."),
    "down": ("testbed", "Remove a testbed and everything it left."),
    "exec": ("testbed", "Run a command inside a node."),
    "shell": ("testbed", "Open a shell inside a node."),
    "job": ("job", "Run, list, resize and remove jobs on the nodes."),
    "perturb": ("perturb", "Disturb links, capacity or disks of a running testbed."),
    "heal": ("perturb", "Take disturbances away again."),
    "verify": ("verify", "Say whether the nodes and links are what was asked for."),
    "cluster": ("cluster", "Have Kubernetes on the nodes, and schedule its pods."),
    "experiment": ("experiment", "Run a whole experiment and write its report."),
    "report": ("experiment", "Write the report of a run again."),
    "compare": ("experiment", "Compare two runs."),
}
INTERRUPTED = 130  # what shells use for a program that Ctrl-C ended
BROKEN_PIPE = 141  # and for one whose reader went away


class Commands(click.Group):
    """The group of all commands, each imported at its first use."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command's module and return the command."""
        if cmd_name not in COMMANDS:
            return None
        module = import_module(f"pkgctl.cli.{COMMANDS[cmd_name][0]}")
        commands = (each for each in vars(module).values() if isinstance(each, click.Command))
        return next(each for each in commands if each.name == cmd_name)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands without importing any."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command, or name the one that was most likely meant."""
        name = args[0]
        if name not in COMMANDS and not name.startswith("-"):
            raise click.UsageError(f"no command {name!r}; {nearest(name, COMMANDS)}", ctx)
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the chosen command; a reader that went away is no error worth words."""
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
        except BrokenPipeError:
            # Python flushes stdout once more at its end, and would complain then.
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            raise click.exceptions.Exit(BROKEN_PIPE) from None
        return result

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        **extra: Any,
    ) -> Any:
        """Run the command line and, standing alone, end the program with its exit code."""
        if not standalone_mode:
            return super().main(args, prog_name, complete_var, False, **extra)
        try:
            result = super().main(args, prog_name or "pkgctl", complete_var, False, **extra)
        except (PkgctlError, click.ClickException, click.Abort) as error:
            sys.exit(_complain(error))
        sys.exit(result if isinstance(result, int) else 0)


def _complain(error: PkgctlError | click.ClickException | click.Abort) -> int:
    """Write the one line that the error is worth, and return the exit code."""
    if isinstance(error, click.Abort):
        click.echo("pkgctl: interrupted", err=True)
        return INTERRUPTED
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        click.echo(error.format_message(), err=True)
        return error.exit_code
    if isinstance(error, click.UsageError) and error.ctx:
        where = error.ctx.command_path
        text = f"{error.format_message()} (see {where} --help)"
    else:
        text = error.format_message() if isinstance(error, click.ClickException) else str(error)
    click.echo(f"pkgctl: {' '.join(text.splitlines())}", err=True)
    return error.exit_code


@click.group(
    cls=Commands,
    name="pkgctl",
    no_args_is_help=False,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Exit codes: 0 done, 1 failed, 2 bad usage or input, 3 this machine lacks something, "
    "4 a measured link is not what was asked for.",
)
@click.version_option(__version__, prog_name="pkgctl")
@click.pass_context
def cli(ctx: click.Context) -> None:
    """An edge-cloud laboratory in a box.

    \b
    pkgctl experiment scaling.yaml      a whole experiment, with its report
    pkgctl up three-sites               a testbed to work with by hand
    pkgctl doctor                       what this machine can do
    """  # noqa: D301 - the \b keeps click from filling the lines
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


def main() -> None:
    """Run the command line, for the console script and ``python -m pkgctl``."""
    cli(prog_name="pkgctl")
