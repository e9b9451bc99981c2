# SPDX-License-Identifier: GPL-3.0-or-later
"""What a node holds in memory and loses when it is switched off.

That is what its own temporary file systems hold; the mounts, network links, nftables tables and
pinned namespaces that services have made on it (those of containers, for example); and the control
groups that they have made below its own. What it wrote elsewhere stands for its system disk and
stays; so does its folder /run/pkgctl, which is the testbed's and not the node's.
"""

from __future__ import annotations

import errno
import json
import os
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from . import identity, mounting, nftables, rtnl, supervision, syscalls
from .cgroups import Group, group
from .errors import CapabilityError, KernelError
from .identity import Identity
from .netlink import NETLINK_NETFILTER, NETLINK_ROUTE, Socket

FOLDERS = ("/tmp", "/run", "/dev/shm")
_MOUNTS = Path("/proc/self/mounts")
# The root of a local node is an overlay whose upper part was put together here.
_SCRATCH = "upperdir=/run/pkgctl/"
# In a node's folder: how many mounts each place had when the node was made.
MOUNTS = "mounts.json"
_INFO = Path("/proc/thread-self/mountinfo")
# The kernel makes these by itself in every network, and lets nobody delete them.
_KERNELS_OWN = frozenset(
    {
        *("lo", "tunl0", "sit0", "ip6tnl0", "gre0", "gretap0", "erspan0", "ip6gre0"),
        *("ip_vti0", "ip6_vti0", "teql0"),
    }
)
_TABLES = frozenset({nftables.SHAPING, nftables.DELAYING})
# What is below a node's control group by our own doing.
_GROUPS = ("session", "job-", "stress-")
_GONE = frozenset({errno.ENOENT, errno.EINVAL, errno.ENODEV})


def check_apart() -> None:
    """Refuse a caller that sees the machine's own files, which no node may lose.

    Raises:
        CapabilityError: if so.
    """
    if not _is_local_node(_MOUNTS.read_text()):
        raise CapabilityError(
            "this node is a machine of its own: whoever made it has to pause, stop or crash it"
        )


def _is_local_node(mounts: str) -> bool:
    roots = [line.split(" ") for line in mounts.splitlines() if line.split(" ")[1] == "/"]
    return bool(roots) and any(option.startswith(_SCRATCH) for option in roots[-1][3].split(","))


def note_mounts() -> None:
    """Note what is mounted on the node that the caller is in, and was just made."""
    found = Counter(_places(_INFO.read_text()))
    Path(identity.DIRECTORY, MOUNTS).write_text(json.dumps(found))


def held(node: Identity) -> list[str]:
    """Return what holds anything that the node would lose, in whose namespaces the caller is."""
    return [
        *(f"mount {place}" for place in _mounts(node)),
        *(f"link {name}" for name in _links(node)),
        *(f"table {name}" for _, name in _tables()),
        *(f"control group {each.path}" for each in _groups(node)),
        *(folder for folder in FOLDERS if any(leftovers(Path(folder)))),
    ]


def lose(node: Identity) -> None:
    """Empty the memory of the node in whose namespaces the caller is; no process of it runs.

    Raises:
        CapabilityError: if the caller is in no mount namespace of a node's.
        KernelError: if something does not go.
    """
    check_apart()
    for place in _mounts(node):
        _unless_gone(lambda place=place: syscalls.unmount(place, syscalls.MNT_DETACH))  # type: ignore[misc]
    # Namespaces that were pinned are let go of by then, and with them their ends of cables.
    for index in _links(node).values():
        _unless_gone(lambda index=index: _delete_link(index))  # type: ignore[misc]
    _delete_tables()
    for each in _groups(node):
        each.remove()
    for folder in FOLDERS:
        for left in list(leftovers(Path(folder))):
            _remove(left)


def _unless_gone(act: Callable[[], None]) -> None:
    """Do away with something that may go by itself meanwhile."""
    try:
        act()
    except KernelError as error:
        if error.errno not in _GONE:
            raise


def _mounts(node: Identity) -> list[str]:
    """Return the mounts that are not the node's own, the last one first."""
    try:
        noted: Mapping[str, int] = json.loads(Path(node.directory, MOUNTS).read_text())
    except (OSError, ValueError):
        return []  # Nobody knows which are.
    return foreign_mounts(_INFO.read_text(), noted, {disk.mount for disk in node.disks.values()})


def foreign_mounts(
    mountinfo: str, noted: Mapping[str, int], spared: Collection[str] = ()
) -> list[str]:
    """Return the places of mounts that came after some were noted, the last one first.

    Args:
        mountinfo: the text of /proc/self/mountinfo.
        noted: how many mounts each place had.
        spared: places whose mounts are somebody else's to mind.
    """
    left, found = Counter(noted), []
    for place in _places(mountinfo):
        if left[place] > 0:
            left[place] -= 1
        elif place not in spared:
            found.append(place)
    return found[::-1]


def _places(mountinfo: str) -> Iterator[str]:
    for line in mountinfo.splitlines():
        yield mounting.plain(line.split(" ")[4])


def _links(node: Identity) -> dict[str, int]:
    """Return the network links that are not the node's own, by name."""
    with Socket(NETLINK_ROUTE) as route:
        found = rtnl.link_indexes(route)
    return {name: found[name] for name in found.keys() - _KERNELS_OWN - {node.interface}}


def _delete_link(index: int) -> None:
    with Socket(NETLINK_ROUTE) as route:
        route.request([rtnl.delete_link(index)])


def _tables() -> list[tuple[int, str]]:
    """Return the nftables tables that are not ours, by their family and name."""
    with Socket(NETLINK_NETFILTER) as tables:
        return [each for each in nftables.names(tables) if each[1] not in _TABLES]


def _delete_tables() -> None:
    found = _tables()
    with Socket(NETLINK_NETFILTER) as tables:
        for family, name in found:
            _unless_gone(
                lambda family=family, name=name: nftables.send(  # type: ignore[misc]
                    tables, [nftables.delete_table(name, family)]
                )
            )


def _groups(node: Identity) -> list[Group]:
    """Return the control groups that services have made: their own, and those in the node's."""
    system = group(supervision.system_of(node))
    below = group(node.cgroup).children()
    foreign = [each for each in below if not Path(each.path).name.startswith(_GROUPS)]
    return foreign + [system] * system.exists()


def leftovers(folder: Path) -> Iterator[Path]:
    """Yield all below a folder that is its own, the deepest first.

    Not yielded is what is mounted there and below, and what leads to it.
    """
    if folder.is_dir():
        yield from _below(folder, folder.lstat().st_dev, _mounted(_MOUNTS.read_text()))


def _below(folder: Path, device: int, mounted: frozenset[str]) -> Iterator[Path]:
    with os.scandir(folder) as entries:
        found = [Path(entry.path) for entry in entries]
    for place in found:
        if str(place) in mounted or place.lstat().st_dev != device:
            continue
        if place.is_dir() and not place.is_symlink():
            yield from _below(place, device, mounted)
        if not any(each.startswith(f"{place}/") for each in mounted):
            yield place


def _mounted(mounts: str) -> frozenset[str]:
    places = (line.split(" ")[1] for line in mounts.splitlines())
    return frozenset(place.replace("\\040", " ") for place in places)


def _remove(place: Path) -> None:
    with suppress(FileNotFoundError):
        if place.is_dir() and not place.is_symlink():
            place.rmdir()
        else:
            place.unlink()
