# SPDX-License-Identifier: GPL-3.0-or-later
"""``pkgctl image``: the base image of virtual machines."""

from __future__ import annotations

import click

from pkgctl.cli.text import as_json, output_option, table

_MEBIBYTE = 2**20


@click.group(short_help="Build and keep the base image of virtual machines.")
def image() -> None:
    """Build and keep the base image of virtual machines.

    Example: sudo pkgctl image build
    """


@image.command()
@click.option(
    "--package",
    "packages",
    multiple=True,
    metavar="NAME",
    help="A further Debian package; may be given more than once.",
)
@click.option("--force", is_flag=True, help="Build again what is there already.")
@click.option(
    "--mirror",
    metavar="URL",
    help="Where Debian is taken from, instead of where mmdebstrap takes it.",
)
def build(packages: tuple[str, ...], force: bool, mirror: str | None) -> None:
    """Build the image: a small Debian 12, its kernel, and what boots it.

    Takes under a minute and about 400 MB while it works. An unchanged recipe is built once; the
    fingerprint that is printed is its name.

    Example: sudo pkgctl image build --package redis-server
    """
    from pkgctl.image.build import build as build_image

    def say(text: str) -> None:
        click.echo(text, err=True)

    found = build_image(packages, force=force, mirror=mirror, say=say)
    click.echo(found.fingerprint)


@image.command("list")
@output_option
def list_images(output: str) -> None:
    """List the images that are built, the newest first.

    Example: pkgctl image list -o json
    """
    from pkgctl.image.store import built

    images = built()
    if output == "json":
        rows = [{**each.manifest, "folder": str(each.folder)} for each in images]
        click.echo(as_json(rows))
        return
    header = ("FINGERPRINT", "DATE", "KERNEL", "MIB", "PACKAGES")
    click.echo(
        table(
            header,
            [
                (
                    each.fingerprint,
                    each.manifest["date"][:16].replace("T", " "),
                    each.manifest["kernel"],
                    each.size // _MEBIBYTE,
                    len(each.manifest["packages"]),
                )
                for each in images
            ],
        )
    )


@image.command()
@click.argument("fingerprint")
def rm(fingerprint: str) -> None:
    """Remove an image; testbeds keep the copies that they made.

    The beginning of its fingerprint is enough.

    Example: pkgctl image rm 3f9ac1
    """
    from pkgctl.image.store import remove, select

    remove(select(fingerprint))


@image.command()
@click.argument("fingerprint", required=False)
def verify(fingerprint: str | None) -> None:
    """Compare every byte of an image, or of all, with what was built.

    Example: pkgctl image verify
    """
    from pkgctl.errors import MissingCapability
    from pkgctl.image import store

    images = [store.select(fingerprint)] if fingerprint else store.built()
    if not images:
        raise MissingCapability("no image is built yet; run pkgctl image build")
    for each in images:
        store.verify(each)
        click.echo(f"{each.fingerprint} is as it was built")
