# SPDX-License-Identifier: GPL-3.0-or-later
"""``pkgctl cluster bundle``: a K3s release as files, locked by their sha256."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click

_MEBIBYTE = 2**20
# Not read from the nodes' code, which would be imported for every --help.
_ARCHITECTURES = ("amd64", "arm64", "arm")


@click.command(short_help="Download a K3s release, or lock one at hand, to install offline.")
@click.argument("version")
@click.option(
    "--arch",
    "archs",
    multiple=True,
    type=click.Choice(_ARCHITECTURES),
    help="A processor to have it for, this machine's if left out; may be given more than once.",
)
@click.option(
    "--to",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    help="The bundle's folder; bundle/VERSION if left out, or that of --from.",
)
@click.option(
    "--mirror",
    metavar="URL",
    help="What comes before the version in the addresses of releases, instead of GitHub's.",
)
@click.option(
    "--from",
    "source",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Take files that are at hand, under the names that releases give them.",
)
def bundle(
    version: str,
    archs: tuple[str, ...],
    folder: Path | None,
    mirror: str | None,
    source: Path | None,
) -> None:
    """Make the bundle of a K3s release: its binary and images, locked by their sha256.

    Downloads what the folder lacks and compares it with the release's list of sums. After that no
    network is needed: the roles install from the folder. Prints the folder.

    \b
    pkgctl cluster bundle v1.34.4+k3s1
    pkgctl cluster bundle v1.34.4+k3s1 --from downloads
    """  # noqa: D301 - the \b keeps click from filling the lines
    from pkgctl.cluster import bundle as making

    if source is not None:
        if mirror:
            raise click.UsageError("--mirror has no effect beside --from; leave one out")
        making.collect(version, archs, source, folder)
        click.echo(folder or source)
        return
    folder = folder or Path("bundle", version)
    with _progress() as progress:
        making.download(
            version,
            archs or (making.this_arch(),),
            folder,
            mirror=mirror or making.RELEASES,
            progress=progress,
        )
    click.echo(folder)


@contextmanager
def _progress() -> Iterator[Callable[[str, int, int], None]]:
    """Give what shows how far a download is: on a terminal always, else once a file."""
    shown = ""

    def on_terminal(name: str, done: int, whole: int) -> None:
        nonlocal shown
        end = "\n" if shown and shown != name else ""
        share = f" of {whole // _MEBIBYTE}" if whole else ""
        sys.stderr.write(f"{end}\r{name}: {done // _MEBIBYTE}{share} MiB")
        sys.stderr.flush()
        shown = name

    def elsewhere(name: str, done: int, whole: int) -> None:
        nonlocal shown
        if name != shown:
            click.echo(f"downloading {name}", err=True)
        shown = name

    if not sys.stderr.isatty():
        yield elsewhere
        return
    try:
        yield on_terminal
    finally:
        if shown:
            click.echo(err=True)
