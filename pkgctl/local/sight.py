# SPDX-License-Identifier: GPL-3.0-or-later
"""What the live view shows of nodes beside the agent's samples: limits, disks, the delay line."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from pkgctl.local import delaylosses, overview
from pkgctl.local.diskuse import DiskUse, Use
from pkgctl.local.paths import Paths
from pkgctl.nodeside import cgroups, delayclient
from pkgctl.nodeside import errors as node_errors
from pkgctl.watch.figures import Pair
from pkgctl.watch.picture import Link

Nodes = Mapping[str, Mapping[str, Any]]


class Sight:
    """Looks at nodes that are on this machine."""

    def __init__(self, paths: Paths) -> None:
        """Look at the nodes of a testbed."""
        self._paths = paths
        self._disks = DiskUse(paths)

    def disks(self, nodes: Nodes) -> Mapping[str, Use]:
        """Return (used, size) in bytes by node; a node without a mounted disk is left out."""
        return self._disks.read(nodes)

    def limits(self, name: str, known: Mapping[str, Any]) -> tuple[float, int]:
        """Return a node's CPU and memory limits in force, or those that were declared."""
        group = cgroups.group(known["cgroup"])
        return _now(group.cpu, known["cpu"]), _now(group.memory, known["memory"])

    def delay_line(self) -> dict[str, Any] | None:
        """Return the delay line's own figures; None if it does not answer."""
        return overview.ask(self._paths, delayclient.SOCKET, "status")

    def notes(self, delay_line: Mapping[str, Any] | None) -> tuple[str, ...]:
        """Return what is amiss, a line each."""
        return () if delay_line else ("the delay line does not answer: nothing is delayed",)

    def losses(
        self, state: Mapping[str, Any], links: Iterable[Link]
    ) -> Mapping[Pair, tuple[int, int]]:
        """Return (packets met, packets lost) of links that have a loss, by their ends."""
        return delaylosses.read(self._paths, state, links)


def _now(read: Callable[[], Any], declared: Any) -> Any:
    """Return a limit in force; what was declared, where there is none or the node went away."""
    try:
        return read() or declared
    except (ValueError, node_errors.KernelError):
        return declared
