# SPDX-License-Identifier: GPL-3.0-or-later
"""Having a machine's agent do a module's work, instead of sending the module.

A module brings all its code with it, and Ansible's own: seconds on a machine that is emulated, a
minute on one that is busy. The agent has the code loaded, and is asked if it is the same as here.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Mapping
from typing import Any

from . import machines, packing
from .relays import SOCKET

Report = dict[str, Any]
Execute = Callable[[str, bytes], Mapping[str, Any]]
# A request goes to the agent, its two answers come back: that it begins, and the report.
PROGRAM = """\
import socket, sys
agent = socket.socket(socket.AF_UNIX)
agent.connect(sys.argv[1])
agent.sendall(sys.stdin.buffer.readline())
answers = agent.makefile("rb")
first = answers.readline()
sys.stdout.buffer.write(first)
if first.startswith(b'{"ok":true'):
    sys.stdout.buffer.write(answers.readline())
"""


def perform(
    module: str, options: Mapping[str, Any], *, dry_run: bool, python: str, execute: Execute
) -> Report | None:
    """Return what a machine's agent reports of a module's work; None if the module has to go.

    Args:
        module: the module's name.
        options: its options.
        dry_run: only say what would be done.
        python: the machine's interpreter.
        execute: runs a command there with some input, as an action's low-level method does.
    """
    request = {
        "op": "perform",
        "module": module,
        "digest": packing.pack().digest,
        "options": dict(options),
        "dry_run": dry_run,
    }
    command = shlex.join([python, "-S", "-E", "-c", PROGRAM, SOCKET])
    done = execute(command, json.dumps(request).encode() + b"\n")
    answers = _answers(str(done.get("stdout", "")))
    if not answers or not answers[0]["ok"]:
        return None
    if len(answers) > 1 and isinstance(report := answers[1].get("report"), dict):
        return report
    reason = answers[1].get("error") if len(answers) > 1 else machines.last_words(done["stderr"])
    return {"failed": True, "msg": f"the agent ended before it was done: {reason}"}


def _answers(text: str) -> list[dict[str, Any]]:
    """Return the agent's answers; whatever else a machine prints is none."""
    found: list[dict[str, Any]] = []
    for line in text.splitlines():
        try:
            answer = json.loads(line)
        except ValueError:
            continue
        if isinstance(answer, dict) and (found or "ok" in answer):
            found.append(answer)
    return found
