# SPDX-License-Identifier: GPL-3.0-or-later
"""Archives of images, made of files: a tar as docker makes it, for there is no registry."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from . import assets

PAUSE = "docker.io/rancher/mirrored-pause:3.6"
BUSY = "pkgctl.test/busy:1"


@dataclass(frozen=True)
class Image:
    """An image of one layer.

    Attributes:
        name: its name and tag.
        files: what is in it, each with its bytes; all are executable.
        command: what it runs.
    """

    name: str
    files: Mapping[str, bytes]
    command: Sequence[str]


def pause() -> Image:
    """Return the image that holds a pod's namespaces."""
    return Image(PAUSE, {"pause": assets.path("pause").read_bytes()}, ["/pause"])


def busy() -> Image:
    """Return an image whose words are those of busy/main.go."""
    return Image(BUSY, {"busy": assets.path("busy").read_bytes()}, ["/busy", "sleep"])


def write(path: Path, images: Sequence[Image]) -> None:
    """Write an archive."""
    with tarfile.open(path, "w") as archive:
        manifest = []
        for image in images:
            layer = _layer(image.files)
            digest = hashlib.sha256(layer).hexdigest()
            _add(archive, f"{digest}/layer.tar", layer)
            config = {
                "architecture": "amd64",
                "os": "linux",
                "config": {"Entrypoint": list(image.command), "Env": ["PATH=/"]},
                "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]},
                "history": [{"created_by": "tests"}],
            }
            text = json.dumps(config).encode()
            name = f"{hashlib.sha256(text).hexdigest()}.json"
            _add(archive, name, text)
            entry = {"Config": name, "RepoTags": [image.name], "Layers": [f"{digest}/layer.tar"]}
            manifest.append(entry)
        _add(archive, "manifest.json", json.dumps(manifest).encode())


def _layer(files: Mapping[str, bytes]) -> bytes:
    text = io.BytesIO()
    with tarfile.open(fileobj=text, mode="w") as layer:
        for name, body in sorted(files.items()):
            _add(layer, name, body, 0o755)
    return text.getvalue()


def _add(archive: tarfile.TarFile, name: str, body: bytes, mode: int = 0o644) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(body), mode
    archive.addfile(entry, io.BytesIO(body))
