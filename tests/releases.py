# SPDX-License-Identifier: GPL-3.0-or-later
"""Small stand-ins for the files of a K3s release: flat as they are published, or as a bundle."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

VERSION, LATER = "v1.34.4+k3s1", "v1.35.1+k3s1"


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def contents(version: str = VERSION, arch: str = "amd64", size: int = 1000) -> dict[str, bytes]:
    """Return the files of a release by the names that it gives them."""
    suffix = {"amd64": "", "arm64": "-arm64", "arm": "-armhf"}[arch]
    binary = f"#!/bin/sh\necho k3s version {version}\n".encode()
    images = f"images of {version} for {arch}".encode().ljust(size, b".")
    return {f"k3s{suffix}": binary, f"k3s-airgap-images-{arch}.tar.zst": images}


def publish(folder: Path, version: str = VERSION, arch: str = "amd64") -> dict[str, bytes]:
    """Write a release as it is published, with its list of sums."""
    files = contents(version, arch)
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    lines = [f"{sha256(content)}  {name}\n" for name, content in files.items()]
    (folder / f"sha256sum-{arch}.txt").write_text("".join(lines))
    return files


def bundle(folder: Path, version: str = VERSION, arch: str = "amd64", size: int = 1000) -> Path:
    """Write a bundle, and return its folder."""
    entries = []
    (folder / arch).mkdir(parents=True, exist_ok=True)
    for name, content in contents(version, arch, size).items():
        (folder / arch / name).write_bytes(content)
        kind = "images" if "images" in name else "binary"
        entry = {"arch": arch, "kind": kind, "file": f"{arch}/{name}", "sha256": sha256(content)}
        entries.append({**entry, "size": len(content), "source": ""})
    lock = {"format": 1, "version": version, "files": entries}
    (folder / "bundle.lock.json").write_text(json.dumps(lock))
    return folder


def lock(folder: Path) -> dict:
    """Return a bundle's lock as it is written."""
    return json.loads((folder / "bundle.lock.json").read_text())
