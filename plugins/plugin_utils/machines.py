# SPDX-License-Identifier: GPL-3.0-or-later
"""Nodes that are virtual machines, as actions see them: their health here, all else over SSH."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleConnectionFailure

from ..module_utils import condition, domains, parts, timewords, watchman
from ..module_utils.domains import Guest
from ..module_utils.errors import DisturbanceError, NodeError
from ..module_utils.triggers import Count, read_when

DOMAIN = "pkgctl_domain"
# For how many seconds to wait for a machine that was started; a variable may say otherwise.
PATIENCE, PATIENCE_VARIABLE = 300.0, "pkgctl_patience"
_PAUSE = 1.0
# Whether a machine that answers by SSH is ready: a node's agent takes up what it had first.
READY = (
    "test ! -e /var/lib/pkgctl/node.json || {python} -S -E -c"
    " 'import socket; socket.socket(socket.AF_UNIX).connect(\"/run/pkgctl/agent/agent.sock\")'"
)
Report = dict[str, Any]
Variables = Mapping[str, Any]


def is_machine(variables: Variables) -> bool:
    """Return whether a host is a virtual machine whose domain is known."""
    return bool(variables.get(DOMAIN))


def guest(variables: Variables) -> Guest:
    """Return the node that a host is."""
    folder = Path(str(variables["pkgctl_controller_directory"]))
    return domains.guest(folder, str(variables[DOMAIN]), str(variables["pkgctl_uri"]))


def testbed(node: Guest) -> Path:
    """Return the folder of a node's testbed."""
    return Path(node.directory).parents[1]


def check_up(node: Guest) -> None:
    """Refuse a node that cannot be told anything.

    Raises:
        NodeError: in one line.
    """
    if not condition.is_up(now := condition.load(node.directory)):
        raise NodeError(f"node {node.name} is {now}")


def set_health(
    node: Guest, options: Mapping[str, Any], asked: Mapping[str, Any], *, dry_run: bool
) -> Report:
    """Do what a module was told of a node's health, here, and return its report.

    Raises:
        DisturbanceError: in one line.
        ValueError: in one line, for an option that cannot be read.
    """
    present = options["state"] == "present"
    lasts = timewords.read_lease(options.get("lease")) is None
    if present and (options.get("timeline") is not None or not lasts):
        watchman.ensure(testbed(node))
    else:
        watchman.revive(testbed(node))
    return parts.perform(options, {"health": asked}, dry_run=dry_run, node=node)


def check_trigger(node: Guest, text: str | None, *, health: bool, rest: bool) -> None:
    """Refuse to wait for what those who would have to wait cannot see.

    Args:
        node: the node.
        text: the word ``when``.
        health: whether the watchman has to wait, who sees nodes but no jobs.
        rest: whether the node's own agent has to, which sees its own jobs but no other node.

    Raises:
        ValueError: in one line.
    """
    if text is None:
        return
    asked = read_when(text)
    sees_node = not isinstance(asked, Count) and asked.what == "node"
    if health and not sees_node:
        raise ValueError(
            f"when: {text!r} is seen on virtual machines alone, and the health of {node.name}"
            " is seen to from outside; wait for a node, or give a start"
        )
    if rest and sees_node:
        raise ValueError(
            f"when: {text!r} is not seen from inside {node.name}, a virtual machine;"
            " give a start, or disturb the health alone"
        )


def merged(one: Report, other: Report) -> Report:
    """Return two reports as one; what the second says of itself holds."""
    joined = {key: [*_list(one, key), *_list(other, key)] for key in ("actions", "diff")}
    changed = bool(one.get("changed")) or bool(other.get("changed"))
    return {**one, **other, **joined, "changed": changed}


def _list(report: Report, key: str) -> list[Any]:
    found = report.get(key) or []
    return list(found) if isinstance(found, list) else [found]


def wait(node: Guest, say: Callable[[], Mapping[str, Any]], patience: float) -> None:
    """Return when a machine that was started answers, and is ready.

    Args:
        node: the node.
        say: asks the machine whether it is ready, by SSH.
        patience: for how many seconds to try.

    Raises:
        NodeError: if it does not, with SSH's last words.
    """
    deadline = time.monotonic() + patience
    while reason := _reason(say):
        if time.monotonic() > deadline:
            raise NodeError(
                f"node {node.name} was started, and is not ready after {patience:g} s: {reason}"
            )
        time.sleep(_PAUSE)


def _reason(say: Callable[[], Mapping[str, Any]]) -> str:
    """Return why a machine is not ready; nothing if it is."""
    try:
        done = say()
    except AnsibleConnectionFailure as error:
        return last_words(str(error))
    return last_words(str(done.get("stderr", ""))) if done.get("rc") else ""


def explained(node: Guest, error: Exception) -> str:
    """Return in one line why a machine could not be reached, with what its domain is."""
    try:
        now = domains.read(node)
    except DisturbanceError as other:
        return str(other)
    reason = last_words(str(error))
    if now == condition.RUNNING:
        return f"node {node.name} does not answer by SSH: {reason}"
    return f"node {node.name} does not answer: its domain is {now}; heal it to have it started"


def last_words(text: str) -> str:
    """Return the last line of a text that is not empty."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "it did not say why"
