# SPDX-License-Identifier: GPL-3.0-or-later
"""The system calls that Python does not wrap: mounts, namespaces, loop devices.

Each function is one call (or one short ritual of calls) and raises KernelError in words.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import signal
import struct
import time
from pathlib import Path

from .errors import CapabilityError, KernelError

CLONE_FS = 0x00000200
CLONE_NEWNS = 0x00020000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWNET = 0x40000000

MS_RDONLY = 1
MS_NOSUID = 2
MS_NODEV = 4
MS_REMOUNT = 32
MS_BIND = 4096
MS_REC = 16384
MS_PRIVATE = 1 << 18
MNT_DETACH = 2
MNT_EXPIRE = 4

LOOP_CTL_GET_FREE = 0x4C82
LOOP_CONFIGURE = 0x4C0A
LOOP_SET_STATUS64 = 0x4C04
LOOP_GET_STATUS64 = 0x4C05
LO_FLAGS_AUTOCLEAR = 4
_LOOP_INFO = 232
_LOOP_LIMIT = 32
_SECTOR = 512

# The same for ext4, xfs and others: EXT4_IOC_SHUTDOWN is XFS_IOC_GOINGDOWN.
FS_IOC_SHUTDOWN = 0x8004587D

_PR_SET_PDEATHSIG = 1
# The same number on every architecture.
_PIDFD_GETFD = 438

_libc = ctypes.CDLL(None, use_errno=True)


def _check(result: int, what: str) -> None:
    if result != 0:
        raise KernelError(what, ctypes.get_errno())


def mount(
    source: str | None, target: str, fstype: str | None = None, flags: int = 0, data: str = ""
) -> None:
    """Make a mount, a bind or a remount; the arguments are those of the system call."""
    result = _libc.mount(
        source.encode() if source else None,
        target.encode(),
        fstype.encode() if fstype else None,
        ctypes.c_ulong(flags),
        data.encode() if data else None,
    )
    _check(result, f"mount {fstype or source or ''} on {target}".replace("  ", " "))


def unmount(target: str, flags: int = 0) -> None:
    """Unmount target; flags are 0, MNT_DETACH or MNT_EXPIRE."""
    _check(_libc.umount2(target.encode(), flags), f"unmount {target}")


def unshare(flags: int) -> None:
    """Leave the caller's namespaces for new ones."""
    _check(_libc.unshare(flags), "make namespaces")


def setns(fd: int, kind: int) -> None:
    """Enter the namespace that fd refers to."""
    _check(_libc.setns(fd, kind), "enter a namespace")


def pivot_root_here() -> None:
    """Make the current folder the root of this mount namespace and let the old root go."""
    _check(_libc.pivot_root(b".", b"."), "change the root folder")
    unmount(".", MNT_DETACH)


def set_hostname(name: str) -> None:
    """Set the hostname of the caller's UTS namespace."""
    _check(_libc.sethostname(name.encode(), len(name.encode())), f"set the hostname to {name}")


def attach_loop(image: str) -> tuple[str, int]:
    """Attach image to a free loop device that frees itself after its last user.

    Returns:
        The device's path, and an open descriptor that keeps it attached until it is mounted.

    Raises:
        CapabilityError: if this machine has no loop devices.
        KernelError: if the image cannot be attached.
    """
    try:
        control = os.open("/dev/loop-control", os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        raise CapabilityError(
            f"no loop devices here (/dev/loop-control: {error.strerror})"
        ) from error
    backing = os.open(image, os.O_RDWR | os.O_CLOEXEC)
    try:
        for _ in range(64):
            number = fcntl.ioctl(control, LOOP_CTL_GET_FREE)
            device = _loop_node(number)
            if (opened := _configure_loop(device, backing)) is not None:
                return device, opened
        raise KernelError(
            f"attach {image}", errno.EBUSY, "other programs keep taking the loop devices"
        )
    finally:
        os.close(backing)
        os.close(control)


def _loop_node(number: int) -> str:
    """Return the path of loop device number, making the file where no udev does."""
    device = f"/dev/loop{number}"
    if not Path(device).exists():
        os.mknod(device, 0o660 | 0o060000, os.makedev(7, number))
    return device


def _configure_loop(device: str, backing: int) -> int | None:
    """Return an open descriptor of device with backing attached; None if another was faster."""
    # struct loop_config: fd, block_size, then struct loop_info64 with lo_flags at byte 52 of it
    config = bytearray(304)
    struct.pack_into("II", config, 0, backing, 0)
    struct.pack_into("I", config, 8 + 52, LO_FLAGS_AUTOCLEAR)
    opened = os.open(device, os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.ioctl(opened, LOOP_CONFIGURE, bytes(config))
    except OSError as error:
        os.close(opened)
        if error.errno == errno.EBUSY:
            return None
        raise KernelError(f"attach {device}", error.errno or errno.EIO) from error
    return opened


def loop_backing(device: str) -> tuple[int, int] | None:
    """Return (device number, inode) of the file behind a loop device; None if there is none."""
    try:
        opened = os.open(device, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        return loop_behind(opened)[0]
    except OSError:
        return None
    finally:
        os.close(opened)


def loop_behind(opened: int) -> tuple[tuple[int, int], bool]:
    """Return (device number, inode) of the file behind an open loop device, and if it is cut off.

    Raises:
        OSError: if nothing is behind it.
    """
    status = fcntl.ioctl(opened, LOOP_GET_STATUS64, bytes(_LOOP_INFO))
    number, inode = struct.unpack_from("=QQ", status)
    (limit,) = struct.unpack_from("=Q", status, _LOOP_LIMIT)
    return (number, inode), limit == _SECTOR


def cut_loop(device: str) -> None:
    """Write out what a loop device has taken in, then cut it off from the file behind it.

    From then on it ends after one sector, so nothing that still holds it reads or changes the file.

    Raises:
        KernelError: if the kernel refuses.
    """
    opened = os.open(device, os.O_RDWR | os.O_CLOEXEC)
    try:
        status = bytearray(fcntl.ioctl(opened, LOOP_GET_STATUS64, bytes(_LOOP_INFO)))
        struct.pack_into("=Q", status, _LOOP_LIMIT, _SECTOR)
        fcntl.ioctl(opened, LOOP_SET_STATUS64, bytes(status))
    except OSError as error:
        raise KernelError(f"cut off {device}", error.errno or errno.EIO) from error
    finally:
        os.close(opened)


def shut_down(place: str, *, flush_log: bool = True) -> None:
    """Let a mounted file system fail at once: whoever uses it gets EIO from now on.

    Args:
        place: where it is mounted.
        flush_log: whether what the journal has in memory is written first.

    Raises:
        KernelError: if the kernel refuses, or the file system cannot.
    """
    try:
        opened = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.ioctl(opened, FS_IOC_SHUTDOWN, struct.pack("I", 1 if flush_log else 2))
        finally:
            os.close(opened)
    except OSError as error:
        raise KernelError(f"shut down {place}", error.errno or errno.EIO) from error


def die_with_parent(parent: int) -> None:
    """Let the kernel kill the caller when the process that forked it, parent, ends."""
    _check(_libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0), "bind a process to its parent")
    if os.getppid() != parent:
        os._exit(1)


def take_over(pid: int, descriptor: int) -> int:
    """Return a descriptor of what another process has open under one of its own.

    Raises:
        KernelError: if it has none there, or may not be asked.
        OSError: if there is no such process.
    """
    process = os.pidfd_open(pid)
    try:
        found = int(_libc.syscall(_PIDFD_GETFD, process, descriptor, 0))
    finally:
        os.close(process)
    _check(min(found, 0), f"take over descriptor {descriptor} of process {pid}")
    os.set_inheritable(found, False)
    return found


def monotonic() -> float:
    """Return CLOCK_MONOTONIC in seconds: one clock for every process of this machine."""
    return time.clock_gettime(time.CLOCK_MONOTONIC)
