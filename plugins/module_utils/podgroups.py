# SPDX-License-Identifier: GPL-3.0-or-later
"""The control groups of Kubernetes' pods, where a kubelet makes them below its own root."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from .cgroups import Group, Usage

# What the agent's samples call a pod, before its uid.
PREFIX = "pod:"
# The group below a kubelet's root that has all its pods.
TOP = "kubepods"
_SLICE = ".slice"
_TOPS = (TOP, f"{TOP}{_SLICE}")
_CLASSES = ("burstable", "besteffort")
_POD = re.compile(r"(?:^|-)pod([0-9a-f]{8}(?:[-_][0-9a-f]{4}){3}[-_][0-9a-f]{12})$")


def pod_uid(name: str) -> str | None:
    """Return the uid of the pod whose group has a name, as files or systemd spell it."""
    found = _POD.search(name.removesuffix(_SLICE))
    return found[1].replace("_", "-") if found else None


def pods(root: Group) -> Iterator[tuple[str, Group]]:
    """Yield the uid and the group of each pod of the kubelet whose root is a group."""
    own = Path(root.path).name.removesuffix(_SLICE)
    for top in (*_TOPS, f"{own}-{TOP}{_SLICE}"):
        yield from _below(replace(root, path=f"{root.path}/{top}", throttled=""))


def _below(group: Group) -> Iterator[tuple[str, Group]]:
    for name in _names(group):
        child = replace(group, path=f"{group.path}/{name}")
        uid = pod_uid(name)
        if uid is not None:
            yield uid, child
        elif name.removesuffix(_SLICE).endswith(_CLASSES):
            yield from _below(child)


def usage(pod: Group) -> Usage:
    """Return what a pod has used.

    A container has the pod's own bound once more, and whichever of the two is met first holds its
    processes back; the group in which they waited longer knows best for how long.
    """
    used = pod.usage()
    inner = [replace(pod, path=f"{pod.path}/{name}").throttled_seconds() for name in _names(pod)]
    return replace(used, throttled_seconds=max([used.throttled_seconds, *inner]))


def _names(group: Group) -> list[str]:
    try:
        with os.scandir(group.folder("cpu")) as entries:
            return sorted(entry.name for entry in entries if entry.is_dir(follow_symlinks=False))
    except OSError:
        return []
