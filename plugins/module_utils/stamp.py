# SPDX-License-Identifier: GPL-3.0-or-later
"""What a bundle's module remembers of a node: which files are its own, and their sums."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .landing import hash_of, write

STAMP = ".k3s-bundle.json"
_FORMAT = 1
_VERSION = re.compile(r"v\d+\.\d+\.\d+[^/]*")


class Stamp:
    """What was put there: versions by paths, and the sums of files that are still the same."""

    def __init__(self, folder: Path) -> None:
        """Read what a folder's stamp says; a stamp that cannot be read says nothing."""
        self.path = folder / STAMP
        try:
            found = json.loads(self.path.read_text())
            found = found["files"] if found["format"] == _FORMAT else {}
            entries = {path: dict(entry) for path, entry in found.items()}
            self._files = {path: each for path, each in entries.items() if _is_ours(path, each)}
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            self._files = {}

    @property
    def versions(self) -> dict[Path, str]:
        """The version to which each file belongs that is still there."""
        return {
            Path(path): str(entry.get("version"))
            for path, entry in self._files.items()
            if os.path.lexists(path)
        }

    def sum_of(self, path: Path) -> str:
        """Return a file's sha256, read again only if the file is not the one that was read."""
        entry = self._files.get(str(path))
        if entry and _identity(path).items() <= entry.items():
            return str(entry.get("sha256"))
        return hash_of(path)

    def write(self, keep: Mapping[Path, str], sums: Mapping[Path, str]) -> None:
        """Remember files: whose they are, and the sums of those whose sum is known."""
        files = {
            str(path): {
                **self._files.get(str(path), {}),
                "version": version,
                **({"sha256": sums[path], **_identity(path)} if path in sums else {}),
            }
            for path, version in keep.items()
        }
        if files != self._files:
            text = json.dumps({"format": _FORMAT, "files": files}, indent=2) + "\n"
            write(self.path, text)
            self._files = files

    def is_current(self, keep: Mapping[Path, str], sums: Mapping[Path, str]) -> bool:
        """Return whether it says all of that already."""
        return self._files.keys() == {str(path) for path in keep} and all(
            {"sha256": found, **_identity(path)}.items() <= self._files[str(path)].items()
            for path, found in sums.items()
        )


def _is_ours(path: str, entry: Mapping[str, Any]) -> bool:
    """Return whether a file has the name of one of ours, since whatever is ours may be removed."""
    version, name = str(entry.get("version")), Path(path).name
    is_named = name == f"k3s-{version}" or name.startswith(f"{version}-")
    return bool(_VERSION.fullmatch(version)) and Path(path).is_absolute() and is_named


def _identity(path: Path) -> dict[str, int]:
    seen = path.stat()
    times = {"mtime_ns": seen.st_mtime_ns, "ctime_ns": seen.st_ctime_ns}
    return {"inode": seen.st_ino, "size": seen.st_size, **times}
