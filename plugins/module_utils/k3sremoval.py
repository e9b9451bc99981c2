# SPDX-License-Identifier: GPL-3.0-or-later
"""Taking K3s off a node, with all that it and its containers left in the kernel and on disks.

What is to go is found by looking, so that a removal that was cut short is simply done again: what
tells where the rest is goes last.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import k3ssettings, mounting, podgroups, rtnl, services, syscalls
from .cgroups import Group, group
from .errors import DisturbanceError
from .netlink import NETLINK_ROUTE, Socket

_PROC = Path("/proc")
_PATIENCE = 10.0
# What K3s makes in the kernel, by name.
_LINKS = re.compile(r"cni0|flannel[.-].*|kube-ipvs0|veth[0-9a-f]{8}")
_RULES = re.compile(r"KUBE-|CNI-|CNI:|flannel", re.IGNORECASE)
_NAMESPACES = "/run/netns/cni-"
# Settings of the machine's for which files of a node's own stand in.
_SETTINGS, _STANDING_IN = "/proc/sys/", "k3s/tunables/"
# In these systemd bounds pods; those below go with them.
_SLICES = re.compile(rf"(\S+-)?{podgroups.TOP}\.slice")
_RUN = ("/run/k3s", "/run/flannel")
# Wherever kubelet was told to be, plugins for devices find it in its usual place.
_FOLDERS = (
    *(*_RUN, "/var/lib/cni", "/var/lib/kubelet", "/var/log/pods", "/var/log/containers"),
    *("/etc/rancher/node", "/etc/rancher/k3s"),
)
# What is above its own, if it was made for that and holds nothing else.
_ABOVE = re.compile(r".*/(rancher|k3s|k3s/bin)|/usr/libexec/kubernetes(/.*)?")
# Where Kubernetes makes a folder for plugins of volumes, whether there are any or not.
_PLUGINS = Path("/usr/libexec/kubernetes/kubelet-plugins/volume/exec")
_LINKED = ("k3s", "kubectl", "crictl", "ctr")
_TABLES = ("iptables", "ip6tables")

RESET: Mapping[str, Any] = {
    "argument_spec": {
        "bin_dir": {"type": "path", "default": "/usr/local/bin"},
        "cgroup": {"type": "str", "default": ""},
        "data_dir": {"type": "path", "default": "/var/lib/rancher/k3s"},
        "kubelet_dir": {"type": "path", "default": "/var/lib/kubelet"},
        "link": {"type": "path", "default": "/usr/local/bin/k3s"},
    }
}


@dataclass(frozen=True, slots=True)
class Mount:
    """Something that is mounted.

    Attributes:
        path: where.
        root: what of its file system is there.
        on_itself: whether it shows no more than what it is mounted on, as kubelet's own folder.
    """

    path: str
    root: str
    on_itself: bool = False


@dataclass(frozen=True, slots=True)
class Places:
    """Where K3s was told to be on this node."""

    bin_dir: str
    cgroup: str
    data_dir: str
    kubelet_dir: str
    link: str

    @property
    def folders(self) -> tuple[str, ...]:
        """Its own folders; each may be a link to another, or a disk of its own."""
        return tuple(dict.fromkeys((self.data_dir, self.kubelet_dir, *_FOLDERS)))

    def holds(self, mount: Mount) -> bool:
        """Return whether something is mounted in what goes with K3s, or stands in for a setting."""
        path = mount.path
        folders = {*self.folders, *map(os.path.realpath, self.folders)}
        return (
            any(path.startswith(f"{each}/") for each in folders)
            or (path in folders and mount.on_itself)
            or path.startswith(_NAMESPACES)
            or (path.startswith(_SETTINGS) and f"/{_STANDING_IN}" in mount.root)
        )


@dataclass(frozen=True, slots=True)
class Step:
    """Something of K3s that is there, and what takes it away."""

    what: str
    act: Callable[[], None]


def remove(options: Mapping[str, Any], *, dry_run: bool = False) -> dict[str, object]:
    """Do what the module k3s_reset was told, and return its report.

    Raises:
        DisturbanceError: in one line, with what would not go.
    """
    places = _found({key: str(options[key]) for key in RESET["argument_spec"]})
    done: list[str] = []
    # Each kind is looked for when those before it are gone: a mount may be held by a process.
    for find in (_processes, _groups, _mounts, _namespaces, _links, _rules, _files, _hollow):
        for step in find(places):
            if not dry_run:
                _take(step)
            done.append(step.what)
    return {"changed": bool(done), "actions": done}


def _found(told: Mapping[str, str]) -> Places:
    """Return where K3s is on this node; what its settings and its link do not say was told."""
    link = Path(told["link"])
    program = link.parent / _target(link)
    return Places(
        bin_dir=str(program.parent) if program.name.startswith("k3s-v") else told["bin_dir"],
        cgroup=told["cgroup"],
        data_dir=k3ssettings.data_dir() or told["data_dir"],
        kubelet_dir=k3ssettings.kubelet_dir() or told["kubelet_dir"],
        link=told["link"],
    )


def _target(path: Path) -> str:
    return str(path.readlink()) if path.is_symlink() else ""


def _take(step: Step) -> None:
    try:
        step.act()
    except (OSError, subprocess.SubprocessError) as error:
        raise DisturbanceError(f"{step.what}: {error}") from error


def _processes(places: Places) -> Iterator[Step]:
    found = family(_table(), places, _is_here)
    if found:
        names = sorted({name for _, name in found.items()})
        yield Step(f"end {len(found)} processes ({', '.join(names)})", lambda: _end(places))


def _table() -> dict[int, tuple[int, str, str]]:
    """Return each process's parent, name and command line."""
    table = {}
    for folder in _PROC.glob("[0-9]*"):
        with suppress(OSError, IndexError, ValueError):
            name, _, rest = (folder / "stat").read_text().partition("(")[2].rpartition(")")
            line = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            table[int(folder.name)] = (int(rest.split()[1]), name, line)
    return table


def _is_here(pid: int) -> bool:
    """Whether a process is in our network: nodes of one machine see each other's processes."""
    try:
        return (_PROC / str(pid) / "ns" / "net").readlink() == (_PROC / "self/ns/net").readlink()
    except OSError:
        return False


def family(
    table: Mapping[int, tuple[int, str, str]],
    places: Places,
    is_here: Callable[[int], bool] = lambda _: True,
) -> dict[int, str]:
    """Return the processes of K3s by id, each with its name: its own, shims, and all below them.

    Args:
        table: parent, name and command line of each process.
        places: where K3s is.
        is_here: whether a process is this node's; those below one of K3s's need not be.
    """
    marks = (f"{places.data_dir}/", f"{places.bin_dir}/k3s-", "/run/k3s/")
    roots = {
        pid
        for pid, (_, name, line) in table.items()
        if line.split(" ")[0] in (places.link, "k3s")
        or name in ("k3s-server", "k3s-agent")
        or any(mark in line.split(" -- ")[0] for mark in marks)
    }
    roots = {pid for pid in roots if is_here(pid)} - _ancestors(table, os.getpid())
    found: dict[int, str] = {}
    while roots:
        found |= {pid: table[pid][1] for pid in roots}
        roots = {pid for pid, (parent, _, _) in table.items() if parent in roots} - found.keys()
    return found


def _ancestors(table: Mapping[int, tuple[int, str, str]], pid: int) -> set[int]:
    found = set()
    while pid in table and pid not in found:
        found.add(pid)
        pid = table[pid][0]
    return found


def _end(places: Places) -> None:
    deadline = time.monotonic() + _PATIENCE
    while left := family(_table(), places, _is_here):
        if time.monotonic() > deadline:
            raise DisturbanceError(f"processes {sorted(left)[:5]} of K3s do not end")
        for pid in left:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.05)


def _groups(places: Places) -> Iterator[Step]:
    """Find the control groups of pods that have no processes; another kubelet's have some."""
    if not services.RUNTIME.is_dir():
        pods = group(f"{places.cgroup}/{podgroups.TOP}".lstrip("/"))
        if any(each.is_dir() for each in pods.everywhere()) and not _has_processes(pods):
            yield Step(f"remove the control group {pods.path}", pods.remove)
        return
    listed = services.systemctl("list-units", "--plain", "--no-legend", "--type=slice")
    for name in (line.split(" ")[0] for line in listed.splitlines()):
        if _SLICES.fullmatch(name) and not _has_processes(group(services.control_group(name))):
            yield Step(f"stop {name}", lambda name=name: _stop(name))  # type: ignore[misc]


def _has_processes(pods: Group) -> bool:
    return any(each.processes() for each in pods.descend())


def _stop(name: str) -> None:
    services.systemctl("stop", "--", name)


def _mounts(places: Places) -> Iterator[Step]:
    for path in [each.path for each in reversed(_mounted()) if places.holds(each)]:
        yield Step(f"unmount {path}", lambda path=path: _unmount(path))  # type: ignore[misc]


def _mounted() -> list[Mount]:
    """Return what is mounted, in the order in which that was done."""
    lines = (_PROC / "self" / "mountinfo").read_text().splitlines()
    fields = [[mounting.plain(word) for word in line.split(" ")] for line in lines]
    known = {each[0]: each for each in fields}
    return [Mount(each[4], each[3], _is_on_itself(each, known.get(each[1]))) for each in fields]


def _is_on_itself(mount: Sequence[str], below: Sequence[str] | None) -> bool:
    """Return whether a mount shows the very folder of the one below that it hides."""
    if below is None or mount[2] != below[2]:
        return False
    hidden = os.path.join(below[3], os.path.relpath(mount[4], below[4]))  # noqa: PTH118
    return os.path.normpath(hidden) == mount[3]


def _unmount(path: str) -> None:
    syscalls.unmount(path, syscalls.MNT_DETACH)


def _namespaces(_: Places) -> Iterator[Step]:
    for path in sorted(Path(_NAMESPACES).parent.glob(f"{Path(_NAMESPACES).name}*")):
        yield Step(f"remove {path}", path.unlink)


def _links(_: Places) -> Iterator[Step]:
    with Socket(NETLINK_ROUTE) as route:
        found = rtnl.link_indexes(route)
    for name in sorted(found):
        if _LINKS.fullmatch(name):
            yield Step(f"remove the link {name}", lambda name=name: _unlink(name))  # type: ignore[misc]


def _unlink(name: str) -> None:
    with Socket(NETLINK_ROUTE) as route:
        # One of a pair goes with the other, and those of a bridge's ports stay.
        if (index := rtnl.link_indexes(route).get(name)) is not None:
            route.request([rtnl.delete_link(index)])


def _rules(places: Places) -> Iterator[Step]:
    for tool in _TABLES:
        save = _tool(f"{tool}-save", places)
        if save is None:
            continue
        rules = subprocess.run([save], capture_output=True, text=True, check=False).stdout
        kept = without_rules(rules)
        if kept != rules:
            restore = _tool(f"{tool}-restore", places) or f"{tool}-restore"
            yield Step(
                f"remove {len(rules.splitlines()) - len(kept.splitlines())} rules of {tool}",
                lambda restore=restore, kept=kept: _restore(restore, kept),  # type: ignore[misc]
            )


def without_rules(rules: str) -> str:
    """Return what iptables-save printed, without any line of Kubernetes's or flannel's."""
    return "".join(line for line in rules.splitlines(keepends=True) if not _RULES.search(line))


def _restore(tool: str, rules: str) -> None:
    subprocess.run([tool], input=rules, capture_output=True, text=True, check=True)


def _tool(name: str, places: Places) -> str | None:
    """Return the path of one of iptables' programs: the machine's, else the one that K3s brings."""
    own = Path(places.data_dir, "data", "current", "bin", "aux", name)
    return shutil.which(name) or (str(own) if own.exists() else None)


def _files(places: Places) -> Iterator[Step]:
    disks = _disks(places)
    for folder in map(Path, places.folders):
        stays = folder.is_dir() and (folder.is_symlink() or str(folder) in disks)
        for path in _content(folder) if stays else [folder]:
            if os.path.lexists(path):
                yield Step(f"remove {path}", lambda path=path: _clear(path))  # type: ignore[misc]
    for path in _programs(places):
        yield Step(f"remove {path}", path.unlink)


def _disks(places: Places) -> set[str]:
    """Return where somebody has mounted something that stays."""
    return {each.path for each in _mounted() if not places.holds(each)}


def _content(folder: Path) -> list[Path]:
    """Return what is in a folder that is a disk, or a link."""
    return sorted(each for each in folder.iterdir() if each.name != "lost+found")


def _programs(places: Places) -> Iterable[Path]:
    """Return the links to K3s, and what the bundle put where programs are."""
    folder = Path(places.bin_dir)
    yield from sorted(folder.glob("k3s-v*"))
    yield from sorted(folder.glob(".k3s-bundle*"))
    links = [Path(places.link).with_name(name) for name in _LINKED]
    yield from (path for path in links if Path(_target(path)).name.startswith("k3s"))


def _hollow(places: Places) -> Iterator[Step]:
    """Yield the empty folders that were made for what was removed."""
    disks = _disks(places)
    own = [Path(places.bin_dir), *map(Path, places.folders)]
    above = [own[0], *(each.parent for each in own), _PLUGINS, *_PLUGINS.parents]
    for folder in above:
        made = _ABOVE.fullmatch(str(folder)) and str(folder) not in disks
        if made and folder.is_dir() and not any(folder.iterdir()):
            yield Step(f"remove {folder}", folder.rmdir)


def _clear(folder: Path) -> None:
    """Remove a file, or a folder unless something is still mounted in it."""
    place = Path(os.path.realpath(folder.parent), folder.name)
    if mounted := sorted(each.path for each in _mounted() if each.path.startswith(f"{place}/")):
        raise OSError(f"{mounted[0]} is still mounted")
    if folder.is_symlink() or not folder.is_dir():
        folder.unlink()
    else:
        shutil.rmtree(folder)
