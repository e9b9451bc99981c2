# SPDX-License-Identifier: GPL-3.0-or-later
"""Load beside a node's jobs, made by stress-ng inside the node and under the node's own limits.

Each layer runs by itself, in a control group of its own below the node's, by which it is found
again whoever started it. What runs is judged by the command lines in that group.

  cpu     workers: 1.5 is one that is always busy, and one that is busy half of the time
  memory  bytes, taken and kept by one worker that then sleeps
  io      workers that write and read files past the cache, on the node's first data disk
"""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

from . import condition, layers
from .cgroups import Group, group
from .change import Change
from .errors import CapabilityError, DisturbanceError
from .identity import Disk, Identity
from .units import show_size

STORE = "stress.json"
KEYS = ("cpu", "memory", "io")
_TOOL = "stress-ng"
_GROUP = "stress-"
_FOLDER = ".pkgctl-stress-"
_QUIET = ("--timeout", "0", "--quiet")
# A worker's file: a sixteenth of the disk, so that several fit, and not more than this.
_MOST_FILE = 64 << 20
_LEAST_FILE = 1 << 20
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_PATIENCE = 5.0

Argv = tuple[str, ...]


def change(
    identity: Identity,
    *,
    layer: str | None,
    body: Mapping[str, float] | None = None,
    present: bool = True,
    dry_run: bool = False,
) -> Change:
    """Set or take away one layer of load on this node, and bring what runs to what is asked.

    Args:
        identity: the node, in whose namespaces the caller is.
        layer: its name; None with present=False takes away all but base.
        body: "cpu" and "io" in workers, "memory" in bytes.
        present: whether the layer should be there.
        dry_run: only say what would be done.

    Raises:
        DisturbanceError: one line.
        CapabilityError: if stress-ng is not there.
    """
    wanted = check(body or {}) if present else None
    path = Path(identity.directory, STORE)
    with layers.locked(path):
        stored = layers.load(path)
        fresh = layers.changed(stored, layer, wanted)
        if wanted:
            _check_means(identity, wanted)
        if not dry_run and fresh != stored:
            layers.save(path, fresh)
        done = _bring(identity, fresh, dry_run=dry_run)
    return Change(bool(done) or fresh != stored, show(stored), show(fresh), done)


def converge(identity: Identity, *, dry_run: bool = False) -> Change:
    """Bring what runs to what the stored layers ask for; the actions of a dry run are the drift.

    Raises:
        DisturbanceError: one line.
    """
    path = Path(identity.directory, STORE)
    with layers.locked(path):
        stored = layers.load(path)
        done = _bring(identity, stored, dry_run=dry_run)
    return Change(bool(done), show(stored), show(stored), done)


def check(body: Mapping[str, float]) -> dict[str, float]:
    """Return a layer's content, or refuse one that means nothing.

    Raises:
        DisturbanceError: naming the first key at fault.
    """
    for key, amount in body.items():
        if key not in KEYS:
            raise DisturbanceError(f"{key}: unknown load; known are {', '.join(KEYS)}")
        if amount <= 0:
            raise DisturbanceError(f"{key}: must be above zero, not {amount}")
    if not body:
        raise DisturbanceError(f"a load needs one of {', '.join(KEYS)}")
    return dict(body)


def show(stored: layers.Layers) -> str:
    """Return the layers as text, one a line."""
    return "".join(
        f"{name}: {', '.join(_show(key, body[key]) for key in KEYS if key in body)}\n"
        for name, body in sorted(stored.items())
        if body
    )


def _show(key: str, amount: float) -> str:
    return f"{key} {show_size(int(amount)) if key == 'memory' else f'{amount:g}'}"


def commands(body: Mapping[str, float], place: str, disk: Disk | None) -> list[Argv]:
    """Return the commands that make a layer's load.

    Args:
        body: the layer's content.
        place: the folder for the files of io.
        disk: the disk on which that is; None leaves io out.
    """
    full, part = divmod(round(body.get("cpu", 0) * 100), 100)
    words: list[str] = []
    if full:
        words += ["--cpu", str(full)]
    if "memory" in body:
        words += [
            "--vm",
            "1",
            "--vm-bytes",
            str(int(body["memory"])),
            "--vm-keep",
            "--vm-hang",
            "0",
        ]
    if "io" in body and disk is not None:
        size = max(_LEAST_FILE, min(disk.size // 16, _MOST_FILE))
        words += ["--hdd", str(int(body["io"])), "--hdd-bytes", str(size), "--hdd-opts", "direct"]
        words += ["--temp-path", place]
    found: list[Argv] = [(_TOOL, *_QUIET, *words)] if words else []
    if part:
        found.append((_TOOL, *_QUIET, "--cpu", "1", "--cpu-load", str(part)))
    return found


def _check_means(identity: Identity, body: Mapping[str, float]) -> None:
    if _tool() is None:
        raise CapabilityError("load needs stress-ng: apt-get install stress-ng")
    if "io" in body and not identity.disks:
        raise DisturbanceError(f"io: {identity.name} has no data disk to load")


def _tool() -> str | None:
    return shutil.which(_TOOL, path=_PATH)


def _bring(identity: Identity, asked: layers.Layers, *, dry_run: bool) -> list[str]:
    """Start and end what differs, and return it in words; a paused node is left as it is."""
    node = group(identity.cgroup)
    now = condition.load(identity.directory)
    there = _groups(node)
    if now == condition.PAUSED:
        if not dry_run:
            _end_later(there, asked)
        return []
    wanted = {} if condition.is_off(now) else _wanted(identity, asked)
    surplus = [name for name in there if _running(there[name]) != wanted.get(name)]
    fresh = [name for name in wanted if name not in there or name in surplus]
    litter = [place for name, place in _folders(identity) if name not in wanted]
    if not dry_run:
        for name in surplus:
            _end(there[name])
        for place in litter:
            shutil.rmtree(place, ignore_errors=True)
        for name in fresh:
            _begin(identity, name, node.child(f"{_GROUP}{name}"), wanted[name])
    return (
        [f"end the load of {name}" for name in surplus if name not in fresh]
        + [f"remove {place}" for place in litter]
        + [f"begin the load of {name}: {' '.join(argv)}" for name in fresh for argv in wanted[name]]
    )


def _wanted(identity: Identity, asked: layers.Layers) -> dict[str, list[Argv]]:
    disk = _disk(identity)
    found = {
        name: commands(body, str(_folder(disk, name)) if disk else "", disk)
        for name, body in asked.items()
    }
    return {name: sorted(argvs) for name, argvs in found.items() if argvs}


def _disk(identity: Identity) -> Disk | None:
    """Return the node's first data disk, if it is mounted."""
    disk = next(iter(identity.disks.values()), None)
    return disk if disk is not None and os.path.ismount(disk.mount) else None


def _folder(disk: Disk, layer: str) -> Path:
    return Path(disk.mount, f"{_FOLDER}{layer}")


def _folders(identity: Identity) -> list[tuple[str, Path]]:
    """Return the layer and the place of each folder of ours on the first disk."""
    disk = _disk(identity)
    if disk is None:
        return []
    with suppress(OSError):
        return [
            (place.name.removeprefix(_FOLDER), place)
            for place in sorted(Path(disk.mount).glob(f"{_FOLDER}*"))
        ]
    return []


def _groups(node: Group) -> dict[str, Group]:
    """Return the group of each layer that has one."""
    start = f"{node.path}/{_GROUP}"
    return {
        each.path.removeprefix(start): each
        for each in node.children()
        if each.path.startswith(start)
    }


def _running(own: Group) -> list[Argv]:
    """Return the commands of ours in a group; their workers go by other names."""
    found = []
    for pid in own.processes():
        with suppress(OSError):
            words = Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")[:-1]
            if len(words) > 1 and words[0] == _TOOL:
                found.append(tuple(words))
    return sorted(found)


def _end(own: Group) -> None:
    if left := own.kill(patience=_PATIENCE):
        raise DisturbanceError(f"the load {left[:5]} does not end")
    own.remove()


def _end_later(there: Mapping[str, Group], asked: layers.Layers) -> None:
    """Kill what is not asked for any more; while all is frozen that may take until it is not."""
    for name in there.keys() - asked.keys():
        for pid in there[name].processes():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def _begin(identity: Identity, layer: str, own: Group, argvs: Sequence[Argv]) -> None:
    tool = _tool()
    if tool is None:
        raise CapabilityError("load needs stress-ng: apt-get install stress-ng")
    if any("--hdd" in argv for argv in argvs) and (disk := _disk(identity)) is not None:
        _folder(disk, layer).mkdir(exist_ok=True)
    own.create()
    for argv in argvs:
        _spawn(tool, argv, own)


def _spawn(tool: str, argv: Argv, own: Group) -> None:
    """Start a command in a group and a session of its own, as nobody's child.

    Raises:
        DisturbanceError: if it cannot be started.
    """
    source, target = os.pipe()
    child = os.fork()
    if child == 0:
        _become(tool, argv, own, target)
    os.close(target)
    os.waitpid(child, 0)
    with os.fdopen(source) as failures:
        if failure := failures.read():
            raise DisturbanceError(f"cannot start {argv[0]}: {failure}")


def _become(tool: str, argv: Argv, own: Group, target: int) -> NoReturn:
    """Leave the starter's session and family, then be the command; say why not on a descriptor."""
    try:
        os.setsid()
        if os.fork():
            os._exit(0)
        own.join()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGPIPE, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        quiet = os.open(os.devnull, os.O_RDWR)
        for stream in range(3):
            os.dup2(quiet, stream)
        os.dup2(target, 3)
        os.set_inheritable(3, False)
        os.closerange(4, 4096)
        os.chdir("/tmp")
        os.execve(tool, list(argv), {"PATH": _PATH, "LANG": "C.UTF-8"})
    except BaseException as error:
        os.write(target, str(error).encode())
    finally:
        os._exit(127)
