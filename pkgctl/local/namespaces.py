# SPDX-License-Identifier: GPL-3.0-or-later
"""Making, pinning and entering a node's namespaces.

A namespace lives as long as a file that is bound to it, with no process in it. All pins of a
testbed are under one mount, so letting go of that lets go of every node, whoever was killed before.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from pkgctl.nodeside import jobs, namespaces, netlink, syscalls

KINDS = namespaces.KINDS
host = namespaces.returning
enter = namespaces.enter
pin = namespaces.pin
current = namespaces.current
# The root of a node is an overlay on the machine's own: what the node writes is kept here.
_WRITABLE = "size=512m,mode=755"
_OWN_FOLDERS = {"/run": "size=64m,mode=755", "/tmp": "size=256m,mode=1777"}
# A name has addresses of both families; whoever asks for neither gets the one to measure with.
_IPV4_FIRST = "precedence ::ffff:0:0/96 100\n"
_SHARED_TREES = ("/proc", "/dev")
_NOT_CARRIED = ("/proc", "/sys", "/dev", "/run", "/tmp")


@dataclass(frozen=True, slots=True)
class Root:
    """What a node's view of the file system is made of.

    Attributes:
        scratch: an empty folder of the machine on which the view is put together.
        pins: the mount of the pinned namespaces, which no node may keep alive.
        folder: the node's own folder, seen as /run/pkgctl.
        agent: the folder of the agent's sockets, seen as /run/pkgctl/agent.
        disks: the folder of its disk images, seen as /run/pkgctl/disks; None if it has none.
        hosts: the file that is its /etc/hosts.
        carried: mounts of the machine that the node sees, read-only.
        needed: folders that the node sees, read-only, though they lie where it has its own.
    """

    scratch: Path
    pins: Path
    folder: Path
    agent: Path
    disks: Path | None
    hosts: Path
    carried: tuple[str, ...]
    needed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Sockets:
    """Netlink sockets that stay in a node's network, wherever their owner goes."""

    route: netlink.Socket
    filter: netlink.Socket

    def close(self) -> None:
        """Close both."""
        self.route.close()
        self.filter.close()


def new_network() -> Sockets:
    """Leave the caller's namespaces for new ones; return netlink sockets of the new network."""
    flags = 0
    for flag in KINDS.values():
        flags |= flag
    syscalls.unshare(flags)
    return Sockets(netlink.Socket(netlink.NETLINK_ROUTE), netlink.Socket(netlink.NETLINK_NETFILTER))


def carried_mounts(mounts: str) -> tuple[str, ...]:
    """Return the machine's mounts that a node needs beside its root, given /proc/self/mounts."""
    places = (line.split(" ")[1] for line in mounts.splitlines())
    return tuple(
        place
        for place in dict.fromkeys(places)
        if place != "/" and not any(f"{place}/".startswith(f"{tree}/") for tree in _NOT_CARRIED)
    )


def hidden_folders(places: Iterable[Path]) -> tuple[str, ...]:
    """Return those folders that a node's own /run or /tmp would hide, the outermost only."""
    hidden = {place for place in places if any(place.is_relative_to(own) for own in _OWN_FOLDERS)}
    return tuple(sorted(str(place) for place in hidden if not hidden & set(place.parents)))


def make_root(root: Root, name: str) -> None:
    """Give the caller's fresh namespaces a node's name and view of the file system."""
    syscalls.set_hostname(name)
    syscalls.mount(None, "/", None, syscalls.MS_REC | syscalls.MS_PRIVATE)
    syscalls.unmount(str(root.pins), syscalls.MNT_DETACH)
    view = _overlay(root.scratch)
    for tree in _SHARED_TREES:
        syscalls.mount(tree, f"{view}{tree}", None, syscalls.MS_BIND | syscalls.MS_REC)
    syscalls.mount("sysfs", f"{view}/sys", "sysfs")
    groups = "/sys/fs/cgroup"
    syscalls.mount(groups, f"{view}{groups}", None, syscalls.MS_BIND | syscalls.MS_REC)
    syscalls.mount("tmpfs", f"{view}/dev/shm", "tmpfs", 0, "mode=1777")
    for place in root.carried:
        _carry(place, f"{view}{place}")
    for folder, options in _OWN_FOLDERS.items():
        syscalls.mount(
            "tmpfs", f"{view}{folder}", "tmpfs", syscalls.MS_NOSUID | syscalls.MS_NODEV, options
        )
    for place in root.needed:
        Path(f"{view}{place}").mkdir(parents=True, exist_ok=True)
        _carry(place, f"{view}{place}")
    _own_places(root, view)
    os.chdir(view)
    syscalls.pivot_root_here()
    Path("/etc/hostname").write_text(f"{name}\n")
    Path("/etc/gai.conf").write_text(_IPV4_FIRST)
    Path(jobs.ARTIFACTS).mkdir(parents=True, exist_ok=True)


def _overlay(scratch: Path) -> str:
    syscalls.mount("tmpfs", str(scratch), "tmpfs", 0, _WRITABLE)
    for part in ("upper", "work", "view"):
        (scratch / part).mkdir()
    options = f"lowerdir=/,upperdir={scratch}/upper,workdir={scratch}/work"
    syscalls.mount("overlay", f"{scratch}/view", "overlay", 0, options)
    return f"{scratch}/view"


def _carry(place: str, target: str) -> None:
    if not Path(target).exists():
        return
    syscalls.mount(place, target, None, syscalls.MS_BIND)
    syscalls.mount(None, target, None, syscalls.MS_BIND | syscalls.MS_REMOUNT | syscalls.MS_RDONLY)


def _own_places(root: Root, view: str) -> None:
    own = f"{view}/run/pkgctl"
    Path(own).mkdir()
    syscalls.mount(str(root.folder), own, None, syscalls.MS_BIND)
    syscalls.mount(str(root.agent), f"{own}/agent", None, syscalls.MS_BIND)
    if root.disks is not None:
        syscalls.mount(str(root.disks), f"{own}/disks", None, syscalls.MS_BIND)
    hosts = Path(view, "etc", "hosts")
    if not hosts.exists():
        hosts.touch()
    syscalls.mount(str(root.hosts), str(hosts), None, syscalls.MS_BIND)
