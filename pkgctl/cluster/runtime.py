# SPDX-License-Identifier: GPL-3.0-or-later
"""The image of which an experiment's pods are made: an interpreter and our programs, no more.

It is written here from this machine's own Python: the program, the shared libraries that it is
linked to, and those parts of the standard library that our programs import. There is no registry
and no base image. Equal inputs give an equal archive, and the tag names them, so a node that has
the tag has the image.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import platform
import re
import subprocess
import sys
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from pkgctl import project
from pkgctl.cluster.podbodies import MODULES, Runtime
from pkgctl.errors import MissingCapability

NAME = "pkgctl.dev/runtime"
RECIPE = b"1"  # to be raised when the same inputs are to give another image
PROGRAMS = "pkgctl"
_RUN_BY_PODS = ("batch", "fetch", "service")
_HOME = "usr/local"
_LINKED = re.compile(r"^\s*(?:(\S+) => )?(/\S+) \(0x", re.MULTILINE)
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
# Run by the interpreter itself: what it has loaded once it has imported all that is named.
_LOADED = """
import encodings, importlib, json, pkgutil, sys
for name in sys.argv[1:]:
    try:
        importlib.import_module(name)
    except ImportError:
        pass
for each in pkgutil.iter_modules(encodings.__path__, "encodings."):
    if each.name not in ("encodings.mbcs", "encodings.oem"):
        importlib.import_module(each.name)
files = {name: getattr(each, "__file__", None) for name, each in sys.modules.items()}
print(json.dumps({name: file for name, file in files.items() if file and name != "__main__"}))
"""
_COMPILE = """
import json, py_compile, sys
for source, shown, target in json.load(sys.stdin):
    mode = py_compile.PycInvalidationMode.UNCHECKED_HASH
    py_compile.compile(source, target, shown, doraise=True, invalidation_mode=mode)
"""
Files = dict[str, Path]


@dataclass(frozen=True, slots=True)
class Image:
    """The image: its name on a node, and the archive that brings it there."""

    name: str
    archive: Path


def image(cache: Path | None = None) -> Image:
    """Return the image, whose archive is written if it is not there.

    Args:
        cache: the folder for archives; the user's own cache without it.

    Raises:
        MissingCapability: if this machine's Python cannot be taken apart.
    """
    files = _files()
    digest = _digest(files)
    folder = cache or _cache()
    archive = folder / f"runtime-{digest}.tar"
    name = f"{NAME}:{digest}"
    if not archive.exists():
        folder.mkdir(parents=True, exist_ok=True)
        fresh = folder / f".{archive.name}.{os.getpid()}"
        try:
            _write(fresh, name, files, folder)
            fresh.replace(archive)
        finally:
            fresh.unlink(missing_ok=True)
    return Image(name, archive)


def runtime(name: str | None = None) -> Runtime:
    """Return what containers are made of.

    Args:
        name: the image, copied by its user to where the cluster finds it; None is the one that
            was put on the nodes.
    """
    python, programs = f"/{_HOME}/bin/python3", f"/{PROGRAMS}"
    if name is not None:
        return Runtime(name, python, programs, pull="IfNotPresent")
    return Runtime(f"{NAME}:{_digest(_files())}", python, programs)


def _cache() -> Path:
    own = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(own) / "pkgctl" / "runtime"


# What is in it.


def _files() -> Files:
    """Return what the image holds besides compiled modules: from its path to this machine's."""
    python = Path(sys.executable).resolve()
    programs = [project.programs() / f"{name}.py" for name in _RUN_BY_PODS]
    library = f"{_HOME}/lib/python{sys.version_info.major}.{sys.version_info.minor}"
    found: Files = {f"{PROGRAMS}/{each.name}": each for each in programs}
    found[f"{_HOME}/bin/python3"] = python
    extensions = []
    for name, file in _modules(python, programs).items():
        if file.suffix == ".so":
            found[f"{library}/lib-dynload/{file.name}"] = file
            extensions.append(file)
        elif file.suffix == ".py":
            found[f"{library}/{_place(name, file)}"] = file
    for each in (python, *extensions):
        found.update(_linked(each))
    return dict(sorted(found.items()))


def _modules(python: Path, programs: Iterable[Path]) -> dict[str, Path]:
    """Return the files of all modules that the programs import."""
    names = sorted({"traceback", *MODULES, *_imported(programs)})
    told = _run([str(python), "-S", "-E", "-s", "-c", _LOADED, *names], "")
    return {name: Path(file) for name, file in json.loads(told).items()}


def _imported(programs: Iterable[Path]) -> Iterator[str]:
    """Yield the names of modules after the word import, wherever in a program it is."""
    import ast

    for path in programs:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                yield from (each.name for each in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module:
                yield node.module


def _place(name: str, file: Path) -> str:
    parts = name.split(".")
    if file.name == "__init__.py":
        return "/".join([*parts, file.name])
    return "/".join([*parts[:-1], file.name])


def _linked(binary: Path) -> Iterator[tuple[str, Path]]:
    """Yield the shared libraries of a program; its loader keeps its place."""
    done = subprocess.run(["ldd", binary], capture_output=True, text=True, check=False)
    for name, path in _LINKED.findall(done.stdout):
        place = f"{_HOME}/lib/{name}" if name else path.lstrip("/")
        yield place, Path(path).resolve()


def _digest(files: Mapping[str, Path]) -> str:
    total = hashlib.sha256(RECIPE + platform.machine().encode())
    for place, path in files.items():
        total.update(place.encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()[:16]


# The archive.


def _write(target: Path, name: str, files: Files, folder: Path) -> None:
    import tempfile

    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        layer = _layer({**files, **_compiled(files, Path(scratch))})
    config = _config(hashlib.sha256(layer).hexdigest())
    title = hashlib.sha256(config).hexdigest()
    manifest = [{"Config": f"{title}.json", "RepoTags": [name], "Layers": ["layer.tar"]}]
    parts = {
        f"{title}.json": config,
        "layer.tar": layer,
        "manifest.json": json.dumps(manifest).encode(),
    }
    with tarfile.open(target, "w", format=tarfile.USTAR_FORMAT) as archive:
        for place, content in parts.items():
            _add(archive, place, content)


def _compiled(files: Files, scratch: Path) -> Files:
    """Return the compiled modules; a pod with a tenth of a core would compile for seconds."""
    tag = sys.implementation.cache_tag
    wanted, found = [], Files()
    for number, (place, path) in enumerate(files.items()):
        if path.suffix == ".py" and not place.startswith(PROGRAMS):
            parent, _, base = place.rpartition("/")
            target = scratch / str(number)
            wanted.append((str(path), f"/{place}", str(target)))
            found[f"{parent}/__pycache__/{base.removesuffix('.py')}.{tag}.pyc"] = target
    python = str(Path(sys.executable).resolve())
    _run([python, "-S", "-s", "-c", _COMPILE], json.dumps(wanted))
    return found


def _layer(files: Files) -> bytes:
    """Return the files as a tar, with the same bytes each time."""
    folders = {str(each) for place in files for each in Path(place).parents if str(each) != "."}
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as layer:
        for place in sorted({*folders, "tmp", *files}):
            if place in files:
                mode = 0o755 if _is_program(place) else 0o644
                _add(layer, place, files[place].read_bytes(), mode)
            else:
                _add(layer, place, None, 0o1777 if place == "tmp" else 0o755)
    return buffer.getvalue()


def _is_program(place: str) -> bool:
    return "/bin/" in place or ".so" in place


def _add(archive: tarfile.TarFile, place: str, content: bytes | None, mode: int = 0o644) -> None:
    """Add a file, or a folder, of nobody in particular and of no time."""
    entry = tarfile.TarInfo(place)
    entry.mode = mode
    if content is None:
        entry.type = tarfile.DIRTYPE
        archive.addfile(entry)
    else:
        entry.size = len(content)
        archive.addfile(entry, io.BytesIO(content))


def _config(layer: str) -> bytes:
    machine = platform.machine()
    environment = [f"PATH=/{_HOME}/bin", f"LD_LIBRARY_PATH=/{_HOME}/lib", "LANG=C.UTF-8"]
    config = {
        "architecture": _ARCHITECTURES.get(machine, machine),
        "os": "linux",
        "config": {"Env": environment, "WorkingDir": "/"},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{layer}"]},
    }
    return json.dumps(config, sort_keys=True).encode()


def _run(words: list[str], given: str) -> str:
    """Return what the interpreter prints; which names it draws by chance is fixed."""
    environment = {"PATH": os.defpath, "PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        words, input=given, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["it failed"])[-1]
        raise MissingCapability(f"no image can be made of {words[0]}: {last}")
    return done.stdout
