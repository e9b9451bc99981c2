# SPDX-License-Identifier: GPL-3.0-or-later
"""What a node may use: CPU, memory, processes and disk throughput, as layers of limits.

Of several layers the smallest limit holds. A version 1 hierarchy refuses a parent's CPU bound below
a child's, so children shrink first and grow last; what a child had before is kept in the store.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from . import layers
from .cgroups import Group, group
from .change import Change
from .errors import DisturbanceError, KernelError
from .identity import Identity
from .units import show_cpu, show_size

STORE = "quota.json"
_CLAMPED = "clamped.json"
THROTTLES = ("read_bps", "write_bps", "read_iops", "write_iops")
KEYS = ("cpu", "memory", "pids", *THROTTLES)
Number = int | float
Limits = Mapping[str, Number]
_V2_NAMES = {"read_bps": "rbps", "write_bps": "wbps", "read_iops": "riops", "write_iops": "wiops"}


@dataclass(frozen=True, slots=True)
class State:
    """A node's limits in the kernel; None is no limit.

    Attributes:
        cpu: cores.
        memory: bytes.
        pids: processes and threads.
        throttles: bytes or requests a second by (device, kind), devices as ``major:minor``.
    """

    cpu: float | None
    memory: int | None
    pids: int | None
    throttles: Mapping[tuple[str, str], int] = field(default_factory=dict)

    def show(self) -> str:
        """Return the limits as text, one a line."""
        lines = [
            f"cpu: {'unlimited' if self.cpu is None else show_cpu(self.cpu)}",
            f"memory: {'unlimited' if self.memory is None else show_size(self.memory)}",
            f"pids: {'unlimited' if self.pids is None else self.pids}",
            *(
                f"{kind} of {device}: {limit}"
                for (device, kind), limit in sorted(self.throttles.items())
            ),
        ]
        return "".join(f"{line}\n" for line in lines)


def check(limits: Limits) -> None:
    """Refuse unknown keys and limits that nothing could run under.

    Raises:
        DisturbanceError: naming the first.
    """
    for key, limit in limits.items():
        if key not in KEYS:
            raise DisturbanceError(f"{key}: unknown limit; known are {', '.join(KEYS)}")
        if limit <= 0:
            raise DisturbanceError(f"{key}: must be above zero, not {limit}")
        if key == "cpu" and limit < 0.01:
            raise DisturbanceError(f"cpu: the kernel's smallest share is 10m, not {limit}")


def composed(stored: layers.Layers) -> dict[str, Number]:
    """Return the smallest limit of all layers for each key that any of them has."""
    found: dict[str, Number] = {}
    for body in stored.values():
        for key, limit in body.items():
            found[key] = min(limit, found.get(key, limit))
    return found


def wanted_state(limits: Limits, devices: list[str]) -> State:
    """Return the kernel state for limits, with the node's mounted disks on devices."""
    throttles = {
        (device, kind): int(limits[kind])
        for device in devices
        for kind in THROTTLES
        if kind in limits
    }
    memory, pids = limits.get("memory"), limits.get("pids")
    page = os.sysconf("SC_PAGE_SIZE")
    return State(
        cpu=_as_kernel(limits.get("cpu")),
        memory=None if memory is None else int(memory) // page * page,
        pids=None if pids is None else int(pids),
        throttles=throttles,
    )


def _as_kernel(cores: Number | None) -> float | None:
    return None if cores is None else round(cores * 100_000) / 100_000


def devices(identity: Identity) -> list[str]:
    """Return ``major:minor`` of each of the node's disks that is mounted here."""
    found = []
    for disk in identity.disks.values():
        if os.path.ismount(disk.mount):
            number = Path(disk.mount).stat().st_dev
            found.append(f"{os.major(number)}:{os.minor(number)}")
    return found


def read(node: Group, mounted: list[str]) -> State:
    """Return the limits that the kernel holds for a node's group."""
    return State(node.cpu(), node.memory(), node.pids(), _read_throttles(node, mounted))


def _read_throttles(node: Group, mounted: list[str]) -> dict[tuple[str, str], int]:
    if not node.machine.has("blkio"):
        return {}
    found: dict[tuple[str, str], int] = {}
    folder = node.folder("blkio")
    if node.machine.is_unified("blkio"):
        for line in (folder / "io.max").read_text().splitlines():
            device, *pairs = line.split()
            limits = dict(pair.split("=") for pair in pairs)
            for kind, name in _V2_NAMES.items():
                if limits.get(name, "max") != "max":
                    found[device, kind] = int(limits[name])
    else:
        for kind in THROTTLES:
            for line in (folder / f"blkio.throttle.{kind}_device").read_text().splitlines():
                device, limit = line.split()
                found[device, kind] = int(limit)
    return {key: limit for key, limit in found.items() if key[0] in mounted}


def actions(now: State, then: State) -> list[str]:
    """Return what differs between two states, a line for each limit."""
    before, after = now.show().splitlines(), then.show().splitlines()
    changed = [line for line in after if line not in before]
    gone = [
        f"{kind} of {device}: unlimited"
        for device, kind in now.throttles.keys() - then.throttles.keys()
    ]
    return changed + sorted(gone)


def change(
    identity: Identity,
    *,
    layer: str | None,
    limits: Limits | None = None,
    present: bool = True,
    force: bool = False,
    dry_run: bool = False,
) -> Change:
    """Set or take away one layer of this node's limits and bring the kernel to what all layers ask.

    Args:
        identity: the node, in whose mount namespace the caller is.
        layer: its name; None with present=False takes away all but base.
        limits: cores, bytes, processes, bytes and requests a second, by KEYS.
        present: whether the layer should be there.
        force: lower memory below what is in use; the largest processes are killed until it fits.
        dry_run: only say what would be done.

    Raises:
        DisturbanceError: one line; for memory below what is in use, unless forced.
    """
    check(limits or {})
    node = group(identity.cgroup)
    path = Path(identity.directory, STORE)
    with layers.locked(path):
        stored = layers.load(path)
        fresh = layers.changed(stored, layer, dict(limits or {}) if present else None)
        mounted = devices(identity)
        now, then = read(node, mounted), wanted_state(composed(fresh), mounted)
        todo = actions(now, then)
        if not force:
            _check_memory(identity, node, now, then)
        if not dry_run:
            if fresh != stored:
                layers.save(path, fresh)
            apply(node, now, then, Path(identity.directory, _CLAMPED), force=force)
    return Change(bool(todo) or fresh != stored, now.show(), then.show(), todo)


def _check_memory(identity: Identity, node: Group, now: State, then: State) -> None:
    if then.memory is None or (now.memory is not None and then.memory >= now.memory):
        return
    if node.memory_used() > then.memory:
        raise _too_much(identity.name, node, then.memory)


def _too_much(name: str, node: Group, limit: int) -> DisturbanceError:
    return DisturbanceError(
        f"{name} uses {show_size(node.memory_used())} of memory, more than {show_size(limit)};"
        " stop something first, or say force"
    )


def apply(node: Group, now: State, then: State, clamped: Path, *, force: bool = False) -> None:
    """Bring a group from one state to another."""
    if now.cpu != then.cpu:
        _apply_cpu(node, now.cpu, then.cpu, clamped)
    if now.memory != then.memory:
        _apply_memory(node, then.memory, force=force)
    if now.pids != then.pids:
        node.set_pids(then.pids)
    for device, kind in sorted({*now.throttles, *then.throttles}):
        limit = then.throttles.get((device, kind))
        if limit != now.throttles.get((device, kind)):
            _throttle(node, device, kind, limit)


def _apply_memory(node: Group, limit: int | None, *, force: bool) -> None:
    """Bound the memory; version 1 refuses what does not fit, version 2 kills until it does."""
    while True:
        try:
            return node.set_memory(limit)
        except KernelError as error:
            if error.errno != errno.EBUSY or limit is None:
                raise
            if not force or not node.kill_largest():
                raise _too_much(node.path.rpartition("/")[2], node, limit) from error


def _throttle(node: Group, device: str, kind: str, limit: int | None) -> None:
    folder = node.folder("blkio")
    if node.machine.is_unified("blkio"):
        (folder / "io.max").write_text(
            f"{device} {_V2_NAMES[kind]}={'max' if limit is None else limit}"
        )
    else:
        (folder / f"blkio.throttle.{kind}_device").write_text(f"{device} {limit or 0}")


def _apply_cpu(node: Group, now: float | None, then: float | None, clamped: Path) -> None:
    children = [child for child in node.descend() if child.path != node.path]
    kept = _load_clamped(clamped, children)
    shrinks = then is not None and (now is None or then < now)
    if not shrinks:
        node.set_cpu(then)
    # The deepest come first, and whoever grows needs those above it to have grown.
    for child in children if shrinks else reversed(children):
        bound = kept.get(child.path, child.cpu())
        if bound is None:
            continue
        fits = bound if then is None else min(bound, then)
        if fits != child.cpu():
            child.set_cpu(fits)
        kept.pop(child.path, None)
        if fits != bound:
            kept[child.path] = bound
    if shrinks:
        node.set_cpu(then)
    _save_clamped(clamped, kept)


def _load_clamped(path: Path, children: list[Group]) -> dict[str, float]:
    """Return what clamped children should have; one that is gone may have a namesake some day."""
    there = {child.path for child in children}
    return {name: float(body["cpu"]) for name, body in layers.load(path).items() if name in there}


def _save_clamped(path: Path, kept: Mapping[str, float]) -> None:
    if kept or path.exists():
        layers.save(path, {name: {"cpu": bound} for name, bound in kept.items()})


def bound_child(node: Group, child: Group, cores: float | None, directory: Path) -> None:
    """Bound the CPU of a group below a node's by its own limit and by what the node has now.

    Args:
        node: the node's group.
        child: a group below it.
        cores: its own limit, to which it comes back when the node has so much again.
        directory: the node's own folder.
    """
    path = directory / _CLAMPED
    with layers.locked(directory / STORE):
        have = node.cpu()
        fits = cores if have is None or cores is None else min(cores, have)
        child.set_cpu(fits)
        kept = _load_clamped(path, list(node.descend()))
        kept.pop(child.path, None)
        if cores is not None and fits != cores:
            kept[child.path] = cores
        _save_clamped(path, kept)
