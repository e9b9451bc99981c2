# SPDX-License-Identifier: GPL-3.0-or-later
"""``pkgctl doctor``: what this machine can do."""

from __future__ import annotations

from dataclasses import asdict

import click

from pkgctl.cli.text import as_json, output_option, table
from pkgctl.errors import MissingCapability


@click.command(short_help="Say what this machine can do, and how to get what is missing.")
@output_option
def doctor(output: str) -> None:
    """Say what this machine can do for testbeds, and how to get what is missing.

    Everything is tried in namespaces of its own: nothing is left behind, nothing disturbed.
    Ends with 3 if a local testbed cannot run here.

    Example: sudo pkgctl doctor
    """
    from pkgctl.doctor import examine, lacking

    findings = examine()
    if output == "json":
        click.echo(as_json([asdict(each) for each in findings]))
    else:
        rows = [(each.name, each.state, each.detail) for each in findings]
        click.echo(table(("NAME", "STATE", "DETAIL"), rows))
        remedies = [(each.name, each.remedy) for each in findings if each.remedy]
        if remedies:
            click.echo("\n" + table(("TO GET", "DO"), remedies))
    if absent := lacking(findings):
        names = ", ".join(each.name for each in absent)
        raise MissingCapability(f"no local testbed can run here; it lacks: {names}")
