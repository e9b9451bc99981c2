# SPDX-License-Identifier: GPL-3.0-or-later
"""The code of the nodes as one archive: the same bytes whoever packs it, and whenever."""

from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

CODE = Path(__file__).parents[1] / "module_utils"
# Where it is found below the folder on Python's path.
PACKAGE = "ansible_collections/pkgctl/testbed/plugins/module_utils"
# An archive of nothing's age: pyc files and zip files know no earlier year.
_MOMENT = 315532800


@dataclass(frozen=True, slots=True)
class Archive:
    """A packed tar file, and the digest by which two are told apart."""

    content: bytes
    digest: str


@cache
def pack(folder: Path = CODE) -> Archive:
    """Return an archive of the sources in a folder."""
    whole = io.BytesIO()
    with tarfile.open(fileobj=whole, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for path in _sources(folder):
            content = path.read_bytes()
            member = tarfile.TarInfo(f"{PACKAGE}/{path.relative_to(folder).as_posix()}")
            member.size, member.mtime, member.mode = len(content), _MOMENT, 0o644
            tar.addfile(member, io.BytesIO(content))
    packed = gzip.compress(whole.getvalue(), mtime=0)
    return Archive(packed, hashlib.sha256(whole.getvalue()).hexdigest())


def _sources(folder: Path) -> Iterator[Path]:
    yield from sorted(folder.rglob("*.py"))
