# SPDX-License-Identifier: GPL-3.0-or-later
"""Preparing a machine to be a node: folders, files, the nodes' code, kernel settings, units.

All is looked at first and changed afterwards, and only what differs. It is one step rather than
many since each step of Ansible's costs seconds on a slow machine.
"""

from __future__ import annotations

import base64
import binascii
import compileall
import io
import os
import shutil
import tarfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import identity, services
from .errors import DisturbanceError, KernelError

# Where the code of the nodes is, and in it the digest of the archive that it came from.
CODE = "/usr/local/lib/pkgctl"
DIGEST = "digest"
BEGIN, END = "# pkgctl: begin", "# pkgctl: end"
_SYSCTLS = Path("/proc/sys")

MACHINE: Mapping[str, Any] = {
    "argument_spec": {
        "folders": {"type": "list", "elements": "path", "default": []},
        "files": {"type": "dict", "default": {}},
        "blocks": {"type": "dict", "default": {}},
        "sysctls": {"type": "dict", "default": {}},
        "enabled": {"type": "list", "elements": "str", "default": []},
        "started": {"type": "list", "elements": "str", "default": []},
        "code": {"type": "bool", "default": False},
        "digest": {"type": "str"},
        "archive": {"type": "str", "no_log": True},
        "agent": {"type": "bool", "default": False},
    },
    "required_by": {"archive": ("digest",)},
}
Options = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Step:
    """One difference between what is and what should be, and the way from one to the other."""

    what: str
    before: str
    after: str
    act: Callable[[], None]

    @property
    def diff(self) -> dict[str, str]:
        """The difference as Ansible shows it."""
        header = {"before_header": self.what, "after_header": self.what}
        return {**header, "before": self.before, "after": self.after}


def prepare(options: Options, *, dry_run: bool = False) -> dict[str, object]:
    """Do what the module machine was told, and return its report.

    Raises:
        DisturbanceError: in one line.
    """
    _check(options)
    steps = [
        *(step for path in options["folders"] if (step := _folder(Path(path)))),
        *(step for path, text in options["files"].items() if (step := file(Path(path), text))),
        *(step for path, text in options["blocks"].items() if (step := block(Path(path), text))),
        *_code(options),
        *(step for key, value in options["sysctls"].items() if (step := _sysctl(key, str(value)))),
    ]
    if not dry_run:
        _carry_out(steps, agent=bool(options["agent"]))
    told = _units(options, steps, dry_run=dry_run)
    return {
        "changed": bool(steps or told),
        "actions": [step.what for step in steps] + told,
        "diff": [step.diff for step in steps],
    }


def _check(options: Options) -> None:
    for path in (*options["folders"], *options["files"], *options["blocks"]):
        if not str(path).startswith("/"):
            raise DisturbanceError(f"{path!r} is no path from the root")
    for key in options["sysctls"]:
        if not (_SYSCTLS / key).is_relative_to(_SYSCTLS) or ".." in key or key.startswith("/"):
            raise DisturbanceError(f"sysctls: {key!r} is no setting; write net/ipv4/ip_forward")
    for kind in ("files", "blocks"):
        for path, text in options[kind].items():
            if not isinstance(text, str):
                raise DisturbanceError(f"{kind}: {path}: its content must be a text")


def _carry_out(steps: list[Step], *, agent: bool) -> None:
    if steps and agent:
        # Noted first: whatever stops this, the agent is started anew when it is looked at next.
        folder = Path(identity.DIRECTORY)
        if folder.is_dir():
            (folder / services.OUTDATED).touch()
    for step in steps:
        try:
            step.act()
        except OSError as error:
            raise DisturbanceError(f"{step.what}: {error.strerror or error}") from error


def _folder(path: Path) -> Step | None:
    if path.is_dir():
        return None
    return Step(f"make {path}", "", f"{path}/\n", lambda: path.mkdir(parents=True, exist_ok=True))


def file(path: Path, text: str) -> Step | None:
    """Return what gives a file its content; None if it has it."""
    try:
        now = path.read_text(errors="replace")
    except FileNotFoundError:
        now = None
    if now == text:
        return None
    return Step(f"write {path}", now or "", text, lambda: _write(path, text))


def _write(path: Path, text: str) -> None:
    """Write a file all at once; one that was there keeps its mode."""
    path.parent.mkdir(parents=True, exist_ok=True)
    mode = path.stat().st_mode & 0o7777 if path.exists() else 0o644
    fresh = path.with_name(f".{path.name}.pkgctl")
    fresh.write_text(text)
    fresh.chmod(mode)
    fresh.replace(path)


def block(path: Path, text: str) -> Step | None:
    """Return what gives a file that others write too our lines, before theirs; None if it has."""
    now = path.read_text(errors="replace") if path.exists() else ""
    return file(path, with_block(now, text))


def with_block(whole: str, text: str) -> str:
    """Return a text that begins with our lines between our marks, and goes on with all others."""
    kept: list[str] = []
    ours = False
    for line in whole.splitlines():
        ours = (ours or line == BEGIN) and line != END
        if not ours and line != END:
            kept.append(line)
    own = [BEGIN, *text.splitlines(), END] if text.strip() else []
    return "".join(f"{line}\n" for line in (*own, *kept))


def _code(options: Options) -> list[Step]:
    wanted = options.get("digest")
    if not wanted:
        return []
    place = Path(CODE, DIGEST)
    now = place.read_text().strip() if place.exists() else ""
    if now == wanted:
        return []

    def act() -> None:
        if not options.get("archive"):
            raise DisturbanceError("the archive of the nodes' code did not come along")
        install(_unpacked(options["archive"]), Path(CODE), wanted)

    return [Step(f"install the nodes' code in {CODE}", f"{now}\n", f"{wanted}\n", act)]


def _unpacked(archive: str) -> bytes:
    try:
        return base64.b64decode(archive, validate=True)
    except (binascii.Error, ValueError) as error:
        raise DisturbanceError("the archive of the nodes' code came damaged") from error


def install(archive: bytes, place: Path, digest: str) -> None:
    """Put what an archive holds, compiled, in the place of what is there.

    Raises:
        DisturbanceError: if it is no archive; then what is there stays.
    """
    fresh, old = place.with_name(f"{place.name}.new"), place.with_name(f"{place.name}.old")
    for left in (fresh, old):
        shutil.rmtree(left, ignore_errors=True)
    fresh.mkdir(parents=True)
    try:
        with tarfile.open(fileobj=io.BytesIO(archive)) as packed:
            packed.extractall(fresh, **_FILTER)
    except tarfile.TarError as error:
        raise DisturbanceError(f"the archive of the nodes' code: {error}") from error
    compileall.compile_dir(str(fresh), quiet=2, stripdir=str(fresh), prependdir=str(place))
    (fresh / DIGEST).write_text(f"{digest}\n")
    os.sync()
    if place.exists():
        place.rename(old)
    fresh.rename(place)
    shutil.rmtree(old, ignore_errors=True)


_FILTER: dict[str, Any] = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}


def _sysctl(key: str, value: str) -> Step | None:
    path = _SYSCTLS / key
    try:
        now = path.read_text().split()
    except FileNotFoundError:
        return None  # As on a kernel without IPv6.
    if now == value.split():
        return None
    return Step(f"set {key}", " ".join(now) + "\n", value + "\n", lambda: _set(path, value))


def _set(path: Path, value: str) -> None:
    try:
        path.write_text(value)
    except OSError as error:
        raise KernelError(f"write {value!r} to {path}", error.errno or 0) from error


def _units(options: Options, steps: list[Step], *, dry_run: bool) -> list[str]:
    """Enable and start the units that are to be so, and return what was done, or would be."""
    enabled, started = options["enabled"], options["started"]
    names = list(dict.fromkeys([*enabled, *started]))
    if not names:
        return []
    fresh = any(step.what.startswith(f"write {services.FOLDER}/") for step in steps)
    seen = services.look(names)
    # What holds until the machine is started again may change at any time, and is no reason.
    if not dry_run and (fresh or any(seen[name].stale for name in enabled)):
        services.systemctl("daemon-reload")
        seen = services.look(names)
    lazy = [name for name in enabled if not seen[name].enabled]
    idle = [name for name in started if not seen[name].active]
    if not dry_run:
        for verb, todo in (("enable", lazy), ("start", idle)):
            if todo:
                services.systemctl(verb, "--quiet", "--", *todo)
    return [f"enable {name}" for name in lazy] + [f"start {name}" for name in idle]
