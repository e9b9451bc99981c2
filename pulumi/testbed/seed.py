# SPDX-License-Identifier: GPL-3.0-or-later
"""A machine's seed: a small disk image with its host key, which is in no other place."""

from __future__ import annotations

import hashlib
import io
import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pulumi

from testbed import seeds
from testbed.access import make_key
from testbed.files import FileProvider, prune, save
from testbed.provider import Props


class SeedProvider(FileProvider):
    """Makes a host key and the image, each time another one, and forgets the key."""

    compared = ("content",)

    def delete(self, _id: str, _props: Props) -> None:
        """Remove the image, and its folders if nothing else is there."""
        path = Path(_id)
        path.unlink(missing_ok=True)
        prune(path.parent)
        prune(path.parent.parent)

    def _write(self, props: Props) -> Props:
        content = json.loads(props["content"])
        private, public = _host_key(content["hostname"])
        files = seeds.documents(content, private, public, testbed=props["testbed"])
        digest = hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()
        save(Path(props["path"]), image(files))
        return {**props, "hash": digest, "host_key": public}


class Seed(pulumi.dynamic.Resource, module="testbed", name="Seed"):
    """The seed of a machine.

    Attributes:
        hash: of what is in it.
        host_key: the public one of the machine.
    """

    path: pulumi.Output[str]
    hash: pulumi.Output[str]
    host_key: pulumi.Output[str]

    def __init__(
        self,
        name: str,
        path: str,
        testbed: str,
        content: pulumi.Input[str],
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        """Declare the seed.

        Args:
            name: the resource's.
            path: the image's file.
            testbed: whose it is.
            content: what ``seeds.content`` returned, as JSON.
            opts: the resource's.
        """
        props: dict[str, Any] = {"path": path, "testbed": testbed, "content": content}
        super().__init__(SeedProvider(), name, {**props, "hash": None, "host_key": None}, opts)


def _host_key(node: str) -> tuple[str, str]:
    """Return a new key and its public part."""
    with tempfile.TemporaryDirectory(prefix="pkgctl-seed-") as folder:
        path = Path(folder, "key")
        make_key(path, node)
        return path.read_text(), " ".join(path.with_suffix(".pub").read_text().split()[:2])


def image(files: Mapping[str, str]) -> bytes:
    """Return an ISO 9660 image with some files, of the volume that cloud-init looks for."""
    import pycdlib

    disk = pycdlib.PyCdlib()
    disk.new(interchange_level=3, joliet=3, rock_ridge="1.09", vol_ident=seeds.VOLUME)
    for number, (name, text) in enumerate(files.items()):
        data = text.encode()
        disk.add_fp(
            io.BytesIO(data),
            len(data),
            f"/FILE{number}.;1",
            rr_name=name,
            joliet_path=f"/{name}",
        )
    written = io.BytesIO()
    disk.write_fp(written)
    disk.close()
    return written.getvalue()
