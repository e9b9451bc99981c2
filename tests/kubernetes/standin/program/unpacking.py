# SPDX-License-Identifier: GPL-3.0-or-later
"""Its programs, packed in its own file: unpacked once for each version of that file."""

from __future__ import annotations

import fcntl
import json
import shutil
import sys
import zipfile
from pathlib import Path

_MANIFEST = "data/manifest.json"


def about() -> dict[str, str]:
    """Return the version, and the digest of what is packed."""
    with zipfile.ZipFile(_own_file()) as packed:
        return dict(json.loads(packed.read(_MANIFEST)))


def unpack(data_dir: Path) -> Path:
    """Return the folder of the programs."""
    top = data_dir / "data"
    top.mkdir(parents=True, exist_ok=True)
    folder = top / about()["digest"]
    with (top / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.is_dir():
            _unpack_to(folder)
        _point(top / "current", folder)
    return folder / "bin"


def _own_file() -> Path:
    return Path(sys.argv[0]).resolve()


def _unpack_to(folder: Path) -> None:
    part = folder.with_name(f"{folder.name}-tmp")
    shutil.rmtree(part, ignore_errors=True)
    with zipfile.ZipFile(_own_file()) as packed:
        for entry in packed.infolist():
            if entry.filename.startswith("data/") and entry.filename != _MANIFEST:
                target = part / entry.filename.removeprefix("data/")
                target.parent.mkdir(parents=True, exist_ok=True)
                with packed.open(entry) as source, target.open("wb") as sink:
                    shutil.copyfileobj(source, sink, 1 << 20)
                target.chmod(0o755)
    for name in json.loads((part / "links.json").read_text()).items():
        (part / "bin" / name[0]).symlink_to(name[1])
    part.rename(folder)


def _point(link: Path, folder: Path) -> None:
    if link.is_symlink() and str(link.readlink()) == folder.name:
        return
    part = link.with_name(".current")
    part.unlink(missing_ok=True)
    part.symlink_to(folder.name)
    part.rename(link)
