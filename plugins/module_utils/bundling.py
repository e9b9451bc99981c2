# SPDX-License-Identifier: GPL-3.0-or-later
"""A release of K3s on a node: a binary that has its version in its name, image archives, links.

All is looked at first. What is lacking arrives in a hidden folder beside its place, on the same
file system, and is renamed once all of it has been hashed; whatever is in use stays until then.
"""

from __future__ import annotations

import os
import re
import shutil
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from .errors import CapabilityError, DisturbanceError
from .landing import STAGE, Item, check_parts, check_room, part_of, settle, sync
from .preparing import Step
from .stamp import STAMP, Stamp

BINARY, IMAGES = "binary", "images"
KINDS = (BINARY, IMAGES)
# As the kernel names a processor, and as K3s does.
_MACHINES = {
    "x86_64": "amd64",
    "amd64": "amd64",
    "aarch64": "arm64",
    "arm64": "arm64",
    "armv7l": "arm",
    "armv8l": "arm",
}
ARCHITECTURES = tuple(dict.fromkeys(_MACHINES.values()))
LOOK, PREPARE, INSTALL, TIDY = "look", "prepare", "install", "tidy"

BUNDLE: Mapping[str, Any] = {
    "argument_spec": {
        "path": {"type": "path"},
        "version": {"type": "str"},
        "bin_dir": {"type": "path", "default": "/usr/local/bin"},
        "link": {"type": "path", "default": "/usr/local/bin/k3s"},
        "links": {"type": "list", "elements": "str", "default": ["kubectl", "crictl", "ctr"]},
        "images_dir": {"type": "path", "default": "/var/lib/rancher/k3s/agent/images"},
        "activate": {"type": "bool", "default": False},
        "prune": {"type": "bool", "default": False},
        "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        "lock": {"type": "dict"},
        "step": {"type": "str", "choices": [LOOK, PREPARE, INSTALL, TIDY], "default": INSTALL},
    },
    "required_if": [("state", "present", ("path",))],
}
Options = Mapping[str, Any]

_MODES = {BINARY: 0o755, IMAGES: 0o644}
_NAME = re.compile(r"[0-9A-Za-z][0-9A-Za-z._+-]*")
_PREFIX = "k3s-"
# Where else a program of a link's name may be, which the link would hide.
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def arch_of(machine: str) -> str:
    """Return a processor as K3s names it.

    Args:
        machine: as the kernel names it.

    Raises:
        CapabilityError: if K3s is not made for it.
    """
    if machine not in _MACHINES:
        raise CapabilityError(f"K3s is not made for {machine}, only for {', '.join(_MACHINES)}")
    return _MACHINES[machine]


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be done, with whatever follows from it.

    Attributes:
        steps: the differences, in the order in which they are done away with.
        lacking: the files that have to come.
        keep: what is to be remembered: versions by the paths of files.
    """

    steps: tuple[Step, ...]
    lacking: tuple[Item, ...]
    keep: Mapping[Path, str]


def bring(options: Options, *, dry_run: bool = False) -> dict[str, object]:
    """Do one step of what the module bundle was told, and return its report.

    Raises:
        DisturbanceError: in one line.
    """
    _check(options)
    act = _remove if options["state"] == "absent" else _ACTS[options["step"]]
    try:
        return act(options, dry_run)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        raise DisturbanceError(f"{where}{error.strerror or error}") from error


def _check(options: Options) -> None:
    for key in ("bin_dir", "link", "images_dir"):
        if not Path(options[key]).is_absolute():
            raise DisturbanceError(f"{key}: {options[key]!r} is no path from the root")
    for name in options["links"]:
        if not _NAME.fullmatch(name) or name == Path(options["link"]).name:
            raise DisturbanceError(f"links: {name!r} is no name of a further link")
    if options["state"] == "present" and not options["lock"]:
        raise DisturbanceError("lock: what the bundle holds did not come along")


# What is wanted


def items_of(options: Options, arch: str) -> tuple[Item, ...]:
    """Return the files that a node with a processor has to have.

    Raises:
        CapabilityError: if the bundle has none for it.
    """
    lock = options["lock"]
    found = tuple(
        Item(
            each["kind"],
            each["file"],
            _place(options, each),
            each["sha256"],
            each["size"],
            _MODES[each["kind"]],
        )
        for each in lock["files"]
        if each["arch"] == arch
    )
    if not found:
        known = ", ".join(dict.fromkeys(each["arch"] for each in lock["files"]))
        raise CapabilityError(f"the bundle has no file for {arch}, only for {known}")
    # The binary comes last: whatever fails before it leaves the node on what it had.
    return tuple(sorted(found, key=lambda each: each.kind == BINARY))


def _place(options: Options, entry: Mapping[str, Any]) -> Path:
    """Return where a file belongs; by its version in its name two versions can be there."""
    version = options["lock"]["version"]
    if entry["kind"] == BINARY:
        return Path(options["bin_dir"], f"{_PREFIX}{version}")
    return Path(options["images_dir"], f"{version}-{PurePosixPath(entry['file']).name}")


def _binary(options: Options) -> Path:
    return Path(options["bin_dir"], f"{_PREFIX}{options['lock']['version']}")


# What differs


def plan(options: Options, arch: str, stamp: Stamp) -> Plan:
    """Return what is to be done so that a bundle is there."""
    items = items_of(options, arch)
    lacking = tuple(each for each in items if not _is_right(each, stamp))
    before = stamp.versions
    ours = {each.path: str(options["lock"]["version"]) for each in items}
    gone = set(_prunable(options, before, ours))
    links = tuple(_links(options)) if options["activate"] else ()
    steps = (
        *(_arrival(each, stamp) for each in lacking),
        *(step for each in items if each not in lacking for step in _mode(each)),
        *links,
        *(_removal(path) for path in sorted(gone)),
    )
    kept = {path: version for path, version in before.items() if path not in gone}
    return Plan(steps, lacking, {**kept, **ours})


def _is_right(item: Item, stamp: Stamp) -> bool:
    try:
        seen = item.path.lstat()
    except FileNotFoundError:
        return False
    if stat.S_ISDIR(seen.st_mode):
        raise DisturbanceError(f"{item.path} is a folder; move it away")
    if not stat.S_ISREG(seen.st_mode) or seen.st_size != item.size:
        return False
    return stamp.sum_of(item.path) == item.sha256


def _arrival(item: Item, stamp: Stamp) -> Step:
    there = item.path.is_file() and not item.path.is_symlink()
    before = f"sha256 {stamp.sum_of(item.path)}\n" if there else ""
    return Step(f"put {item.path}", before, f"sha256 {item.sha256}\n", lambda: settle(item))


def _mode(item: Item) -> Iterator[Step]:
    now = stat.S_IMODE(item.path.stat().st_mode)
    if now != item.mode:
        what = f"set the mode of {item.path}"
        yield Step(what, f"{now:04o}\n", f"{item.mode:04o}\n", lambda: item.path.chmod(item.mode))


def _stages(options: Options) -> list[Path]:
    folders = dict.fromkeys((options["bin_dir"], options["images_dir"]))
    return [Path(folder, STAGE) for folder in folders]


def _leftovers(options: Options) -> list[Path]:
    """Return what an earlier call has left that was ended in its middle."""
    link = Path(options["link"])
    links = [_fresh_link(each) for each in (link, *map(link.with_name, options["links"]))]
    paths = [*_stages(options), part_of(Path(options["bin_dir"], STAMP)), *links]
    return [path for path in paths if os.path.lexists(path)]


def _removal(path: Path) -> Step:
    folder = path.is_dir() and not path.is_symlink()
    act = (lambda: shutil.rmtree(path)) if folder else (lambda: path.unlink(missing_ok=True))
    return Step(f"remove {path}", f"{path}\n", "", act)


def _prunable(
    options: Options, before: Mapping[Path, str], ours: Mapping[Path, str]
) -> Iterator[Path]:
    """Yield what was put there for a version that is neither the bundle's nor the one in use."""
    if not options["prune"]:
        return
    used = "" if options["activate"] else _version_in_use(options)
    for path, version in before.items():
        if path not in ours and version != used:
            yield path


def _version_in_use(options: Options) -> str:
    """Return the version of the binary to which the link points; nothing if it is none of ours."""
    target = _target(Path(options["link"]))
    if target is None or target.parent != Path(options["bin_dir"]):
        return ""
    return target.name.removeprefix(_PREFIX) if target.name.startswith(_PREFIX) else ""


def _target(link: Path) -> Path | None:
    """Return where a link points, one step far; None if it is no link."""
    if not link.is_symlink():
        return None
    return Path(os.path.normpath(link.parent / link.readlink()))


def _links(options: Options) -> Iterator[Step]:
    link, binary = Path(options["link"]), _binary(options)
    target = _target(link)
    if target is None and os.path.lexists(link):
        raise DisturbanceError(f"{link} is no link; move it away, or name another link")
    if target != binary:
        yield _link(link, binary)
    for name in options["links"]:
        path = link.with_name(name)
        # Whatever else has this name is somebody's choice.
        if not os.path.lexists(path) and not shutil.which(name, path=_PATH):
            yield _link(path, link)


def _link(link: Path, target: Path) -> Step:
    old = _target(link)
    text = target.name if target.parent == link.parent else str(target)
    before = f"{old}\n" if old else ""
    return Step(f"link {link} to {target}", before, f"{target}\n", lambda: _relink(link, text))


def _relink(link: Path, text: str) -> None:
    link.parent.mkdir(parents=True, exist_ok=True)
    fresh = _fresh_link(link)
    fresh.symlink_to(text)
    fresh.replace(link)
    sync(link.parent)


def _fresh_link(link: Path) -> Path:
    return link.with_name(f".{link.name}.k3s-bundle")


# The steps of the work


def _look(options: Options, dry_run: bool) -> dict[str, object]:
    """Say what differs, and what has to come; changes nothing."""
    arch, stamp = arch_of(os.uname().machine), Stamp(Path(options["bin_dir"]))
    found = plan(options, arch, stamp)
    check_room(found.lacking, _stages(options))
    lacking = [{"file": each.file, "part": str(each.part)} for each in found.lacking]
    right = [each for each in items_of(options, arch) if each not in found.lacking]
    known = stamp.is_current(found.keep, {each.path: each.sha256 for each in right})
    steps = (*map(_removal, _leftovers(options)), *found.steps)
    report = _report(options, arch, steps)
    return {**report, "lacking": lacking, "todo": bool(steps) or not known}


def _prepare(options: Options, dry_run: bool) -> dict[str, object]:
    """Make the folders in which files arrive, with nothing of before in them."""
    found = plan(options, arch_of(os.uname().machine), Stamp(Path(options["bin_dir"])))
    check_room(found.lacking, _stages(options))
    if not dry_run:
        _tidy(options, dry_run)
        for folder in {each.part.parent for each in found.lacking}:
            folder.mkdir(parents=True)
            folder.chmod(0o700)
    return {"changed": bool(found.lacking)}


def _install(options: Options, dry_run: bool) -> dict[str, object]:
    """Hash what has come, and put all in its place."""
    arch, stamp = arch_of(os.uname().machine), Stamp(Path(options["bin_dir"]))
    found = plan(options, arch, stamp)
    if dry_run:
        return _report(options, arch, found.steps)
    check_parts(found.lacking)
    items = items_of(options, arch)
    right = {each.path: each.sha256 for each in items if each not in found.lacking}
    Path(options["bin_dir"]).mkdir(parents=True, exist_ok=True)
    # Whose the files are is noted first, so that nothing can be there that nobody knows.
    stamp.write({**stamp.versions, **found.keep}, right)
    for step in found.steps:
        step.act()
    stamp.write(found.keep, {each.path: each.sha256 for each in items})
    _tidy(options, dry_run)
    return _report(options, arch, found.steps)


def _tidy(options: Options, dry_run: bool) -> dict[str, object]:
    """Remove whatever has come."""
    steps = [_removal(path) for path in _leftovers(options)]
    for step in steps if not dry_run else ():
        step.act()
    return _told(steps)


def _remove(options: Options, dry_run: bool) -> dict[str, object]:
    """Remove all that was put there, whatever its version."""
    stamp = Stamp(Path(options["bin_dir"]))
    link = Path(options["link"])
    extras = [path for name in options["links"] if _target(path := link.with_name(name)) == link]
    used = [link] if _version_in_use(options) else []
    paths = [*extras, *used, *sorted(stamp.versions), *_leftovers(options), stamp.path]
    steps = [_removal(path) for path in paths if os.path.lexists(path)]
    for step in steps if not dry_run else ():
        step.act()
    return _told(steps)


_ACTS: Mapping[str, Callable[[Options, bool], dict[str, object]]] = {
    LOOK: _look,
    PREPARE: _prepare,
    INSTALL: _install,
    TIDY: _tidy,
}


def _report(options: Options, arch: str, steps: Iterable[Step]) -> dict[str, object]:
    items = items_of(options, arch)
    binary = next(each for each in items if each.kind == BINARY)
    active = bool(options["activate"]) or _target(Path(options["link"])) == binary.path
    return {
        **_told(steps),
        "version": options["lock"]["version"],
        "arch": arch,
        "binary": str(binary.path),
        "sha256": binary.sha256,
        "active": active,
        "files": [each.told() for each in items],
    }


def _told(steps: Iterable[Step]) -> dict[str, object]:
    steps = tuple(steps)
    return {
        "changed": bool(steps),
        "actions": [step.what for step in steps],
        "diff": [step.diff for step in steps],
    }
