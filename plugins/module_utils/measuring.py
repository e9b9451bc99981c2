# SPDX-License-Identifier: GPL-3.0-or-later
"""The node's part of a verification by Ansible: reading back, being measured, measuring.

The far end runs as a job of the node's agent, outside of the node's limits; what measures runs
where the task runs.
"""

from __future__ import annotations

import inspect
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from . import arming, channel, readback, verification
from .errors import AgentError, DisturbanceError
from .identity import Identity
from .programs import probe

Options = Mapping[str, Any]

_TEXT = {"type": "str"}
DRIFT: Mapping[str, Any] = {
    "argument_spec": {"fail": {"type": "bool", "default": True}, "base": {"type": "dict"}},
}
MEASURE: Mapping[str, Any] = {
    "argument_spec": {
        "state": {
            "type": "str",
            "choices": ["measured", "listening", "silent"],
            "default": "measured",
        },
        "dst": _TEXT,
        "what": {"type": "str", "choices": ["rtt", "loss", "goodput"]},
        "options": {"type": "list", "elements": "str", "default": []},
        "streams": {"type": "int", "default": 1},
    },
    "required_if": [("state", "measured", ("dst", "what"))],
}
LONGEST_SECONDS = 120.0
# An emulated machine takes its time to start an interpreter.
START_SECONDS = 60.0
_LABELS = {"kind": "probe", "owner": "experiment"}


def look(options: Options, *, dry_run: bool) -> dict[str, object]:
    """Do what the drift module was told, and return its report; it never changes anything.

    Raises:
        DisturbanceError: in one line.
    """
    node = readback.here()
    lines = readback.drift(node, options.get("base"))
    return judged(options, lines, readback.in_force(node))


def judged(options: Options, lines: list[str], in_force: Mapping[str, Any]) -> dict[str, object]:
    """Return the report of the drift module: what differs, and what all layers add up to."""
    report: dict[str, object] = {"changed": False, "drift": lines, "in_force": dict(in_force)}
    if not lines or not options.get("fail", True):
        return report
    more = f", and {len(lines) - 1} more differences" if len(lines) > 1 else ""
    return {**report, "failed": True, "msg": f"drift: {lines[0]}{more}"}


def measure(options: Options, *, dry_run: bool) -> dict[str, object]:
    """Do what the measure module was told, and return its report; nothing stays changed.

    Raises:
        DisturbanceError: in one line.
    """
    node = readback.here()
    if dry_run:
        return {"changed": False, "answers": []}
    if options["state"] == "listening":
        _listen(node)
    elif options["state"] == "silent":
        _hush(node)
    else:
        return {"changed": False, "answers": _answers(node, options)}
    return {"changed": False, "answers": []}


def _listen(node: Identity) -> None:
    """Have the agent run the far end, and wait until it answers."""
    _hush(node)
    argv = [*_program(node), "serve", "--port", str(verification.PORT)]
    with channel.Client(arming.socket(node)) as agent:
        name = _job(node)
        agent.call(
            "job-start", id=name, node=node.name, argv=argv, outside=True, labels=dict(_LABELS)
        )
        until = time.monotonic() + START_SECONDS
        while (status := _status(agent, name)) != "running":
            if status not in ("starting", "pulling") or time.monotonic() > until:
                raise AgentError(f"the far end on {node.name} does not start: it is {status}")
            time.sleep(0.01)


def _status(agent: channel.Client, name: str) -> str:
    jobs = agent.call("job-list")["jobs"]
    return next((str(job["status"]) for job in jobs if job["id"] == name), "gone")


def _hush(node: Identity) -> None:
    with channel.Client(arming.socket(node)) as agent:
        if _status(agent, _job(node)) != "gone":
            agent.call("job-remove", id=_job(node))


def _job(node: Identity) -> str:
    return f"probe-{node.name}"[:63]


def _program(node: Identity) -> list[str]:
    """Return the command of the probe; where it came packed in a module it is written first."""
    path = Path(probe.__file__)
    if not path.is_file():
        path = Path(node.directory, "probe.py")
        path.write_text(inspect.getsource(probe))
    return [sys.executable, "-S", "-E", str(path)]


def _answers(node: Identity, options: Options) -> list[dict[str, Any]]:
    """Return what each probe printed; an empty answer of one that could not measure."""
    node.check_peers({options["dst"]: None})
    where = [node.peers[options["dst"]], str(verification.PORT)]
    argv = [*_program(node), options["what"], *where, *options["options"]]
    running = [
        subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        for _ in range(options["streams"])
    ]
    try:
        told = [each.communicate(timeout=LONGEST_SECONDS)[0] for each in running]
    except subprocess.TimeoutExpired as error:
        raise DisturbanceError(f"a probe did not end within {LONGEST_SECONDS:g} s") from error
    finally:
        for each in running:
            each.kill()
            each.wait()
    return [verification.read_output(text) for text in told]
