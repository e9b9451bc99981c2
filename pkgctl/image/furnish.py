# SPDX-License-Identifier: GPL-3.0-or-later
"""From Debian's files to those of the image: ours added, some of theirs taken away."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

from pkgctl.image import recipe
from pkgctl.image.recipe import Recipe

_UNITS = Path("etc/systemd/system")
_NOTHING = Path("/dev/null")


def furnish(tree: Path, made: Recipe) -> None:
    """Turn an installed Debian into the image's file tree.

    Args:
        tree: the root of its files.
        made: what to make of it.
    """
    for path in _unwanted(tree):
        _remove(path)
    for name, content in made.files.items():
        _write(tree / name, content)
    for name, target in links().items():
        _link(tree / name, target)
    for path in (tree / "usr/lib/udev/rules.d").glob("*.rules"):
        if path.name not in recipe.RULES_ON:
            _link(tree / "etc/udev/rules.d" / path.name, _NOTHING)
    # The kernel's first program moves what it has mounted there.
    for name in ("boot", "dev", "proc", "sys"):
        (tree / name).mkdir(exist_ok=True)


def _unwanted(tree: Path) -> Iterator[Path]:
    yield from (tree / name for name in recipe.REMOVED)
    yield from (tree / "etc/ssh").glob("ssh_host_*")
    # Devices come from the kernel; files made here would only be hidden below them.
    yield from (tree / "dev").glob("*")


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    path.write_bytes(content)
    # Not the mode that the file has where pkgctl is installed: an installer may have changed it.
    path.chmod(0o755 if content.startswith(b"#!") else 0o644)


def links() -> dict[str, Path]:
    """Return the symbolic links that turn parts of systemd off and ours on."""
    off = {
        **{_UNITS / unit: _NOTHING for unit in recipe.UNITS_OFF},
        **{
            Path(f"etc/systemd/system-generators/systemd-{name}-generator"): _NOTHING
            for name in recipe.GENERATORS
        },
        **{Path(f"etc/tmpfiles.d/{name}.conf"): _NOTHING for name in recipe.TMPFILES_OFF},
    }
    on = {
        _UNITS / "multi-user.target.wants" / unit: Path("..") / _template(unit)
        for unit in recipe.UNITS_ON
    }
    default = {_UNITS / "default.target": Path("/usr/lib/systemd/system/multi-user.target")}
    return {str(path): target for path, target in {**off, **on, **default}.items()}


def _template(unit: str) -> str:
    name, at, rest = unit.partition("@")
    return f"{name}@.{rest.rpartition('.')[2]}" if at else unit


def _link(path: Path, target: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove(path)
    path.symlink_to(target)


def versions(status: str) -> dict[str, str]:
    """Return the packages and their versions in the text of dpkg's ``status``."""
    found = {}
    for paragraph in status.split("\n\n"):
        lines = paragraph.splitlines()
        fields = dict(line.split(": ", 1) for line in lines if ": " in line and line[0] != " ")
        if fields.get("Status", "").endswith(" installed"):
            found[fields["Package"]] = fields["Version"]
    return dict(sorted(found.items()))
