# SPDX-License-Identifier: GPL-3.0-or-later
"""Bundles of K3s releases: downloaded where there is internet, or locked from files at hand.

A bundle is built under its lock: files come first, each whole under its name only once it is what
the release's own list of sums says, and the lock last. What is right already is not fetched again.
"""

from __future__ import annotations

import http.client
import os
import re
import shutil
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pkgctl.errors import PkgctlError, SpecError
from pkgctl.nodeside import bundles, bundling, errors, landing

RELEASES = "https://github.com/k3s-io/k3s/releases/download"
# What K3s appends to the name of the binary for each processor.
_SUFFIXES: Mapping[str, str] = {"amd64": "", "arm64": "-arm64", "arm": "-armhf"}
# The ways in which a release packs its images, the best first.
_PACKED = (".tar.zst", ".tar.gz", ".tar")
_PATIENCE = 30.0  # seconds without a byte
_CHUNK = 2**20
_MOST_SUMS = 2**20  # bytes that a list of sums can have
_SUM_LINE = re.compile(r"([0-9a-f]{64}) [ *]?(\S+)")
_UNSATISFIABLE = 416

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Wanted:
    """A file of a release, and what its list of sums says of it."""

    arch: str
    kind: str
    name: str
    sha256: str


def binary_name(arch: str) -> str:
    """Return the name of a release's binary for a processor."""
    return f"k3s{_SUFFIXES[arch]}"


def sums_name(arch: str) -> str:
    """Return the name of a release's list of sums for a processor."""
    return f"sha256sum-{arch}.txt"


def image_names(arch: str) -> tuple[str, ...]:
    """Return the names that a release's images can have for a processor, the best first."""
    return tuple(f"k3s-airgap-images-{arch}{ending}" for ending in _PACKED)


def this_arch() -> str:
    """Return this machine's processor as K3s names it.

    Raises:
        SpecError: if K3s is not made for it.
    """
    try:
        return bundling.arch_of(os.uname().machine)
    except errors.CapabilityError as error:
        raise SpecError(f"{error}; choose another with --arch") from error


def address(mirror: str, version: str, name: str) -> str:
    """Return where a file of a release is."""
    return f"{mirror.rstrip('/')}/{urllib.parse.quote(version, safe='')}/{name}"


def read_sums(text: str, source: str) -> dict[str, str]:
    """Return the sums in a release's list, by the names of files.

    Raises:
        PkgctlError: if it says two things of one file, or nothing of any.
    """
    found: dict[str, str] = {}
    for line in text.splitlines():
        match = _SUM_LINE.fullmatch(line.strip())
        if match and found.setdefault(match[2], match[1]) != match[1]:
            raise PkgctlError(f"{source} has two sums for {match[2]}")
    if not found:
        raise PkgctlError(f"{source} is no list of sums")
    return found


def wanted_of(arch: str, sums: Mapping[str, str], source: str) -> list[Wanted]:
    """Return the files that make a bundle for a processor.

    Raises:
        PkgctlError: if the list has no line for one of them.
    """
    images = next((name for name in image_names(arch) if name in sums), image_names(arch)[0])
    files = [
        (bundling.BINARY, binary_name(arch)),
        (bundling.IMAGES, images),
    ]
    for _, name in files:
        if name not in sums:
            raise PkgctlError(f"{source} has no line for {name}")
    return [Wanted(arch, kind, name, sums[name]) for kind, name in files]


# Downloading


def download(
    version: str,
    archs: Sequence[str],
    folder: Path,
    *,
    mirror: str = RELEASES,
    progress: Progress,
) -> bundles.Lock:
    """Download a release into a bundle, or what of it the folder lacks.

    Args:
        version: such as ``v1.34.4+k3s1``.
        archs: the processors to have it for.
        folder: the bundle's; other processors' files of the same version stay part of it.
        mirror: what comes before the version in the addresses of releases.
        progress: is told of a file's name, the bytes that are there, and those that there will be.

    Raises:
        SpecError: if the version is none, or the folder is another version's bundle.
        PkgctlError: if something cannot be had, or is not what it should be.
    """
    before = _before(folder, version)
    files: list[bundles.File] = []
    for arch in dict.fromkeys(archs):
        kept = [each for each in before if each.arch == arch]
        if _is_whole(folder, kept):
            files += kept
            continue
        url = address(mirror, version, sums_name(arch))
        sums = read_sums(_text(url), url)
        for each in wanted_of(arch, sums, url):
            source = address(mirror, version, each.name)
            place = folder / arch / each.name
            _have(place, source, each.sha256, progress)
            files.append(_locked(each, folder, place, source))
    return _write(folder, version, before, files)


def _before(folder: Path, version: str) -> tuple[bundles.File, ...]:
    """Return what a folder's lock has of a version already."""
    with _as_spec_errors():
        bundles.check_version(version)
        if not (folder / bundles.LOCK).exists():
            return ()
        lock = bundles.load(folder)
    if lock.version != version:
        raise SpecError(f"{folder} is the bundle of {lock.version}; choose another folder")
    return lock.files


def _is_whole(folder: Path, files: Sequence[bundles.File]) -> bool:
    """Return whether all of a processor's files are there as their lock says."""
    try:
        bundles.verify(folder, files)
    except bundles.BundleError:
        return False
    return {each.kind for each in files} == set(bundling.KINDS)


@contextmanager
def _as_spec_errors() -> Iterator[None]:
    try:
        yield
    except bundles.BundleError as error:
        raise SpecError(str(error)) from error


def _text(url: str) -> str:
    with _reaching(url), urllib.request.urlopen(url, timeout=_PATIENCE) as answer:
        found: bytes = answer.read(_MOST_SUMS)
        return found.decode(errors="replace")


@contextmanager
def _reaching(url: str) -> Iterator[None]:
    """Say in one line why a URL cannot be had."""
    try:
        yield
    except urllib.error.HTTPError as error:
        error.close()
        raise PkgctlError(f"{url} cannot be had: {error.code} {error.reason}") from error
    except ValueError as error:
        raise SpecError(f"--mirror: {error}") from error
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", error)
        said = getattr(reason, "strerror", None) or str(reason) or type(error).__name__
        raise PkgctlError(f"{url} cannot be had: {said}") from error


def _have(place: Path, url: str, sha256: str, progress: Progress) -> None:
    """Have a file in its place: the one that is there if it is right, else the one from a URL."""
    if place.is_file() and bundles.sum_of(place) == sha256:
        return
    part = place.with_name(f"{place.name}.part")
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise PkgctlError(f"{place.parent} cannot be made: {error.strerror}") from error
    with _reaching(url):
        _fetch(part, url, progress)
    found = landing.hash_of(part)
    if found != sha256:
        part.unlink()
        raise PkgctlError(f"{url} has the sha256 {found}; the release's list says {sha256}")
    part.replace(place)


def _fetch(part: Path, url: str, progress: Progress) -> None:
    """Download a file, going on where an earlier download was ended."""
    there = part.stat().st_size if part.exists() else 0
    headers = {"Range": f"bytes={there}-"} if there else {}
    try:
        request = urllib.request.Request(url, headers=headers)
        answer = urllib.request.urlopen(request, timeout=_PATIENCE)
    except urllib.error.HTTPError as error:
        if not (there and error.code == _UNSATISFIABLE):
            raise
        # Nothing of it is missing, or it is another: its sum tells.
        error.close()
        return
    with answer, part.open("ab") as target:
        if answer.status != http.client.PARTIAL_CONTENT:
            target.truncate(0)
            there = 0
        length = int(answer.headers.get("Content-Length") or 0)
        while chunk := answer.read(_CHUNK):
            target.write(chunk)
            progress(part.stem, target.tell(), there + length)
        if target.tell() < there + length:
            raise http.client.HTTPException(f"it ended after {target.tell()} bytes")


# Files at hand


def collect(version: str, archs: Sequence[str], source: Path, target: Path | None) -> bundles.Lock:
    """Make a bundle of files that are at hand, under the names that releases give them.

    A list of sums among them is heeded. Without one the files are locked as they are.

    Args:
        version: the release that they are of.
        archs: the processors; none takes those whose binary is there.
        source: the folder of the files.
        target: the bundle's folder, into which they are copied; none locks them where they are.

    Raises:
        SpecError: if a file is missing, or the version is none.
        PkgctlError: if a file is not what the list of sums says.
    """
    folder = target or source
    before = _before(folder, version)
    known = list(archs) or [each for each in _SUFFIXES if (source / binary_name(each)).is_file()]
    if not known:
        raise SpecError(f"{source} has no binary of K3s: {binary_name(this_arch())} is not there")
    found = [each for arch in dict.fromkeys(known) for each in _at_hand(source, arch)]
    files = []
    for each in found:
        place = source / each.name if target is None else target / each.arch / each.name
        if target is not None:
            _copy_file(source / each.name, place, each.sha256)
        files.append(_locked(each, folder, place, ""))
    return _write(folder, version, before, files)


def _at_hand(source: Path, arch: str) -> list[Wanted]:
    """Return the files of a folder for a processor, each with its sum."""
    images = next((each for each in image_names(arch) if (source / each).is_file()), None)
    names = {bundling.BINARY: binary_name(arch), bundling.IMAGES: images or image_names(arch)[0]}
    for name in names.values():
        if not (source / name).is_file():
            raise SpecError(f"{source} has no {name}")
    path = source / sums_name(arch)
    try:
        sums = read_sums(path.read_text(errors="replace"), str(path)) if path.exists() else None
        found = {name: bundles.sum_of(source / name) for name in names.values()}
    except OSError as error:
        raise PkgctlError(f"{error.filename} cannot be read: {error.strerror}") from error
    if sums is not None:
        _compare(found, sums, path)
    return [Wanted(arch, kind, name, found[name]) for kind, name in names.items()]


def _compare(found: Mapping[str, str], sums: Mapping[str, str], path: Path) -> None:
    for name, digest in found.items():
        if name not in sums:
            raise PkgctlError(f"{path} has no line for {name}")
        if sums[name] != digest:
            raise PkgctlError(
                f"{path.parent / name} has the sha256 {digest}; {path.name} says {sums[name]}"
            )


def _copy_file(source: Path, place: Path, sha256: str) -> None:
    try:
        if place.is_file() and bundles.sum_of(place) == sha256:
            return
        place.parent.mkdir(parents=True, exist_ok=True)
        part = place.with_name(f"{place.name}.part")
        shutil.copyfile(source, part)
        if landing.hash_of(part) != sha256:
            part.unlink()
            raise PkgctlError(f"{source} changed while it was copied")
        part.replace(place)
    except OSError as error:
        raise PkgctlError(f"{place} cannot be written: {error.strerror}") from error


# The lock


def _locked(each: Wanted, folder: Path, place: Path, source: str) -> bundles.File:
    size, name = place.stat().st_size, place.relative_to(folder).as_posix()
    return bundles.File(each.arch, each.kind, name, each.sha256, size, source)


def _write(
    folder: Path, version: str, before: Sequence[bundles.File], files: Sequence[bundles.File]
) -> bundles.Lock:
    """Write the lock, with what it had for other processors."""
    fresh = {each.arch for each in files}
    kept = [each for each in before if each.arch not in fresh]
    lock = bundles.Lock(version, (*kept, *files))
    with _as_spec_errors():
        bundles.checked(lock)
    try:
        bundles.write(folder, lock)
    except OSError as error:
        raise PkgctlError(f"{folder} cannot be written: {error.strerror}") from error
    return lock
