# SPDX-License-Identifier: GPL-3.0-or-later
"""A module's work, done by the agent of the machine that it is about.

An interpreter that imports all of this anew takes seconds on a machine that is emulated, and a
minute on one that is busy. The agent has it; a child of it does the work.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from . import daemon, measuring, parts, upkeep
from .errors import AgentError, DisturbanceError

Work = Callable[..., Mapping[str, object]]
# By the names of the modules.
WORKS: Mapping[str, Work] = {
    "link": parts.set_link,
    "quota": parts.set_quota,
    "disk": parts.set_disk,
    "stress": parts.set_stress,
    "layer": parts.set_layer,
    "drift": measuring.look,
    "measure": measuring.measure,
    "unit": upkeep.keep,
}
DIGEST = "digest"
_OOM = Path("/proc/self/oom_score_adj")


def digest() -> str:
    """Return the digest of the archive from which this code came; nothing if it came otherwise."""
    try:
        return (daemon.import_root() / DIGEST).read_text().strip()
    except OSError:
        return ""


def read(request: Mapping[str, Any], code: str) -> Callable[[], dict[str, Any]]:
    """Return the work that a request asks for.

    Args:
        request: ``module``, ``options``, ``dry_run``, and the ``digest`` of the code to do it by.
        code: the digest of the code that would.

    Raises:
        AgentError: if this code is another, or the module is none that can be done here.
    """
    if not code or request["digest"] != code:
        raise AgentError("this agent has other code")
    work = WORKS.get(str(request["module"]))
    if work is None:
        raise AgentError(f"unknown module; known are {', '.join(WORKS)}")
    options, dry_run = dict(request["options"]), bool(request["dry_run"])

    def perform() -> dict[str, Any]:
        # What it starts is not to outlive all else when memory ends, as the agent is.
        with suppress(OSError):
            _OOM.write_text("0")
        try:
            return {"report": dict(work(options, dry_run=dry_run))}
        except (DisturbanceError, ValueError) as error:
            return {"report": {"failed": True, "msg": str(error)}}

    return perform
