# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a local testbed keeps things: a folder in /run, one in /var/lib, a control group."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pkgctl.errors import SpecError
from pkgctl.nodeside import cgroups, supervision

if TYPE_CHECKING:
    from pkgctl.local.reach import Reach

DEFAULT = "default"
VARIABLE = "PKGCTL_TESTBED"
RUN = Path("/run/pkgctl")
STORE = Path("/var/lib/pkgctl")
GROUPS = "pkgctl"
_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?")


@dataclass(frozen=True, slots=True)
class Paths:
    """The places of one testbed."""

    name: str

    @property
    def run(self) -> Path:
        """The folder that lives as long as the testbed."""
        return RUN / self.name

    @property
    def state(self) -> Path:
        """What the testbed is, for everyone who asks."""
        return self.run / "state.json"

    @property
    def pins(self) -> Path:
        """The mount under which namespaces are kept alive."""
        return self.run / "ns"

    @property
    def agent(self) -> Path:
        """The folder of the agent's and the delay line's sockets, seen by every node."""
        return self.run / "agent"

    @property
    def hosts(self) -> Path:
        """The one /etc/hosts of all nodes."""
        return self.run / "hosts"

    @property
    def switch(self) -> Path:
        """The pinned network namespace of the bridge."""
        return self.pins / ".switch"

    @property
    def images(self) -> Path:
        """The folder of the disk images."""
        return STORE / self.name

    @property
    def cgroup(self) -> str:
        """The control group of everything that runs in the testbed."""
        return f"{GROUPS}/{self.name}"

    def reach(self) -> Reach:
        """Return the way to the testbed's nodes."""
        from pkgctl.local.reach import Reach

        return Reach(self)

    def node(self, name: str) -> Path:
        """Return a node's own folder, which it sees as /run/pkgctl."""
        return self.run / "nodes" / name

    def system(self, name: str) -> str:
        """Return the control group of a node's units, which is not counted against the node."""
        return supervision.system(self.name, name)

    def namespaces(self, name: str) -> Path:
        """Return the folder of a node's pinned namespaces."""
        return self.pins / name

    def disks(self, name: str) -> Path:
        """Return the folder of a node's disk images, which it sees as /run/pkgctl/disks."""
        return self.images / name


def paths(name: str | None = None) -> Paths:
    """Return a testbed's places: by the given name, else $PKGCTL_TESTBED's, else the default.

    Raises:
        SpecError: if the name cannot be a folder's and a control group's.
    """
    chosen = name or os.environ.get(VARIABLE) or DEFAULT
    if not is_name(chosen):
        raise SpecError(
            f"{chosen!r} is no name of a testbed: up to 32 small letters, digits and inner dashes"
        )
    return Paths(chosen)


def is_name(text: str) -> bool:
    """Return whether a testbed can be called like that."""
    return _NAME.fullmatch(text) is not None


def testbeds() -> list[str]:
    """Return the names of the testbeds that have left anything on this machine."""
    found = {path.name for root in (RUN, STORE) if root.is_dir() for path in root.iterdir()}
    found |= {Path(group.path).name for group in cgroups.group(GROUPS).children()}
    return sorted(filter(is_name, found))
