# SPDX-License-Identifier: GPL-3.0-or-later
"""What the stack's own state knows of on libvirt hosts, as the provider of a host asks it."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Mapping
from typing import Any

import pulumi

from pkgctl.errors import TestbedError
from pkgctl.remote.sweeping import Thing

_PATIENCE = 60.0
_KINDS = {
    "libvirt:index/domain:Domain": "domain",
    "libvirt:index/network:Network": "network",
    "libvirt:index/pool:Pool": "pool",
    "libvirt:index/volume:Volume": "volume",
}


def name() -> str:
    """Return the running program's stack, as it is called from anywhere."""
    return f"{pulumi.get_organization()}/{pulumi.get_project()}/{pulumi.get_stack()}"


def things(stack: str) -> set[Thing]:
    """Return what a stack's state has on libvirt hosts.

    Raises:
        TestbedError: if the state cannot be had.
    """
    command = ["pulumi", "--non-interactive", "stack", "export", "--stack", stack]
    try:
        done = subprocess.run(
            command,
            cwd="/",
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_PATIENCE,
            check=True,
        )
    except subprocess.CalledProcessError as error:
        raise TestbedError(f"{' '.join(command)}: {' '.join(error.stderr.split())}") from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise TestbedError(f"{' '.join(command)}: {error}") from error
    return set(known(json.loads(done.stdout)))


def known(export: Mapping[str, Any]) -> Iterator[Thing]:
    """Yield what an exported state has on libvirt hosts, by the names that libvirt has for it."""
    for resource in export["deployment"].get("resources") or []:
        kind = _KINDS.get(resource["type"])
        outputs = resource.get("outputs") or {}
        if kind == "volume":
            yield kind, f"{outputs['pool']}/{outputs['name']}"
        elif kind:
            yield kind, outputs["name"]
