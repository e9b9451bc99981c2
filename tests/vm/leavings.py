# SPDX-License-Identifier: GPL-3.0-or-later
"""What a libvirt host has, and what it has of nobody's."""

from __future__ import annotations

from .hypervisor import Hypervisor

_KINDS = {"domains": "list --all", "networks": "net-list --all", "pools": "pool-list --all"}
# Where pools have their folders.
_FOLDER = "/var/lib/libvirt/images"
NOTHING = {**dict.fromkeys(_KINDS, ""), "files": ""}


def left(host: Hypervisor) -> dict[str, str]:
    """Return all that a host has, in the words of libvirt's own command, and pools' files."""
    files = sorted(host.run("find", _FOLDER, "-mindepth", "1").stdout.splitlines())
    known = {kind: host.virsh(*words.split()) for kind, words in _KINDS.items()}
    return {**known, "files": "\n".join(files)}
