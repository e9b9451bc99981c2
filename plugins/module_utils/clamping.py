# SPDX-License-Identifier: GPL-3.0-or-later
"""The CPU bounds of groups below a node's, while the node has less than they should.

A version 1 hierarchy refuses a parent's bound below a child's, so children shrink first and grow
last. What a child should have is written down before anything is changed: whoever goes on after an
accident finds it.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable, Mapping
from pathlib import Path

from . import layers
from .cgroups import Group
from .errors import KernelError


def rounded(cores: float) -> float:
    """Return cores in the kernel's own steps."""
    return round(cores * 100_000) / 100_000


def bound(node: Group, now: float | None, then: float | None, clamped: Path) -> None:
    """Bound the CPU of a node's group and, as far as they need it, of those below.

    Args:
        node: the node's group.
        now: its cores so far; None is no bound.
        then: its cores from now on.
        clamped: the file of what clamped children should have.
    """
    children = _below(node)
    own = _own_bounds(children, clamped)
    shrinks = then is not None and (now is None or then < now)
    _save(clamped, own)
    if not shrinks:
        node.set_cpu(then)
    # The deepest come first, and whoever grows needs those above it to have grown.
    for child in children if shrinks else reversed(children):
        if child.path in own and (fits := _fitting(own[child.path], then)) != _bound_of(child):
            _set(child, fits)
    if shrinks:
        node.set_cpu(then)
    _save(clamped, {path: have for path, have in own.items() if _is_clamped(have, then)})


def misfits(node: Group, cpu: float | None, clamped: Path) -> list[str]:
    """Return the names of clamped children that have not what they should, after an accident."""
    if not clamped.exists():
        return []
    children = {child.path: child for child in _below(node)}
    kept = _load(clamped, children)
    wrong = [path for path, own in kept.items() if _bound_of(children[path]) != _fitting(own, cpu)]
    return [path.rpartition("/")[2] for path in wrong]


def bound_child(node: Group, child: Group, cores: float | None, clamped: Path) -> None:
    """Bound the CPU of a group below a node's by its own limit and by what the node has now."""
    have = node.cpu()
    kept = _load(clamped, [each.path for each in _below(node)])
    kept.pop(child.path, None)
    if cores is not None and _is_clamped(cores, have):
        kept[child.path] = cores
    _save(clamped, kept)
    child.set_cpu(None if cores is None else _fitting(cores, have))


def _below(node: Group) -> list[Group]:
    return [group for group in node.descend() if group.path != node.path]


def _own_bounds(children: list[Group], clamped: Path) -> dict[str, float]:
    """Return what each child that has a bound should have, were its node large enough."""
    found = _load(clamped, [child.path for child in children])
    for child in children:
        if child.path not in found and (cores := _bound_of(child)) is not None:
            found[child.path] = cores
    return found


def _bound_of(child: Group) -> float | None:
    try:
        return child.cpu()
    except ValueError:  # There is nothing to read where a job ended just now.
        return None


def _set(child: Group, cores: float) -> None:
    try:
        child.set_cpu(cores)
    except KernelError as error:
        if error.errno != errno.ENOENT or child.exists():
            raise


def _fitting(own: float, have: float | None) -> float:
    return rounded(own if have is None else min(own, have))


def _is_clamped(own: float, have: float | None) -> bool:
    return _fitting(own, have) != rounded(own)


def _load(clamped: Path, there: Iterable[str]) -> dict[str, float]:
    """Return what clamped children should have; one that is gone may have a namesake some day."""
    names = set(there)
    stored = layers.load(clamped)
    return {name: float(body["cpu"]) for name, body in stored.items() if name in names}


def _save(clamped: Path, kept: Mapping[str, float]) -> None:
    if kept or clamped.exists():
        layers.save(clamped, {name: {"cpu": cores} for name, cores in kept.items()})
