# SPDX-License-Identifier: GPL-3.0-or-later
"""A unit brought to what a module was told: by systemd where it runs, else by the node's agent.

Both keepers are looked at first, in the same words; the steps are the same too, and are taken only
where something differs.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from . import channel, identity, services, supervision
from .cgroups import group
from .errors import DisturbanceError
from .identity import Identity
from .supervision import Unit

STARTED, RESTARTED, STOPPED, ABSENT = "started", "restarted", "stopped", "absent"
_TEXTS = {"type": "list", "elements": "str", "default": []}
UNIT: Mapping[str, Any] = {
    "argument_spec": {
        "name": {"type": "str", "required": True},
        "command": {"type": "list", "elements": "str"},
        "environment": {"type": "dict", "default": {}},
        "environment_files": _TEXTS,
        "pre": {"type": "list", "elements": "list", "default": []},
        "notify": {"type": "bool", "default": False},
        "restart_seconds": {"type": "float", "default": 5.0},
        "kill": {"type": "str", "choices": list(supervision.KILLS), "default": supervision.GROUP},
        "grace": {"type": "float", "default": 30.0},
        "limits": {"type": "dict", "default": {}, "options": {"nofile": {"type": "int"}}},
        "fingerprint": {"type": "str", "default": ""},
        "state": {
            "type": "str",
            "choices": [STARTED, RESTARTED, STOPPED, ABSENT],
            "default": STARTED,
        },
        "wait": {"type": "float", "default": 0.0},
    },
    "required_if": [("state", STARTED, ("command",)), ("state", RESTARTED, ("command",))],
}
_KEYS = (
    *("name", "command", "environment", "environment_files", "pre", "notify"),
    *("restart_seconds", "kill", "grace", "fingerprint"),
)
# Beyond a unit's own grace, for what kills it.
_PATIENCE = 15.0
# Between two looks: each costs a slow machine some of what the unit needs to come up.
_PAUSE, _LONGEST_PAUSE = 0.1, 2.0
_LINES = 20

Options = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Now:
    """What a keeper has of a unit.

    Attributes:
        there: whether it knows it.
        differs: whether what it knows is another declaration than the one that is asked for.
        wanted: whether it is to run, now and when the node comes up.
        live: whether anything of it runs, or comes up.
        ready: whether it runs, and has said so if it was to.
        stale: whether what runs was started from another declaration.
        shown: the declaration that is known, as it may be shown.
    """

    there: bool = False
    differs: bool = True
    wanted: bool = False
    live: bool = False
    ready: bool = False
    stale: bool = False
    shown: str = ""


class Keeper(Protocol):
    """Who keeps units running; each step is one of its methods."""

    def look(self, unit: Unit | None) -> Now:
        """Return what is known of the unit, and whether it differs from a declaration."""

    def declare(self, unit: Unit) -> None:
        """Take on a declaration."""

    def start(self) -> None:
        """Have the unit run from now on."""

    def restart(self) -> None:
        """Have it end and run anew."""

    def stop(self) -> None:
        """Have it end, and not run any more."""

    def remove(self) -> None:
        """Have it end with all that it has started, and forget it."""

    def log(self) -> list[str]:
        """Return the last lines of its log."""


def keep(options: Options, *, dry_run: bool = False) -> dict[str, object]:
    """Do what the module unit was told, and return its report.

    Raises:
        DisturbanceError: in one line.
    """
    name, state = supervision.check_name(options["name"]), str(options["state"])
    unit = declared(options)
    keeper = _keeper(name)
    before = keeper.look(unit)
    todo = steps(before, state, has_unit=unit is not None)
    if not dry_run:
        for step in todo:
            _take(keeper, step, unit)
        _wait(keeper, name, unit, options)
    after = "" if state == ABSENT else supervision.shown(unit) if unit else before.shown
    return {
        "changed": bool(todo),
        "actions": [f"{step} {name}" for step in todo],
        "diff": [_diff(name, before.shown, after)] if before.shown != after else [],
    }


def declared(options: Options) -> Unit | None:
    """Return the unit that a module's options declare; None if they have no command.

    Raises:
        DisturbanceError: if it cannot be meant.
    """
    if options["command"] is None:
        return None
    given = {key: options[key] for key in _KEYS}
    return supervision.parse({**given, "nofile": (options["limits"] or {}).get("nofile")})


def steps(now: Now, state: str, *, has_unit: bool) -> list[str]:
    """Return what leads from what a keeper has to a state, in order; none if it is there."""
    if state == ABSENT:
        return ["remove"] * now.there
    new = has_unit and now.differs
    found = ["declare"] * new
    if state == STOPPED:
        return found + ["stop"] * (now.wanted or now.live)
    if now.live and (new or now.stale or state == RESTARTED):
        return [*found, "restart"]
    return found + ["start"] * (not now.wanted or not now.live or state == RESTARTED)


def _take(keeper: Keeper, step: str, unit: Unit | None) -> None:
    if step == "declare" and unit is not None:
        keeper.declare(unit)
        return
    acts = {
        "start": keeper.start,
        "restart": keeper.restart,
        "stop": keeper.stop,
        "remove": keeper.remove,
    }
    acts[step]()


def _wait(keeper: Keeper, name: str, unit: Unit | None, options: Options) -> None:
    """Wait until the unit is what it should be.

    Raises:
        DisturbanceError: if it is not in time, with the last lines of its log.
    """
    if options["state"] in (STARTED, RESTARTED):
        if (patience := float(options["wait"])) > 0:
            is_so, words = (lambda: keeper.look(unit).ready), "is not ready"
        else:
            return
    else:
        patience = float(options["grace"]) + _PATIENCE
        is_so, words = (lambda: not keeper.look(None).live), "does not end"
    if not _await(is_so, patience):
        lines = "".join(f"\n  {line}" for line in keeper.log())
        raise DisturbanceError(
            f"unit {name} {words} after {patience:g} s"
            + (f"; the end of its log:{lines}" if lines else ", and its log is empty")
        )


def _await(is_so: Callable[[], bool], patience: float) -> bool:
    began = time.monotonic()
    while not is_so():
        passed = time.monotonic() - began
        if passed > patience:
            return False
        time.sleep(min(max(_PAUSE, passed / 10), _LONGEST_PAUSE))
    return True


def _diff(name: str, before: str, after: str) -> dict[str, str]:
    header = {"before_header": f"unit {name}", "after_header": f"unit {name}"}
    return {**header, "before": before, "after": after}


def _keeper(name: str) -> Keeper:
    """Return who keeps units running on the node that the caller is in.

    Raises:
        NodeError: if nobody does.
    """
    if services.RUNTIME.is_dir():
        return Systemd(name)
    return Agent(identity.load(Path(identity.DIRECTORY, "node.json")), name)


@dataclass(frozen=True, slots=True)
class Agent:
    """The node's agent as the keeper of a unit."""

    node: Identity
    name: str

    def _ask(self, op: str, **fields: Any) -> dict[str, Any]:
        return channel.call(self.node.agent, op, node=self.node.name, **fields)

    def _record(self, **fields: Any) -> dict[str, Any] | None:
        found = self._ask("unit-list", name=self.name, **fields)["units"]
        return dict(found[0]) if found else None

    def look(self, unit: Unit | None) -> Now:
        """Return what the agent knows of the unit."""
        record = self._record()
        if record is None:
            return Now()
        now = Now(
            there=not record["removing"],
            differs=False,
            wanted=record["wanted"],
            live=record["wanted"] or record["status"] != "stopped",
            ready=record["ready"] and not record["stale"],
            stale=record["stale"],
            shown=record["shown"],
        )
        if unit is None:
            return now
        foreseen = self._ask("unit-set", unit=unit.body(), dry_run=True)
        return replace(now, differs=bool(foreseen["differs"]))

    def declare(self, unit: Unit) -> None:
        """Have the agent take it on."""
        self._ask("unit-set", unit=unit.body())

    def start(self) -> None:
        """Have it run from now on."""
        self._ask("unit-start", name=self.name)

    def restart(self) -> None:
        """Have it end and run anew."""
        self._ask("unit-restart", name=self.name)

    def stop(self) -> None:
        """Have it end."""
        self._ask("unit-stop", name=self.name)

    def remove(self) -> None:
        """Have it end with all that it has started, and forgotten."""
        self._ask("unit-remove", name=self.name)

    def log(self) -> list[str]:
        """Return the last lines of its log."""
        record = self._record(lines=_LINES)
        return list(record["log"]) if record else []


@dataclass(frozen=True, slots=True)
class Systemd:
    """This machine's systemd as the keeper of a unit."""

    name: str

    @property
    def _service(self) -> str:
        return f"{self.name}.service"

    @property
    def _file(self) -> Path:
        return Path(services.FOLDER, self._service)

    @property
    def _mark(self) -> Path:
        """Is there while what runs may be of another file; goes when the machine goes down."""
        return services.RUNTIME.parent / f"pkgctl-{self._service}.stale"

    def look(self, unit: Unit | None) -> Now:
        """Return what systemd knows of the unit."""
        try:
            text = self._file.read_text()
        except FileNotFoundError:
            text = ""
        seen = services.look([self._service])[self._service]
        return Now(
            there=bool(text),
            differs=unit is not None and text != supervision.text(unit),
            wanted=seen.enabled,
            live=seen.active or seen.ending,
            ready=seen.ready and not self._mark.exists(),
            stale=seen.stale or self._mark.exists(),
            shown=supervision.hidden(text),
        )

    def declare(self, unit: Unit) -> None:
        """Write the unit's file, and have it read."""
        self._mark.touch()
        services.write(self._file, supervision.text(unit))
        services.systemctl("daemon-reload")

    def start(self) -> None:
        """Have it run, and come up with the machine."""
        self._begin("start")

    def restart(self) -> None:
        """Have it end and run anew."""
        self._begin("restart")

    def _begin(self, verb: str) -> None:
        if services.look([self._service])[self._service].stale:
            services.systemctl("daemon-reload")
        services.systemctl("enable", "--quiet", "--", self._service)
        # Whoever called waits, and not for ever.
        services.systemctl(verb, "--no-block", "--", self._service)
        self._mark.unlink(missing_ok=True)

    def stop(self) -> None:
        """Have it end, and not come up with the machine."""
        services.systemctl("disable", "--quiet", "--", self._service)
        services.systemctl("stop", "--no-block", "--", self._service)

    def remove(self) -> None:
        """Have it end with all that it has started, and delete its file."""
        place = services.control_group(self._service)
        services.systemctl("disable", "--quiet", "--", self._service)
        services.systemctl("stop", "--", self._service)
        if place:
            # What it was told to leave running when it ends is in there still.
            group(place).kill()
        with suppress(DisturbanceError):
            services.systemctl("reset-failed", "--", self._service)
        self._file.unlink(missing_ok=True)
        self._mark.unlink(missing_ok=True)
        services.systemctl("daemon-reload")

    def log(self) -> list[str]:
        """Return the last lines of its journal."""
        return services.journal(self._service, _LINES)
