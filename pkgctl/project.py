# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the folders beside the package are, in a checkout and in an installation alike.

A checkout keeps ``ansible/``, ``experiments/``, ``inventories/`` and ``pulumi/`` next to the
package; a wheel ships them inside it, under ``share/``.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from pkgctl.errors import SpecError, nearest

PACKAGE = Path(__file__).resolve().parent
_SUFFIXES = (".yaml", ".yml")


def folder(name: str) -> Path:
    """Return the project's folder of that name: ansible, experiments, plugins, pulumi and so on.

    Raises:
        FileNotFoundError: if this installation lacks it.
    """
    places = [root / name for root in _roots(name)]
    for place in places:
        if place.is_dir():
            return place
    raise FileNotFoundError(f"no folder {name} in {places[0]}; the installation is incomplete")


def _roots(name: str) -> list[Path]:
    checkout = PACKAGE.parent
    if (checkout / "pyproject.toml").is_file():
        return [checkout]
    collection = checkout / "ansible_collections" / "pkgctl" / "testbed"
    return [collection if name == "plugins" else PACKAGE / "share"]


def ansible() -> Path:
    """Return the folder of the playbooks and roles, which holds ansible.cfg too."""
    return folder("ansible")


def plugins() -> Path:
    """Return the folder of the collection's plugins."""
    return folder("plugins")


def programs() -> Path:
    """Return the folder of the programs that run inside nodes."""
    return plugins() / "module_utils" / "programs"


def experiments() -> Path:
    """Return the folder of the experiments that come with pkgctl."""
    return folder("experiments")


def topologies() -> Path:
    """Return the folder of the topologies that come with pkgctl."""
    return experiments() / "topologies"


def inventories() -> Path:
    """Return the folder of the inventories."""
    return folder("inventories")


def show_path(path: Path) -> str:
    """Return the path as seen from the current folder, if it is below it."""
    try:
        return str(path.resolve().relative_to(Path.cwd()))
    except (ValueError, OSError):
        return str(path)


def names(shelf: Path) -> list[str]:
    """Return the names, without suffix, of the YAML files in a folder."""
    return sorted(path.stem for path in shelf.iterdir() if path.suffix in _SUFFIXES)


def find(what: str, name: str, shelf: Path, *, beside: Path | None = None) -> Path:
    """Return the file that a name or a path means.

    A path that exists is itself, seen from the current folder or from ``beside``; a plain name,
    with or without suffix, is looked up on the shelf as well.

    Args:
        what: how an error calls it, such as ``topology``.
        name: what the user wrote.
        shelf: the folder of those that come with pkgctl.
        beside: the folder of the file that mentions the name.

    Raises:
        SpecError: if there is no such file, with the nearest names.
    """
    if not name or "\0" in name:
        raise SpecError(f"{what} {name!r} is no file name; {nearest(name, names(shelf))}")
    found = next((path for path in _candidates(name, shelf, beside) if _is_file(path)), None)
    if found is not None:
        return found
    raise SpecError(_not_found(what, name, shelf, beside or Path()))


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name too long, or a folder that may not be searched
        return False


def _candidates(name: str, shelf: Path, beside: Path | None) -> Iterable[Path]:
    spellings = [name] if Path(name).suffix else [name, *(f"{name}{end}" for end in _SUFFIXES)]
    folders = [beside or Path()]
    if Path(name).name == name:
        folders.append(shelf)
    return (place / spelling for place in folders for spelling in spellings)


def _not_found(what: str, name: str, shelf: Path, near: Path) -> str:
    path = near / name
    if _exists(path):
        return f"{name} is a folder" if path.is_dir() else f"{name} is no regular file"
    parent = path.parent
    if Path(name).name == name:
        where, known = f" here or in {show_path(shelf)}", names(shelf)
    elif not _exists(parent):
        where, known = f": there is no folder {Path(name).parent}", []
    else:
        where, known = "", [each.name for each in parent.iterdir() if each.suffix in _SUFFIXES]
    hint = f"; {nearest(Path(name).name, known)}" if known else ""
    return f"no {what} {name!r}{where}{hint}"


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # a name too long
        return False
