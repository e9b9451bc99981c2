# SPDX-License-Identifier: GPL-3.0-or-later
"""The folder from which a stack is driven: the program's copy, its backend, its passphrase, locks.

A testbed is taken down by the program that made it, so that is copied beside the stack's state.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import shutil
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from pkgctl import project
from pkgctl.errors import SpecError, TestbedError, nearest
from pkgctl.remote.places import Places, root

PROJECT = "pkgctl-testbed"
_FILE = "Pulumi.yaml"
_TYPES: Mapping[str, Any] = {
    "integer": int,
    "boolean": bool,
    "number": (int, float),
    "array": list,
    "object": dict,
}


@contextmanager
def held(places: Places) -> Iterator[None]:
    """Hold a testbed against another `up` or `down`; its folder is there meanwhile.

    Raises:
        TestbedError: if somebody else holds it.
    """
    places.run.mkdir(parents=True, exist_ok=True, mode=0o700)
    places.run.chmod(0o700)
    with places.lock.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise TestbedError(f"another command is changing testbed {places.name!r}") from error
        yield


def prepare(places: Places) -> None:
    """Lay out what a stack needs: the program as it is now, and a backend with its passphrase."""
    places.pulumi.mkdir(exist_ok=True, mode=0o700)
    places.backend.mkdir(exist_ok=True, mode=0o700)
    if not places.passphrase.exists():
        _write_private(places.passphrase, secrets.token_urlsafe(32))
    kept = _settings_file(places)
    before = kept.read_text() if kept.exists() else None
    copy(project.folder("pulumi"), places.program)
    if before is not None:
        _write_private(kept, before)


def copy(source: Path, target: Path) -> None:
    """Copy the program without stacks and leftovers; it will run by this interpreter."""
    fresh = target.with_name(f"{target.name}.new")
    shutil.rmtree(fresh, ignore_errors=True)
    shutil.copytree(source, fresh, ignore=shutil.ignore_patterns("Pulumi.*.yaml", "__pycache__"))
    described: dict[str, Any] = yaml.safe_load((fresh / _FILE).read_text())
    described["runtime"] = runtime(sys.prefix, is_own=sys.prefix != sys.base_prefix)
    (fresh / _FILE).write_text(yaml.safe_dump(described, sort_keys=False))
    shutil.rmtree(target, ignore_errors=True)
    fresh.rename(target)


def runtime(prefix: str, *, is_own: bool) -> dict[str, Any]:
    """Return the program's runtime: Python, of a virtual environment if that is what runs us."""
    options: dict[str, Any] = {"toolchain": "pip"}
    return {"name": "python", "options": {**options, **({"virtualenv": prefix} if is_own else {})}}


def settings(places: Places) -> dict[str, Any]:
    """Return the settings that the stack has; nothing if it is new."""
    path = _settings_file(places)
    found: dict[str, Any] = (yaml.safe_load(path.read_text()) if path.exists() else None) or {}
    prefix = f"{PROJECT}:"
    return {key.removeprefix(prefix): value for key, value in found.get("config", {}).items()}


def _settings_file(places: Places) -> Path:
    return places.program / f"Pulumi.{places.name}.yaml"


def read(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings as the program declares them; texts of numbers and flags are read.

    Raises:
        SpecError: if the program knows no setting of that name, or it is of another type.
    """
    known = yaml.safe_load((project.folder("pulumi") / _FILE).read_text())["config"]
    return {key: _typed(key, value, known) for key, value in settings.items()}


def write_settings(places: Places, settings: Mapping[str, Any]) -> None:
    """Give the stack its settings, and keep what Pulumi itself noted beside them."""
    path = _settings_file(places)
    before: dict[str, Any] = (yaml.safe_load(path.read_text()) if path.exists() else None) or {}
    after = {**before, "config": {f"{PROJECT}:{key}": each for key, each in settings.items()}}
    _write_private(path, yaml.safe_dump(after, sort_keys=False))


def _typed(key: str, value: Any, known: Mapping[str, Mapping[str, Any]]) -> Any:
    if key not in known:
        raise SpecError(f"no setting {key!r}; {nearest(key, list(known))}")
    wanted = known[key]["type"]
    if wanted == "string" or not isinstance(value, str):
        return value
    read = yaml.safe_load(value)
    if not isinstance(read, _TYPES[wanted]):
        raise SpecError(f"{key}: found {value!r}, which is no {wanted}")
    return read


def _write_private(path: Path, text: str) -> None:
    with open(path, "w", opener=_private) as file:
        file.write(text)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def environment(places: Places) -> dict[str, str]:
    """Return what Pulumi is told by its environment: no account, no network, this interpreter."""
    return {
        "PULUMI_BACKEND_URL": places.backend.as_uri(),
        "PULUMI_CONFIG_PASSPHRASE_FILE": str(places.passphrase),
        "PULUMI_SKIP_UPDATE_CHECK": "true",
        "PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION": "true",
        "PULUMI_PYTHON_CMD": sys.executable,
        "PKGCTL_STATE": str(root()),
        "PKGCTL_TESTBED": places.name,
        "PYTHONDONTWRITEBYTECODE": "1",
    }


def note_hosts(places: Places, uris: Iterable[str]) -> None:
    """Note where something of the testbed may be, before anything is made there."""
    found = list(dict.fromkeys([*noted_hosts(places), *uris]))
    fresh = places.hypervisors.with_suffix(".new")
    fresh.write_text(json.dumps(found))
    fresh.replace(places.hypervisors)


def noted_hosts(places: Places) -> list[str]:
    """Return the addresses of the hosts on which something of the testbed may be."""
    try:
        found: list[str] = json.loads(places.hypervisors.read_text())
    except (FileNotFoundError, ValueError):
        return []
    return found
