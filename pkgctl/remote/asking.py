# SPDX-License-Identifier: GPL-3.0-or-later
"""Asking virtual machines about themselves, by a program that is sent along."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pkgctl.errors import TestbedError
from pkgctl.remote import ssh, told

# Emulated machines that share a busy one take a minute to load the nodes' code.
PATIENCE = 300.0


def ask(there: ssh.Target, what: str, **wanted: Any) -> Any:
    """Return a node's answer.

    Args:
        there: the node.
        what: one of the questions that the program in ``told`` answers.
        wanted: what that takes.

    Raises:
        TestbedError: if the node does not answer, or cannot.
    """
    question = json.dumps({"what": what, **wanted})
    program = Path(told.__file__).read_text()
    done = ssh.run(there, "python3", "-", question, text=program, timeout=PATIENCE)
    if done.returncode:
        raise TestbedError(f"{there.node}: {ssh.last_words(done.stderr)}")
    try:
        return json.loads(done.stdout)
    except ValueError as error:
        raise TestbedError(f"{there.node} answers what is no JSON: {error}") from error
