# SPDX-License-Identifier: GPL-3.0-or-later
"""How libvirt's objects of a testbed are called, so that each is found by its name alone.

Names of testbeds and nodes have no dots, so no testbed's prefix begins another's.
"""

from __future__ import annotations

_PREFIX = "pkgctl"


def pool(testbed: str) -> str:
    """Return the name of a testbed's storage pool; all of its volumes are in there."""
    return f"{_PREFIX}.{testbed}"


def domain(testbed: str, node: str) -> str:
    """Return the name of a node's domain."""
    return f"{_PREFIX}.{testbed}.{node}"


def network(testbed: str, which: str) -> str:
    """Return the name of one of a testbed's networks: ``mgmt`` or ``data``."""
    return f"{_PREFIX}.{testbed}.{which}"


def is_ours(testbed: str, name: str) -> bool:
    """Return whether a domain, network or pool of that name is a testbed's."""
    return name == pool(testbed) or name.startswith(f"{_PREFIX}.{testbed}.")
