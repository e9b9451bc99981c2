# SPDX-License-Identifier: GPL-3.0-or-later
"""What a running testbed says of itself, for everyone who asks; reading it takes no time."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pkgctl.errors import MissingCapability, SpecError, TestbedError, nearest
from pkgctl.local.paths import Paths, testbeds

AGENT_SOCKET = "agent.sock"


def read_state(paths: Paths) -> dict[str, Any]:
    """Return the description of a running testbed.

    Raises:
        TestbedError: if it is not up, with the names of those that are.
    """
    try:
        state: dict[str, Any] = json.loads(paths.state.read_text())
    except FileNotFoundError as error:
        running = [name for name in testbeds() if Paths(name).state.exists()]
        others = f"; running are {', '.join(running)}" if running else ""
        raise TestbedError(f"no testbed {paths.name!r} is up: run `pkgctl up`{others}") from error
    except PermissionError as error:
        raise MissingCapability(
            "testbeds belong to root: run as root, with sudo for example"
        ) from error
    except ValueError as error:
        raise TestbedError(f"{paths.state} cannot be read ({error}): run `pkgctl down`") from error
    return state


def node_state(state: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """Return one node's part of a testbed's description.

    Raises:
        SpecError: if there is no such node, with the nearest name.
    """
    if name not in state["nodes"]:
        raise SpecError(f"no node {name!r}; {nearest(name, list(state['nodes']))}")
    found: Mapping[str, Any] = state["nodes"][name]
    return found
