# SPDX-License-Identifier: GPL-3.0-or-later
"""What a node's object in Kubernetes is to say of the node, and the patch that leads there; pure.

Two extended resources say what the node may use now. Capacity says it too and not only allocatable,
for a kubelet makes the second equal to the first. A condition says what is wrong with data disks.
"""

from __future__ import annotations

import calendar
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from . import diskmodel, mounting
from .filling import Room

MILLICORES, MEMORY = "pkgctl.dev/millicores", "pkgctl.dev/memory"
RESOURCES = (MILLICORES, MEMORY)
DISK_PROBLEM = "DataDiskProblem"
WELL = "DataDisksAreWell"
FULL = "full"
# A kubelet of K3s begins to evict where less of a disk than this is free.
FULL_BELOW = 0.05
# As often as a kubelet says that nothing has changed.
HEARTBEAT_SECONDS = 300.0
_PARTS = ("capacity", "allocatable")
_STEP = 1000
_SUFFIXES = ("", "k", "M", "G", "T", "P", "E")
_MOMENT = "%Y-%m-%dT%H:%M:%SZ"
# From the harshest to the mildest: the reason, and the words for it.
_REASONS: Mapping[str, tuple[str, str]] = {
    diskmodel.DETACHED: ("DiskDetached", "detached"),
    mounting.DEAD: ("DiskFailed", "its file system was shut down or does not answer"),
    mounting.FOREIGN: ("DiskHidden", "something else is mounted in its place"),
    mounting.UNMOUNTED: ("DiskUnmounted", "unmounted"),
    mounting.READONLY: ("DiskReadOnly", "read-only"),
    FULL: ("DiskFull", f"full, less than {FULL_BELOW:.0%} of it is free"),
}


@dataclass(frozen=True, slots=True)
class Finding:
    """A condition of a node, without its times.

    Attributes:
        status: ``True`` or ``False``.
        reason: why, in one word.
        message: why, in words.
    """

    status: str
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Having:
    """What a node has now.

    Attributes:
        resources: quantities by the name of the resource; those left out are not known now.
        disks: what is to be said of its data disks; None if it has none, or that is not known now.
    """

    resources: Mapping[str, str] = field(default_factory=dict)
    disks: Finding | None = None


def resources(limits: Mapping[str, float], cpu: float, memory: int) -> dict[str, str]:
    """Return what a node may use as quantities.

    Args:
        limits: the least that all its layers allow, by kind.
        cpu: the cores of its topology, beyond which no layer leads.
        memory: the bytes of its topology.
    """
    cores = min(cpu, limits.get("cpu", cpu))
    # What a float lacks to a whole number must not cost a thousandth of a core.
    millicores = math.floor(cores * 1000 + 1e-6)
    return {
        MILLICORES: quantity(millicores),
        MEMORY: quantity(int(min(memory, limits.get("memory", memory)))),
    }


def quantity(number: int) -> str:
    """Return a whole number in the one form in which the API gives it back."""
    power = 0
    while number and number % _STEP == 0 and power < len(_SUFFIXES) - 1:
        number, power = number // _STEP, power + 1
    return f"{number}{_SUFFIXES[power]}"


def trouble(found: str, asked: str, room: Room | None) -> str:
    """Return what is wrong with a disk in one of our words; nothing if it is well.

    Args:
        found: what is at its place, in the words of mounting.
        asked: what its layers ask: a disk that is gone differs from one that is not mounted by it.
        room: its room; None if it has none now.
    """
    if found == mounting.UNMOUNTED and asked == diskmodel.DETACHED:
        return diskmodel.DETACHED
    if found != mounting.MOUNTED:
        return found
    return FULL if room is not None and room.free < FULL_BELOW * room.total else ""


def finding(troubles: Mapping[str, str]) -> Finding | None:
    """Return the condition for what is wrong with each disk; None for a node without disks."""
    if not troubles:
        return None
    wrong = {disk: word for disk, word in sorted(troubles.items()) if word}
    if not wrong:
        return Finding("False", WELL, f"mounted, with room: {', '.join(sorted(troubles))}")
    harshest = min(wrong.values(), key=list(_REASONS).index)
    words = "; ".join(f"{disk}: {_REASONS[word][1]}" for disk, word in wrong.items())
    return Finding("True", _REASONS[harshest][0], words)


def patch(node: Mapping[str, Any], having: Having, now: float) -> dict[str, Any] | None:
    """Return the strategic merge patch of a node's status; None if there is nothing to say.

    Args:
        node: its object, as the API has it.
        having: what it has.
        now: the time of day, in seconds of the epoch.
    """
    status = _mapping(node.get("status"))
    body: dict[str, Any] = {}
    for part in _PARTS:
        there = _mapping(status.get(part))
        new = {key: each for key, each in having.resources.items() if there.get(key) != each}
        if new:
            body[part] = new
    if having.disks is not None:
        there = _condition(status.get("conditions"))
        if not _says(there, having.disks) or _is_old(there, now):
            body["conditions"] = [_said(having.disks, there, now)]
    return {"status": body} if body else None


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _condition(conditions: Any) -> Mapping[str, Any]:
    """Return the condition of our type; empty if there is none."""
    found = conditions if isinstance(conditions, list) else []
    ours = (each for each in map(_mapping, found) if each.get("type") == DISK_PROBLEM)
    return next(ours, {})


def _says(there: Mapping[str, Any], wanted: Finding) -> bool:
    said = tuple(there.get(key) for key in ("status", "reason", "message"))
    return said == (wanted.status, wanted.reason, wanted.message)


def _is_old(there: Mapping[str, Any], now: float) -> bool:
    try:
        said = calendar.timegm(time.strptime(str(there.get("lastHeartbeatTime")), _MOMENT))
    except ValueError:
        return True
    # A time to come is one that another clock has given.
    return not 0 <= now - said < HEARTBEAT_SECONDS


def _said(wanted: Finding, there: Mapping[str, Any], now: float) -> dict[str, str]:
    moment = time.strftime(_MOMENT, time.gmtime(now))
    stays = there.get("status") == wanted.status
    return {
        "type": DISK_PROBLEM,
        "status": wanted.status,
        "reason": wanted.reason,
        "message": wanted.message,
        "lastHeartbeatTime": moment,
        "lastTransitionTime": (stays and there.get("lastTransitionTime")) or moment,
    }
