# SPDX-License-Identifier: GPL-3.0-or-later
"""What the guest's kernel gets at its start: a shell, the drivers of its disks, and ``init``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from pkgctl.errors import PkgctlError
from pkgctl.image import cpio

# Their order is that in which they are loaded: the bus, the disks, the cards, the seed's format.
MODULES = ("virtio_pci", "virtio_blk", "virtio_net", "isofs")
_BUSYBOX = "bin/busybox"


def needed(dependencies: str, modules: Iterable[str]) -> list[str]:
    """Return the files of some modules and of all they need, each after what it needs.

    Args:
        dependencies: the text of the kernel's ``modules.dep``.
        modules: their names.

    Raises:
        PkgctlError: if the kernel has no such module.
    """
    table = {}
    for line in dependencies.splitlines():
        path, _, others = line.partition(":")
        table[path] = others.split()
    by_name = {Path(path).stem.replace("-", "_"): path for path in table}
    order: dict[str, None] = {}
    for module in modules:
        if module not in by_name:
            raise PkgctlError(f"the image's kernel has no module {module}")
        _add(by_name[module], table, order)
    return list(order)


def _add(path: str, table: Mapping[str, list[str]], order: dict[str, None]) -> None:
    for other in table[path]:
        if other not in order:
            _add(other, table, order)
    order[path] = None


def make(tree: Path, init: bytes) -> bytes:
    """Return the archive for the kernel of a guest's file tree.

    Args:
        tree: the root of the guest's files, with one kernel's modules.
        init: the first program.

    Raises:
        PkgctlError: if the kernel lacks a module.
    """
    modules = tree / "usr/lib/modules" / kernel_version(tree)
    paths = needed((modules / "modules.dep").read_text(), MODULES)
    names = [Path(path).name for path in paths]
    return cpio.archive(
        [
            *map(cpio.folder, ("bin", "dev", "modules", "proc", "root", "sys")),
            cpio.character_device("dev/console", 5, 1),
            cpio.program(_BUSYBOX, (tree / _BUSYBOX).read_bytes()),
            cpio.link("bin/sh", "busybox"),
            cpio.program("init", init),
            *(
                cpio.file(f"modules/{name}", (modules / path).read_bytes())
                for name, path in zip(names, paths, strict=True)
            ),
            cpio.file("modules/order", "".join(f"{name}\n" for name in names).encode()),
        ]
    )


def kernel_version(tree: Path) -> str:
    """Return the version of the one kernel in a guest's file tree.

    Raises:
        PkgctlError: if there is none, or more than one.
    """
    shelf = tree / "usr/lib/modules"
    found = sorted(each.name for each in shelf.iterdir()) if shelf.is_dir() else []
    if len(found) != 1:
        raise PkgctlError(f"one kernel is wanted in the image, found {', '.join(found) or 'none'}")
    return found[0]
