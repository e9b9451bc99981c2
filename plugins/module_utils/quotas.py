# SPDX-License-Identifier: GPL-3.0-or-later
"""What a node may use: CPU, memory, processes and disk throughput, as layers of limits.

Of several layers the smallest limit holds.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from . import clamping, layers, mounting, services
from .cgroups import Group, group
from .change import Change
from .errors import DisturbanceError, KernelError
from .identity import Identity
from .units import show_cpu, show_size

STORE = "quota.json"
_CLAMPED = "clamped.json"
# Nothing tells how many requests wait for a throttle; without it they are done in no time.
_DRAIN_SECONDS = 0.1
THROTTLES = ("read_bps", "write_bps", "read_iops", "write_iops")
KEYS = ("cpu", "memory", "pids", *THROTTLES)
Number = int | float
Limits = Mapping[str, Number]
Throttles = Mapping[tuple[str, str], int]
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
    throttles: Throttles = field(default_factory=dict)

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
        if key == "memory" and limit < _page():
            raise DisturbanceError(f"memory: must be a page ({show_size(_page())}) at least")
        if key == "cpu" and limit < 0.01:
            raise DisturbanceError(f"cpu: the kernel's smallest share is 10m, not {limit}")


def _page() -> int:
    return os.sysconf("SC_PAGE_SIZE")


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
    page = _page()
    return State(
        cpu=_as_kernel(limits.get("cpu")),
        memory=None if memory is None else int(memory) // page * page,
        pids=None if pids is None else int(pids),
        throttles=throttles,
    )


def _as_kernel(cores: Number | None) -> float | None:
    return None if cores is None else clamping.rounded(cores)


def devices(identity: Identity) -> list[str]:
    """Return ``major:minor`` of each of the node's disks: mounted here, or in use nevertheless."""
    return mounting.devices(identity.disks)


def read(node: Group, own: list[str]) -> State:
    """Return the limits that the kernel holds for a node's group.

    Throttles are those of its own devices, and of loop devices that once were.
    """
    return State(node.cpu(), node.memory(), node.pids(), _read_throttles(node, own))


def _read_throttles(node: Group, own: list[str]) -> dict[tuple[str, str], int]:
    if not node.machine.has("blkio"):
        return {}
    found: dict[tuple[str, str], int] = {}
    folder = node.folder("blkio")
    if node.machine.is_unified("blkio"):
        table = folder / "io.max"
        for line in table.read_text().splitlines() if table.exists() else ():
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
    return {key: limit for key, limit in found.items() if key[0] in own or _is_loop(key[0])}


def _is_loop(device: str) -> bool:
    return device.startswith("7:")


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
    path = Path(identity.directory, STORE)
    with layers.locked(path):
        stored = layers.load(path)
        fresh = layers.changed(stored, layer, dict(limits or {}) if present else None)
        node, own = group(identity.cgroup), devices(identity)
        now, then = read(node, own), wanted_state(composed(fresh), own)
        todo = actions(now, then)
        if not force:
            _check_memory(identity, node, now, then)
        if not dry_run:
            if fresh != stored:
                layers.save(path, fresh)
            with _or_back(identity, stored):
                apply(node, now, then, Path(identity.directory, _CLAMPED), force=force)
    return Change(bool(todo) or fresh != stored, now.show(), then.show(), todo)


@contextmanager
def _or_back(identity: Identity, stored: layers.Layers) -> Iterator[None]:
    """Go back to what was stored if the block fails."""
    try:
        yield
    except DisturbanceError:
        layers.save(Path(identity.directory, STORE), stored)
        with suppress(DisturbanceError):
            _bring(identity, stored, dry_run=False)
        raise


def converge(identity: Identity, *, dry_run: bool = False) -> Change:
    """Bring this node's limits to what the stored layers ask; a dry run's actions are the drift.

    What is stored was judged when it was set, so memory in use is no reason to stop.

    Raises:
        DisturbanceError: one line.
    """
    path = Path(identity.directory, STORE)
    with layers.locked(path):
        return _bring(identity, layers.load(path), dry_run=dry_run)


def _bring(identity: Identity, stored: layers.Layers, *, dry_run: bool) -> Change:
    node, own = group(identity.cgroup), devices(identity)
    clamped = Path(identity.directory, _CLAMPED)
    now, then = read(node, own), wanted_state(composed(stored), own)
    unfit = clamping.misfits(node, then.cpu, clamped)
    todo = actions(now, then) + [f"cpu of {name}" for name in unfit]
    if not dry_run:
        apply(node, now, then, clamped, force=True)
    return Change(bool(todo), now.show(), then.show(), todo)


def throttle(identity: Identity) -> None:
    """Throttle the devices that the node's disks are on now, and no others."""
    path = Path(identity.directory, STORE)
    with layers.locked(path):
        node, own = group(identity.cgroup), devices(identity)
        then = wanted_state(composed(layers.load(path)), own).throttles
        _apply_throttles(node, _read_throttles(node, own), then)


def let_go(identity: Identity, going: Collection[str]) -> None:
    """Throttle devices that are about to go no longer, and wait until what waits in them is done.

    Kernels as of Debian 12 (6.1) never come back from taking a device away while requests wait for
    its throttle.
    """
    node = group(identity.cgroup)
    with layers.locked(Path(identity.directory, STORE)):
        found = _read_throttles(node, list(going))
        now = {key: limit for key, limit in found.items() if key[0] in going}
        _apply_throttles(node, now, {})
    if now:
        time.sleep(_DRAIN_SECONDS)


def _check_memory(identity: Identity, node: Group, now: State, then: State) -> None:
    if then.memory is None or (now.memory is not None and then.memory >= now.memory):
        return
    if node.memory_held() > then.memory:
        raise _too_much(identity.name, node, then.memory)


def _too_much(name: str, node: Group, limit: int) -> DisturbanceError:
    return DisturbanceError(
        f"{name} uses {show_size(node.memory_held())} of memory, more than {show_size(limit)};"
        " stop something first, or say force"
    )


def apply(node: Group, now: State, then: State, clamped: Path, *, force: bool = False) -> None:
    """Bring a group from one state to another."""
    if now.cpu != then.cpu or clamping.misfits(node, then.cpu, clamped):
        clamping.bound(node, now.cpu, then.cpu, clamped)
    if now.memory != then.memory:
        _apply_memory(node, then.memory, force=force)
    if now.pids != then.pids:
        node.set_pids(then.pids)
    _apply_throttles(node, now.throttles, then.throttles)
    services.keep_limits(node.path, cpu=then.cpu, memory=then.memory, pids=then.pids)


def _apply_throttles(node: Group, now: Throttles, then: Throttles) -> None:
    for device, kind in sorted({*now, *then}):
        limit = then.get((device, kind))
        if limit != now.get((device, kind)):
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
        file, text = "io.max", f"{device} {_V2_NAMES[kind]}={'max' if limit is None else limit}"
    else:
        file, text = f"blkio.throttle.{kind}_device", f"{device} {limit or 0}"
    try:
        (folder / file).write_text(text)
    except OSError as error:
        raise KernelError(f"write {text!r} to {folder / file}", error.errno or errno.EIO) from error


def bound_child(node: Group, child: Group, cores: float | None, directory: Path) -> None:
    """Bound the CPU of a group below a node's by its own limit and by what the node has now.

    Args:
        node: the node's group.
        child: a group below it.
        cores: its own limit, to which it comes back when the node has so much again.
        directory: the node's own folder.
    """
    with layers.locked(directory / STORE):
        clamping.bound_child(node, child, cores, directory / _CLAMPED)
