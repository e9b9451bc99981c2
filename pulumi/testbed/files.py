# SPDX-License-Identifier: GPL-3.0-or-later
"""Files that the program writes on the controller: for their owner alone, and all at once."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from pulumi.dynamic import CreateResult, ReadResult, UpdateResult

from testbed.provider import Props, Provider


class FileProvider(Provider):
    """A provider of what is a file; the input ``path`` says which."""

    replaced = ("path",)

    def create(self, props: Props) -> CreateResult:
        """Write it."""
        return CreateResult(props["path"], self._write(props))

    def update(self, _id: str, _olds: Props, _news: Props) -> UpdateResult:
        """Write another in its place."""
        return UpdateResult(self._write(_news))

    def read(self, id_: str, props: Props) -> ReadResult:
        """Return what is known of it, or nothing if it has gone."""
        return ReadResult(id_ if Path(id_).exists() else "", dict(props))

    def _write(self, props: Props) -> Props:
        """Write the file and return the resource's outputs."""
        raise NotImplementedError


def save(path: Path, data: bytes) -> None:
    """Write a file that only its owner may read, all at once; its folder is made if need be."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    fresh = path.with_name(f"{path.name}.new")
    fresh.unlink(missing_ok=True)
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(data)
    fresh.replace(path)


def prune(folder: Path) -> None:
    """Remove a folder if it is empty; others may be doing the same."""
    with contextlib.suppress(OSError):
        folder.rmdir()
