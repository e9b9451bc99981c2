# SPDX-License-Identifier: GPL-3.0-or-later
"""Being in a node's namespaces for a moment, from the outside."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from . import syscalls
from .identity import Identity

_KINDS = {"net": syscalls.CLONE_NEWNET, "mnt": syscalls.CLONE_NEWNS}


@contextmanager
def inside(directory: Path, node: Identity) -> Iterator[None]:
    """Be in a node's network and mount namespaces while the block runs.

    Args:
        directory: the testbed's folder, below which namespaces are pinned.
        node: the node.
    """
    syscalls.unshare(syscalls.CLONE_FS)
    home = {name: os.open(f"/proc/self/ns/{name}", os.O_RDONLY | os.O_CLOEXEC) for name in _KINDS}
    pins = directory / "ns" / node.name
    there = {name: os.open(pins / name, os.O_RDONLY | os.O_CLOEXEC) for name in _KINDS}
    try:
        for name, kind in _KINDS.items():
            syscalls.setns(there[name], kind)
        yield
    finally:
        for name, kind in _KINDS.items():
            syscalls.setns(home[name], kind)
            os.close(home[name])
            os.close(there[name])
        os.chdir("/")
