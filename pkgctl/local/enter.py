# SPDX-License-Identifier: GPL-3.0-or-later
"""Running a command inside a node, in the place of this process."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from pkgctl.errors import NodeLostError, SpecError
from pkgctl.local import namespaces
from pkgctl.local.paths import Paths
from pkgctl.local.testbed import node_state, read_state
from pkgctl.nodeside import cgroups, condition
from pkgctl.nodeside import errors as node_errors

SESSION = "session"


def run(paths: Paths, node: str, command: Sequence[str]) -> NoReturn:
    """Become a command inside a node: its namespaces, its limits, this terminal.

    Raises:
        SpecError: if there is no such node or no such command.
        TestbedError: if no testbed is up, or the node is not running.
    """
    known = node_state(read_state(paths), node)
    _check_up(paths, node)
    group = cgroups.group(known["cgroup"]).child(SESSION)
    group.create()
    group.join()
    # Whoever takes the node down notes that first and looks for processes then.
    _check_up(paths, node)
    namespaces.enter(paths.namespaces(node), *namespaces.KINDS)
    program = shutil.which(command[0])
    if program is None:
        raise SpecError(f"no command {command[0]!r} on {node}")
    os.chdir("/root" if Path("/root").is_dir() else "/")
    os.execve(program, list(command), {**os.environ, "PKGCTL_NODE": node, "HOSTNAME": node})


def _check_up(paths: Paths, node: str) -> None:
    try:
        condition.check_up(paths.node(node), node)
    except node_errors.NodeError as error:
        raise NodeLostError(str(error)) from error


def shell(paths: Paths, node: str) -> NoReturn:
    """Become an interactive shell inside a node."""
    os.environ["PS1"] = f"{node}:\\w# "
    bash = shutil.which("bash")
    run(paths, node, [bash, "--norc", "-i"] if bash else ["/bin/sh", "-i"])
