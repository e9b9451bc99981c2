# SPDX-License-Identifier: GPL-3.0-or-later
"""Being in a node's namespaces for a moment, from the outside."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from . import syscalls
from .identity import Identity

# The mount namespace comes last, for it hides the pins of the others.
KINDS = {
    "net": syscalls.CLONE_NEWNET,
    "uts": syscalls.CLONE_NEWUTS,
    "ipc": syscalls.CLONE_NEWIPC,
    "mnt": syscalls.CLONE_NEWNS,
}
_NEEDED = ("net", "mnt")


@contextmanager
def returning(*kinds: str) -> Iterator[None]:
    """Come back to the namespaces and the folder of now when the block ends.

    Args:
        kinds: which namespaces; all four if none is named.
    """
    # A mount namespace can be entered only by a thread that shares its folders with no other.
    syscalls.unshare(syscalls.CLONE_FS)
    held = {
        kind: os.open(f"/proc/thread-self/ns/{kind}", os.O_RDONLY | os.O_CLOEXEC)
        for kind in kinds or KINDS
    }
    folder = os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield
    finally:
        for kind, descriptor in held.items():
            syscalls.setns(descriptor, KINDS[kind])
            os.close(descriptor)
        os.fchdir(folder)
        os.close(folder)


def current(*kinds: str) -> dict[str, int]:
    """Return an open descriptor of each of the caller's namespaces."""
    return {
        kind: os.open(f"/proc/thread-self/ns/{kind}", os.O_RDONLY | os.O_CLOEXEC) for kind in kinds
    }


def pin(kinds: Mapping[str, int], place: Path) -> None:
    """Bind each namespace, by its open descriptor, to a file in place, and close the descriptor."""
    place.mkdir()
    for kind, descriptor in kinds.items():
        target = place / kind
        target.touch()
        syscalls.mount(f"/proc/self/fd/{descriptor}", str(target), None, syscalls.MS_BIND)
        os.close(descriptor)


def enter(pins: Path, *kinds: str) -> None:
    """Enter the namespaces that are pinned in a folder.

    Raises:
        OSError: if one is not there; then none was entered.
    """
    with ExitStack() as opened:
        held = {}
        for kind in (each for each in KINDS if each in kinds):
            held[kind] = os.open(pins / kind, os.O_RDONLY | os.O_CLOEXEC)
            opened.callback(os.close, held[kind])
        for kind, descriptor in held.items():
            syscalls.setns(descriptor, KINDS[kind])


@contextmanager
def in_network(pin: Path) -> Iterator[None]:
    """Be in a pinned network namespace while the block runs; a socket made there stays there.

    Raises:
        OSError: if there is none.
    """
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        there = os.open(pin, os.O_RDONLY | os.O_CLOEXEC)
        try:
            syscalls.setns(there, syscalls.CLONE_NEWNET)
        finally:
            os.close(there)
        try:
            yield
        finally:
            syscalls.setns(home, syscalls.CLONE_NEWNET)
    finally:
        os.close(home)


@contextmanager
def inside(directory: Path, node: Identity) -> Iterator[None]:
    """Be in a node's network and mount namespaces while the block runs.

    Args:
        directory: the testbed's folder, below which namespaces are pinned.
        node: the node.
    """
    with returning(*_NEEDED):
        enter(directory / "ns" / node.name, *_NEEDED)
        yield
