# SPDX-License-Identifier: GPL-3.0-or-later
"""What the kernel can do, found out by doing it where nothing can be disturbed.

Each probe runs in a child of its own, in fresh namespaces that end with it, so it leaves nothing
behind and no running testbed notices. A probe returns a short detail, or raises what went wrong.
"""

from __future__ import annotations

import fcntl
import json
import os
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path

from pkgctl.nodeside import delayline, hierarchies, netlink, nftables, rtnl, syscalls
from pkgctl.nodeside import errors as node_errors

Probe = Callable[[], str]

_NAMESPACES = (
    syscalls.CLONE_NEWNET | syscalls.CLONE_NEWNS | syscalls.CLONE_NEWUTS | syscalls.CLONE_NEWIPC
)
_LOOPBACK = 1  # the index of lo in a new network namespace
_HANDLE = 1 << 16
_LOOP_CTL_REMOVE = 0x4C81
_SCRATCH = "/tmp"


class ProbeError(Exception):
    """A probe found that something does not work here; the text says how."""


def attempt(probe: Probe) -> str:
    """Run a probe in a child with namespaces of its own and return its detail.

    Raises:
        ProbeError: with the words of what went wrong.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        _answer(probe, writing)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        answer = pipe.read()
    os.waitpid(child, 0)
    if not answer:
        raise ProbeError("the probe ended without an answer")
    works, words = json.loads(answer)
    if not works:
        raise ProbeError(words)
    return str(words)


def _answer(probe: Probe, writing: int) -> None:
    """Run the probe, write its answer and end this child."""
    try:
        syscalls.unshare(_NAMESPACES)
        syscalls.mount(None, "/", None, syscalls.MS_REC | syscalls.MS_PRIVATE)
        answer = (True, probe())
    except (node_errors.DisturbanceError, ProbeError, OSError) as error:
        answer = (False, str(error))
    except Exception as error:  # a mistake of ours; it must not go on in a second process
        answer = (False, f"{type(error).__name__}: {error}")
    os.write(writing, json.dumps(answer).encode())
    os._exit(0)


def namespaces() -> str:
    """Make one of each kind; the child has done it when this is called."""
    return "network, mount, UTS and IPC"


def shaping() -> str:
    """Put an HTB class with a queue on a link."""
    with netlink.Socket(netlink.NETLINK_ROUTE) as route:
        rates = rtnl.Rates(rate=625_000, ceil=625_000)
        leaf = _HANDLE | 1
        route.request(
            [
                rtnl.htb(_LOOPBACK, _HANDLE, 0),
                rtnl.htb_class(_LOOPBACK, _HANDLE, leaf, rates),
                rtnl.leaf(_LOOPBACK, leaf, 2 << 16, rtnl.Queue(limit=64 << 10, bucket=16 << 10)),
            ]
        )
    return "HTB classes with a queue each"


def links() -> str:
    """Make a veth pair."""
    near = rtnl.End("probe0", bytes.fromhex("020000000001"))  # locally administered addresses
    far = rtnl.End("probe1", bytes.fromhex("020000000002"))
    with netlink.Socket(netlink.NETLINK_ROUTE) as route:
        route.request([rtnl.veth(near, far, mtu=1500)])
    return "veth pairs"


def netem() -> str:
    """Put a netem on a link; it needs no more than its limit."""
    message = netlink.Message(
        rtnl.RTM_NEWQDISC,
        netlink.NLM_F_CREATE | netlink.NLM_F_EXCL,
        struct.pack("=BxxxiIII", 0, _LOOPBACK, _HANDLE, rtnl.ROOT, 0)
        + netlink.text(rtnl.TCA_KIND, "netem")
        + netlink.attribute(rtnl.TCA_OPTIONS, struct.pack("=6I", 0, 0, 1000, 0, 0, 0)),
        "put netem on the link",
    )
    with netlink.Socket(netlink.NETLINK_ROUTE) as route:
        try:
            route.request([message])
        except node_errors.KernelError as error:
            raise ProbeError("not needed: the delay line takes its place") from error
    return "there, and not needed: the delay line takes its place"


def packet_rules() -> str:
    """Make the table that classifies a node's packets."""
    with netlink.Socket(netlink.NETLINK_NETFILTER) as packets:
        nftables.send(packets, nftables.shaping_table())
    return "nftables with maps"


def packet_queue() -> str:
    """Bind to a packet queue, and make the rules that fill it."""
    delayline.Switch()
    return "NFQUEUE on ingress"


def overlay() -> str:
    """Lay a writable layer over the root folder."""
    syscalls.mount("tmpfs", _SCRATCH, "tmpfs")
    for part in ("upper", "work", "view"):
        Path(_SCRATCH, part).mkdir()
    options = f"lowerdir=/,upperdir={_SCRATCH}/upper,workdir={_SCRATCH}/work"
    syscalls.mount("overlay", f"{_SCRATCH}/view", "overlay", 0, options)
    Path(_SCRATCH, "view", "probe").touch()
    return "over the root folder"


def disk(mke2fs: str) -> str:
    """Make a small ext4 in a file and mount it through a loop device."""
    syscalls.mount("tmpfs", _SCRATCH, "tmpfs")
    image, place = Path(_SCRATCH, "image"), Path(_SCRATCH, "place")
    place.mkdir()
    with image.open("wb") as file:
        file.truncate(2**20)
    made = subprocess.run([mke2fs, "-q", "-F", "-t", "ext4", image], capture_output=True, text=True)
    if made.returncode:
        raise ProbeError(f"mke2fs: {made.stderr.strip().splitlines()[-1:]}")
    before = set(Path("/dev").glob("loop[0-9]*"))
    device, opened = syscalls.attach_loop(str(image))
    try:
        syscalls.mount(device, str(place), "ext4")
        syscalls.unmount(str(place))
    finally:
        os.close(opened)
        _forget(set(Path("/dev").glob("loop[0-9]*")) - before)
    return "ext4 on loop devices"


def _forget(fresh: set[Path]) -> None:
    """Remove loop devices that were made because no free one was there."""
    control = os.open("/dev/loop-control", os.O_RDWR | os.O_CLOEXEC)
    for device in fresh:
        try:
            fcntl.ioctl(control, _LOOP_CTL_REMOVE, int(device.name.removeprefix("loop")))
        except OSError:
            continue  # somebody has it by now, and so it is not ours to remove
        device.unlink(missing_ok=True)
    os.close(control)


def control_groups() -> str:
    """Make a group in each hierarchy and remove it."""
    machine = hierarchies.here()
    lacking = [name for name in hierarchies.NEEDED if not machine.has(name)]
    if lacking:
        raise ProbeError(f"cgroup {machine.world} without {', '.join(lacking)}")
    for root in machine.roots():
        group = root / f"pkgctl-doctor-{os.getpid()}"
        group.mkdir()
        group.rmdir()
    names = [name for name in hierarchies.USED if machine.has(name)]
    return f"{machine.world}: {', '.join(names)}"
