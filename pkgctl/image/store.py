# SPDX-License-Identifier: GPL-3.0-or-later
"""Where built images are kept, and how one is found, checked and removed."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pkgctl.errors import MissingCapability, PkgctlError, SpecError, nearest

FORMAT = 1
DISK, KERNEL, INITRD, MANIFEST = "disk.qcow2", "vmlinuz", "initrd.img", "manifest.json"
FILES = (DISK, KERNEL, INITRD)

_BUILD = "pkgctl image build"
_SHORTEST = 4  # characters of a fingerprint that may stand for it
_QCOW2, _BOOTABLE = b"QFI\xfb", b"\x55\xaa"


@dataclass(frozen=True)
class Image:
    """What a virtual machine boots from.

    Attributes:
        fingerprint: a name that changes with what the image is.
        disk: its root disk.
        kernel: what boots it directly; None boots the disk as a PC's firmware does.
        initrd: what goes with the kernel.
        cmdline: the kernel's command line.
        format: that of the disk, qcow2 or raw.
    """

    fingerprint: str
    disk: Path
    kernel: Path | None = None
    initrd: Path | None = None
    cmdline: tuple[str, ...] = ()
    format: str = "qcow2"


@dataclass(frozen=True)
class Built:
    """An image of ours, and what its manifest says."""

    folder: Path
    manifest: Mapping[str, Any]

    @property
    def fingerprint(self) -> str:
        """Its name, which is its folder's."""
        return self.folder.name

    @property
    def size(self) -> int:
        """Bytes of all its files."""
        return sum(each["size"] for each in self.manifest["files"].values())

    def image(self) -> Image:
        """Return what boots from it."""
        return Image(
            self.fingerprint,
            self.folder / DISK,
            self.folder / KERNEL,
            self.folder / INITRD,
            cmdline=tuple(self.manifest["cmdline"]),
        )


def shelf() -> Path:
    """Return the folder of all built images."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "pkgctl" / "images"


def built() -> list[Built]:
    """Return the images that are there whole, the newest first."""
    place = shelf()
    folders = place.iterdir() if place.is_dir() else ()
    found = [each for folder in folders if (each := _open(folder)) is not None]
    return sorted(found, key=lambda each: (each.folder / MANIFEST).stat().st_mtime_ns, reverse=True)


def get(fingerprint: str) -> Built | None:
    """Return the image of exactly that name, if it is there whole."""
    return _open(shelf() / fingerprint)


def _open(folder: Path) -> Built | None:
    """Take a folder for an image only if all that its manifest names is there in its size."""
    if folder.name.startswith("."):
        return None
    try:
        manifest = json.loads((folder / MANIFEST).read_text())
        if manifest["format"] != FORMAT or not set(FILES) <= set(manifest["files"]):
            return None
        sizes = {name: each["size"] for name, each in manifest["files"].items()}
        whole = all((folder / name).stat().st_size == size for name, size in sizes.items())
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return Built(folder, manifest) if whole else None


def find(spec: str = "") -> Image:
    """Return the image that a text means.

    Args:
        spec: nothing for the newest built one, a fingerprint or its beginning, or the path of a
            disk image of the user's own.

    Raises:
        MissingCapability: if none is built yet.
        SpecError: if there is no such image, or the file is none.
    """
    if not spec:
        images = built()
        if not images:
            raise MissingCapability(f"no image is built yet; run {_BUILD}")
        return images[0].image()
    if "/" in spec or Path(spec).is_file():
        return own(Path(spec).expanduser())
    return select(spec).image()


def select(fingerprint: str) -> Built:
    """Return the built image of a fingerprint, of which the beginning is enough.

    Raises:
        MissingCapability: if none is built yet.
        SpecError: if it is none of those, or more than one.
    """
    images = built()
    if not images:
        raise MissingCapability(f"no image is built yet; run {_BUILD}")
    names = [each.fingerprint for each in images]
    long_enough = len(fingerprint) >= _SHORTEST
    matches = [
        each
        for each in images
        if each.fingerprint == fingerprint
        or (long_enough and each.fingerprint.startswith(fingerprint))
    ]
    if not matches:
        raise SpecError(f"no image {fingerprint!r} is built here; {nearest(fingerprint, names)}")
    if len(matches) > 1:
        both = ", ".join(each.fingerprint for each in matches)
        raise SpecError(f"image {fingerprint!r} may be any of {both}")
    return matches[0]


def own(path: Path) -> Image:
    """Return a user's own disk image, which a PC's firmware can boot.

    Raises:
        SpecError: if it is no file, not of a known format, or only a part of an image.
    """
    try:
        facts = path.stat()
        with path.open("rb") as stream:
            head = stream.read(512)
    except OSError as error:
        raise SpecError(f"no image {str(path)!r}: {error.strerror}") from error
    name = f"{path.resolve()}:{facts.st_size}:{facts.st_mtime_ns}"
    fingerprint = hashlib.sha256(name.encode()).hexdigest()[:16]
    if head.startswith(_QCOW2):
        if any(head[8:16]):
            raise SpecError(
                "its content is spread over another file (a backing file); "
                "qemu-img convert -O qcow2 makes one of both",
                file=path,
            )
        return Image(fingerprint, path.resolve())
    if head[510:512] == _BOOTABLE:
        return Image(fingerprint, path.resolve(), format="raw")
    raise SpecError("is neither a qcow2 image nor a raw disk that a PC can boot", file=path)


def verify(image: Built) -> None:
    """Read all of an image's files and compare them with what was built.

    Raises:
        PkgctlError: if one has changed.
    """
    for name, expected in image.manifest["files"].items():
        found = digest(image.folder / name)
        if found != expected["sha256"]:
            raise PkgctlError(
                f"image {image.fingerprint} is damaged: {name} has the SHA-256 {found[:16]}…, "
                f"built was {expected['sha256'][:16]}…; {_BUILD} --force makes it again"
            )


def digest(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def remove(image: Built) -> None:
    """Remove an image, all at once for whoever looks for one."""
    gone = Path(tempfile.mkdtemp(prefix=".gone-", dir=image.folder.parent))
    image.folder.rename(gone / image.fingerprint)
    shutil.rmtree(gone)
