# SPDX-License-Identifier: GPL-3.0-or-later
"""Running a command inside a virtual machine: its network, its files, and its limits."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from pkgctl.errors import MissingCapability, NodeLostError, TestbedError
from pkgctl.local.state import node_state, read_state
from pkgctl.nodeside import condition
from pkgctl.nodeside import errors as node_errors
from pkgctl.remote import ssh, virsh
from pkgctl.remote.places import Places

SESSION = "session"
# Joins the group of sessions, which counts against the node's limits, and becomes the command.
_JOIN = """
group=/sys/fs/cgroup/$1/$2; node=$3; shift 3
mkdir -p "$group" && echo $$ >"$group/cgroup.procs" || exit 1
if ! command -v "$1" >/dev/null; then
    echo "pkgctl: no command '$1' on $node" >&2
    exit 2
fi
cd /root 2>/dev/null || cd /
PKGCTL_NODE=$node HOSTNAME=$node exec "$@"
"""


def words(known: Mapping[str, Any], node: str, command: Sequence[str]) -> list[str]:
    """Return the words that run a command within a node's limits, as the node's shell is told."""
    return ["sh", "-c", _JOIN, "sh", str(known["cgroup"]), SESSION, node, *command]


def run(places: Places, node: str, command: Sequence[str]) -> int:
    """Run a command inside a node, with this terminal, and return its exit code.

    Raises:
        SpecError: if there is no such node.
        NodeLostError: if the node is not running, or does not answer.
    """
    record = read_state(places)
    known = node_state(record, node)
    check_up(places, node, known)
    there = ssh.target(record, node)
    if reason := ssh.reach(there):
        raise NodeLostError(reason)
    terminal = sys.stdin.isatty() and sys.stdout.isatty()
    argv = ssh.argv(there, *words(known, node, command), terminal=terminal)
    return subprocess.run(argv, check=False).returncode


def check_up(places: Places, node: str, known: Mapping[str, Any]) -> None:
    """Refuse to begin anything on a node that is not running.

    Raises:
        NodeLostError: in one line.
    """
    try:
        condition.check_up(places.node(node), node)
        now = virsh.state(known["uri"], known["domain"])
    except node_errors.NodeError as error:
        raise NodeLostError(str(error)) from error
    except (MissingCapability, TestbedError):
        return  # the host cannot be asked; SSH will tell
    if now != "running":
        raise NodeLostError(f"node {node} is {now or 'gone'}: nothing starts there")


def shell(places: Places, node: str) -> int:
    """Open an interactive shell inside a node, and return its exit code."""
    prompt = f"PS1={node}:\\w# "
    return run(places, node, ["env", prompt, "bash", "--norc", "-i"])
