# SPDX-License-Identifier: GPL-3.0-or-later
"""Building an image: packages installed in a folder, made a file system, and that a disk."""

from __future__ import annotations

import fcntl
import json
import os
import platform
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pkgctl.errors import MissingCapability, PkgctlError
from pkgctl.image import initrd, recipe, store
from pkgctl.image.furnish import furnish, versions
from pkgctl.image.recipe import Recipe
from pkgctl.image.store import DISK, FILES, INITRD, KERNEL, MANIFEST, Built

Say = Callable[[str], None]

# Programs, and the Debian packages that have them.
TOOLS = {"mmdebstrap": "mmdebstrap", "mke2fs": "e2fsprogs", "qemu-img": "qemu-utils"}
# Debian keeps administrators' programs where a user's search path need not lead.
_PATH = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/local/sbin", "/usr/sbin"])


def lacking() -> str:
    """Return what this machine lacks to build an image, and how to get it; or nothing."""
    if platform.machine() != "x86_64":
        return f"the image is built on x86_64 machines; this one is {platform.machine()}"
    missing = [name for name in TOOLS if shutil.which(name, path=_PATH) is None]
    if missing:
        packages = " ".join(TOOLS[name] for name in missing)
        return f"building an image takes {', '.join(missing)}: apt-get install {packages}"
    if os.geteuid() != 0:
        return "building an image takes root: files in it belong to many users; try sudo"
    return ""


def build(
    extra: Sequence[str] = (),
    *,
    force: bool = False,
    mirror: str | None = None,
    say: Say = lambda _: None,
) -> Built:
    """Return the image of today's recipe, built now unless it is there.

    Args:
        extra: more Debian packages.
        force: whether to build it again.
        mirror: where Debian is taken from, instead of where mmdebstrap takes it.
        say: is told what is going on.

    Raises:
        SpecError: if a package has no proper name.
        MissingCapability: if this machine cannot build images.
        PkgctlError: if a step fails; then nothing has changed.
    """
    made = recipe.read(extra)
    known = store.get(made.fingerprint())
    if known and not force:
        return known
    if reason := lacking():
        raise MissingCapability(reason)
    with _alone(made.fingerprint(), say) as lock:
        # Somebody else may have built it while we waited.
        known = store.get(made.fingerprint())
        if known and not force:
            return known
        return _build(made, mirror, lock, say)


@contextmanager
def _alone(fingerprint: str, say: Say) -> Iterator[int]:
    """Be the only one who builds this image; what a killed one left is removed."""
    place = store.shelf()
    place.mkdir(parents=True, exist_ok=True)
    lock = os.open(place / f".{fingerprint}.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("waiting for another build of the same image")
            fcntl.flock(lock, fcntl.LOCK_EX)
        for left in place.glob(f".build-{fingerprint}-*"):
            _clear(left)
        yield lock
    finally:
        os.close(lock)


def _build(made: Recipe, mirror: str | None, lock: int, say: Say) -> Built:
    place, name = store.shelf(), made.fingerprint()
    work = Path(tempfile.mkdtemp(prefix=f".build-{name}-", dir=place))
    try:
        work.chmod(0o755)  # mmdebstrap lets a user without rights read its packages there
        result = work / name
        result.mkdir(mode=0o755)
        tree = work / "tree"
        say(f"installing {len(made.packages)} packages and what they need")
        _run(recipe.install(made, tree, mirror), lock)
        manifest = _assemble(made, tree, result, lock, say)
        manifest["mirror"] = mirror
        _keep(result, manifest)
        _replace(result, place / name)
    finally:
        _clear(work)
    found = store.get(name)
    if found is None:
        raise PkgctlError(f"the new image {name} was changed while it was put in place")
    return found


def _assemble(made: Recipe, tree: Path, result: Path, lock: int, say: Say) -> dict[str, Any]:
    """Make the three files of an image, and return what is to be said of them."""
    kernel = initrd.kernel_version(tree)
    shutil.copyfile(tree / "boot" / f"vmlinuz-{kernel}", result / KERNEL)
    (result / INITRD).write_bytes(initrd.make(tree, made.init))
    packages = versions((tree / "var/lib/dpkg/status").read_text())
    furnish(tree, made)
    say("making the file system")
    raw = result.parent / "disk.raw"
    _run(_file_system(tree, raw, made.fingerprint()), lock)
    say("packing the disk")
    _run(["qemu-img", "convert", "-c", "-O", "qcow2", str(raw), str(result / DISK)], lock)
    return {
        "format": store.FORMAT,
        "fingerprint": made.fingerprint(),
        "suite": recipe.SUITE,
        "architecture": recipe.ARCHITECTURE,
        "date": datetime.fromtimestamp(_epoch(), UTC).isoformat(),
        "kernel": kernel,
        "cmdline": recipe.CMDLINE,
        "requested": made.packages,
        "packages": packages,
        "files": {name: _facts(result / name) for name in FILES},
    }


def _file_system(tree: Path, raw: Path, fingerprint: str) -> list[str]:
    """Return the command that makes a disk of a folder, known by the same names each time."""
    identity = str(uuid.uuid5(uuid.NAMESPACE_OID, fingerprint))
    # Tables that are written now need not be written in the background of every guest.
    options = f"lazy_itable_init=0,lazy_journal_init=0,root_owner=0:0,hash_seed={identity}"
    return [
        *("mke2fs", "-q", "-t", "ext4", "-L", recipe.LABEL, "-U", identity),
        *("-m", "0", "-J", "size=16", "-E", options, "-d", str(tree), str(raw), recipe.SIZE),
    ]


def _run(command: Sequence[str], lock: int) -> None:
    """Run a step. It keeps the lock if we are killed, for it goes on writing.

    Raises:
        PkgctlError: if it fails, with its own last words about why.
    """
    environment = {**os.environ, "PATH": _PATH, "LC_ALL": "C", "E2FSPROGS_FAKE_TIME": str(_epoch())}
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env=environment,
        pass_fds=(lock,),
    )
    if done.returncode != 0:
        raise PkgctlError(f"{command[0]} failed: {_reason(done.stdout)}")


def _reason(output: str) -> str:
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith(("E:", "Err:", "dpkg: error"))]
    return "; ".join(dict.fromkeys((errors or lines)[-3:])) or "it gave no reason"


def _epoch() -> int:
    given = os.environ.get("SOURCE_DATE_EPOCH", "")
    return int(given) if given.isdigit() else int(datetime.now(UTC).timestamp())


def _facts(path: Path) -> dict[str, Any]:
    return {"size": path.stat().st_size, "sha256": store.digest(path)}


def _keep(result: Path, manifest: dict[str, Any]) -> None:
    """Write the manifest last, and have all on the disk before the image gets its name."""
    (result / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n")
    for path in [*result.iterdir(), result]:
        path.chmod(0o755 if path.is_dir() else 0o644)
        descriptor = os.open(path, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)


def _replace(result: Path, wanted: Path) -> None:
    """Give a finished image its name; one that is there goes where the rest is cleared away."""
    if wanted.exists():
        wanted.rename(result.parent / "former")
    result.rename(wanted)


def _clear(folder: Path) -> None:
    """Remove a folder of work, unless something is still mounted in it.

    Raises:
        PkgctlError: if so: what would be removed is not only ours.
    """
    mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    inside = [each for line in mounts if (each := line.split()[4]).startswith(f"{folder}/")]
    if inside:
        raise PkgctlError(f"{inside[-1]} is mounted in what is left of a build; umount it first")
    shutil.rmtree(folder)
