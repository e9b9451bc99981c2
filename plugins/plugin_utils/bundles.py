# SPDX-License-Identifier: GPL-3.0-or-later
"""Bundles: the files of one K3s release in a folder of the controller, locked by their sha256.

A lock may come from anybody, so it is read strictly: what is wrong with it is said in one line, and
nothing of it is used then.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from ..module_utils.bundling import ARCHITECTURES, BINARY, KINDS
from ..module_utils.landing import hash_of
from ..module_utils.texts import quote, short

LOCK = "bundle.lock.json"
FORMAT = 1
VERSION = re.compile(r"v\d+\.\d+\.\d+(-[0-9A-Za-z][0-9A-Za-z.-]*)?\+k3s\d+")
EXAMPLE = "v1.34.4+k3s1"
# The archives that K3s imports; it passes over all others without a word.
ARCHIVES = (".tar", ".tar.gz", ".tgz", ".tar.zst", ".tzst", ".tar.bz2", ".tbz", ".tar.lz4")

_SUM = re.compile(r"[0-9a-f]{64}")
_NAME = re.compile(r"[0-9A-Za-z][0-9A-Za-z._+-]*")
_TEXTS = ("arch", "kind", "file", "sha256", "source")

Identity = tuple[str, int, int, int, int, int]
_known: dict[Identity, str] = {}


class BundleError(ValueError):
    """There is no bundle, or none that can be used; in one line."""


@dataclass(frozen=True, slots=True)
class File:
    """A file of a bundle.

    Attributes:
        arch: the processor that it is for, as K3s names it.
        kind: ``binary`` or ``images``.
        file: its path in the bundle's folder.
        sha256: in small hexadecimal digits.
        size: in bytes.
        source: where it was downloaded, or nothing.
    """

    arch: str
    kind: str
    file: str
    sha256: str
    size: int
    source: str = ""


@dataclass(frozen=True, slots=True)
class Lock:
    """What a bundle holds."""

    version: str
    files: tuple[File, ...]

    def of(self, arch: str) -> tuple[File, ...]:
        """Return the files for a processor."""
        return tuple(each for each in self.files if each.arch == arch)

    def as_dict(self) -> dict[str, Any]:
        """Return it as it is written."""
        files = [asdict(each) for each in self.files]
        return {"format": FORMAT, "version": self.version, "files": files}


def load(folder: Path) -> Lock:
    """Return the lock of a bundle.

    Raises:
        BundleError: if there is none, or it cannot be used.
    """
    path = folder / LOCK
    try:
        text = path.read_text()
    except FileNotFoundError as error:
        raise BundleError(
            f"{folder} is no bundle: there is no {LOCK}; make one by pkgctl cluster bundle"
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        said = getattr(error, "strerror", None) or short(error)
        raise BundleError(f"{path} cannot be read: {said}") from error
    try:
        return parse(text)
    except BundleError as error:
        raise BundleError(f"{path}: {error}") from error


def parse(text: str) -> Lock:
    """Return the lock that a text holds.

    Raises:
        BundleError: if it holds none.
    """
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BundleError(f"it is no JSON: {short(error)}") from error
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        what = quote(found.get("format")) if isinstance(found, dict) else quote(found)
        raise BundleError(f"format must be {FORMAT}, not {what}")
    _only(found, ("format", "version", "files"), "the lock")
    files = found.get("files")
    if not isinstance(files, list) or not files:
        raise BundleError("files must be a list of at least one file")
    return checked(
        Lock(
            check_version(found.get("version")),
            tuple(_file(each, f"files[{number}]") for number, each in enumerate(files)),
        )
    )


def check_version(value: object) -> str:
    """Return a version of K3s if a value is one.

    Raises:
        BundleError: if it is none.
    """
    if not isinstance(value, str) or not VERSION.fullmatch(value):
        raise BundleError(f"{quote(value)} is no version of K3s; write one such as {EXAMPLE}")
    return value


def _only(found: Mapping[str, Any], keys: Iterable[str], what: str) -> None:
    known = tuple(keys)
    for key in found:
        if key not in known:
            raise BundleError(f"{what} has the unknown key {quote(key)}")


def _file(found: Any, place: str) -> File:
    if not isinstance(found, dict):
        raise BundleError(f"{place} is no mapping")
    _only(found, (*_TEXTS, "size"), place)
    values = {"source": "", **found}
    for key in _TEXTS:
        if not isinstance(values.get(key), str):
            raise BundleError(f"{place}.{key} must be a text, not {quote(values.get(key))}")
    _check_words(values, place)
    size = values.get("size")
    if not isinstance(size, int) or isinstance(size, bool) or size < 1:
        raise BundleError(f"{place}.size must be a number of bytes, not {quote(size)}")
    return File(**values)


def _check_words(values: Mapping[str, str], place: str) -> None:
    for key, known in (("arch", ARCHITECTURES), ("kind", KINDS)):
        if values[key] not in known:
            raise BundleError(
                f"{place}.{key} must be one of {', '.join(known)}, not {quote(values[key])}"
            )
    if not _SUM.fullmatch(values["sha256"]):
        raise BundleError(
            f"{place}.sha256 must be 64 small hexadecimal digits, not {quote(values['sha256'])}"
        )
    parts = values["file"].split("/")
    if not all(_NAME.fullmatch(part) for part in parts):
        raise BundleError(f"{place}.file must be a path in the folder, not {quote(values['file'])}")
    if values["kind"] != BINARY and not parts[-1].endswith(ARCHIVES):
        raise BundleError(
            f"{place}.file: K3s imports no {quote(parts[-1])}; it takes {', '.join(ARCHIVES)}"
        )


def checked(lock: Lock) -> Lock:
    """Return a lock in which nothing is there twice, and nothing is missing.

    Raises:
        BundleError: if it is another.
    """
    seen: set[tuple[str, str]] = set()
    for each in lock.files:
        # On a node all binaries have one name, and archives that of their file.
        name = BINARY if each.kind == BINARY else PurePosixPath(each.file).name
        for what in (("", each.file), (each.arch, name)):
            if what in seen:
                raise BundleError(f"there are two files for {each.arch} called {name}")
            seen.add(what)
    for arch in sorted({each.arch for each in lock.files}):
        if (arch, BINARY) not in seen:
            raise BundleError(f"there is no binary for {arch}")
    return lock


def wanted(lock: Lock, version: str | None) -> None:
    """Make sure that a lock is of the version that was asked for.

    Raises:
        BundleError: if it is of another.
    """
    if version and version != lock.version:
        raise BundleError(f"the bundle holds {lock.version}, not {version}")


def verify(folder: Path, files: Iterable[File], store: Path | None = None) -> None:
    """Make sure that files are there, and are what their lock says.

    Args:
        folder: the bundle's.
        files: some of its lock's.
        store: a file in which processes leave one another the sums that they have found.

    Raises:
        BundleError: at the first that is not, with what was found and what was expected.
    """
    for each in files:
        path = folder / each.file
        try:
            size = path.stat().st_size
            if not path.is_file():
                raise BundleError(f"{path} is no file")
            # What is cut short is not worth the time to read it.
            if size != each.size:
                raise BundleError(f"{path} has {size} bytes; its lock says {each.size}")
            found = sum_of(path, store)
        except FileNotFoundError as error:
            raise BundleError(f"{path} is not there; its lock names it") from error
        except OSError as error:
            raise BundleError(f"{path} cannot be read: {error.strerror}") from error
        if found != each.sha256:
            raise BundleError(f"{path} has the sha256 {found}; its lock says {each.sha256}")


def sum_of(path: Path, store: Path | None = None) -> str:
    """Return a file's sha256, read once as long as the file stays what it is."""
    identity = _identity(path)
    if identity not in _known:
        _known[identity] = _shared(identity, store) if store else hash_of(path)
    return _known[identity]


def _identity(path: Path) -> Identity:
    seen = path.stat()
    times = (seen.st_mtime_ns, seen.st_ctime_ns)
    return (str(path.resolve()), seen.st_dev, seen.st_ino, seen.st_size, *times)


def _shared(identity: Identity, store: Path) -> str:
    """Take a sum from the store, or add it; who comes meanwhile waits, and has it then."""
    with store.open("a+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        for line in file:
            *known, found = json.loads(line)
            if known == list(identity):
                return str(found)
        found = hash_of(Path(identity[0]))
        file.write(json.dumps([*identity, found]) + "\n")
        return found


def write(folder: Path, lock: Lock) -> None:
    """Write a bundle's lock, all at once.

    Raises:
        BundleError: if it would be none.
    """
    text = json.dumps(lock.as_dict(), indent=2) + "\n"
    parse(text)
    fresh = folder / f".{LOCK}.part"
    with fresh.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(folder / LOCK)
