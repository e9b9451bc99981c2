# SPDX-License-Identifier: GPL-3.0-or-later
"""Units of systemd: looked at, started, and a slice's limits kept over what systemd does."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from .errors import CapabilityError, DisturbanceError

FOLDER = "/etc/systemd/system"
# Is there where systemd runs, and holds until the machine is started again.
RUNTIME = Path("/run/systemd/system")
AGENT = "pkgctl-agent.service"
# A file of this name in the node's folder says that the agent runs on what is no longer there.
OUTDATED = "outdated"
_ENABLED = frozenset({"enabled", "static", "generated", "alias", "indirect"})
_RUNNING = frozenset({"active", "activating", "reloading"})


@dataclass(frozen=True, slots=True)
class Unit:
    """What systemd says of a unit.

    Attributes:
        is_there: whether it knows it.
        active: whether it runs, or comes up.
        enabled: whether it comes up with the machine, or with others.
        stale: whether its file was changed since it was read.
        ready: whether it runs, and has come up.
        ending: whether it is coming down.
    """

    is_there: bool
    active: bool
    enabled: bool
    stale: bool
    ready: bool = False
    ending: bool = False


def look(names: Iterable[str]) -> dict[str, Unit]:
    """Return what systemd says of units, by one question for all.

    Raises:
        CapabilityError: if no systemd runs here.
    """
    wanted = list(names)
    if not wanted:
        return {}
    keys = "LoadState,ActiveState,UnitFileState,NeedDaemonReload"
    blocks = systemctl("show", f"--property={keys}", "--", *wanted).split("\n\n")
    return {name: read(block) for name, block in zip(wanted, blocks, strict=True)}


def read(shown: str) -> Unit:
    """Return what systemctl shows of a unit."""
    facts: Mapping[str, str] = dict(
        (key, value) for key, _, value in (line.partition("=") for line in shown.splitlines())
    )
    return Unit(
        facts.get("LoadState") == "loaded",
        facts.get("ActiveState") in _RUNNING,
        facts.get("UnitFileState") in _ENABLED,
        facts.get("NeedDaemonReload") == "yes",
        facts.get("ActiveState") == "active",
        facts.get("ActiveState") == "deactivating",
    )


def systemctl(*words: str) -> str:
    """Return what systemctl prints.

    Raises:
        CapabilityError: if no systemd runs here.
        DisturbanceError: with its own words, if it refuses.
    """
    if not RUNTIME.is_dir():
        raise CapabilityError("this machine is not run by systemd, which keeps a node's agent")
    done = subprocess.run(
        ["systemctl", "--no-pager", *words], capture_output=True, text=True, check=False
    )
    if done.returncode:
        told = " ".join((done.stderr or done.stdout).split())
        raise DisturbanceError(f"systemctl {words[0]} {words[-1]}: {told[:300]}")
    return done.stdout.strip("\n")


def control_group(name: str) -> str:
    """Return the path of the control group of a unit that has one now; else nothing."""
    return systemctl("show", "--property=ControlGroup", "--value", "--", name).strip("/\n")


def journal(name: str, lines: int) -> list[str]:
    """Return the last lines that a unit has written."""
    done = subprocess.run(
        ["journalctl", "--no-pager", "--quiet", "-o", "cat", "-n", str(lines), "-u", name],
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    return done.stdout.splitlines()[-lines:]


def write(path: Path, text: str) -> None:
    """Write a unit's file, all at once.

    Raises:
        DisturbanceError: if it cannot be written.
    """
    try:
        fresh = path.with_name(f".{path.name}.new")
        fresh.write_text(text)
        fresh.chmod(0o644)
        fresh.replace(path)
    except OSError as error:
        raise DisturbanceError(f"{path} cannot be written: {error.strerror}") from error


def keep_limits(group: str, *, cpu: float | None, memory: int | None, pids: int | None) -> None:
    """Let systemd know what a slice is bounded by; any other control group is none of its own.

    It would take the limits back whenever it reads its units again, as with each daemon-reload.

    Args:
        group: the path of the control group.
        cpu: its cores; None is no bound.
        memory: its bytes.
        pids: its processes.

    Raises:
        DisturbanceError: if that cannot be written down.
    """
    if not is_slice(group) or not RUNTIME.is_dir():
        return
    path = RUNTIME / f"{group}.d" / "50-pkgctl.conf"
    text = limits_text(cpu, memory, pids)
    try:
        if not path.exists() or path.read_text() != text:
            path.parent.mkdir(exist_ok=True)
            fresh = path.with_suffix(".new")
            fresh.write_text(text)
            fresh.replace(path)
    except OSError as error:
        raise DisturbanceError(f"{path} cannot be written: {error.strerror}") from error


def is_slice(group: str) -> bool:
    """Return whether a control group is a slice of systemd's."""
    return group.endswith(".slice") and "/" not in group


def limits_text(cpu: float | None, memory: int | None, pids: int | None) -> str:
    """Return limits as systemd reads them."""
    bounds = {
        "CPUQuota": "" if cpu is None else f"{cpu * 100:.2f}%",
        "MemoryMax": "infinity" if memory is None else str(memory),
        "TasksMax": "infinity" if pids is None else str(pids),
    }
    return "[Slice]\n" + "".join(f"{key}={value}\n" for key, value in bounds.items())
