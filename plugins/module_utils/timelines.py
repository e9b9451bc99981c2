# SPDX-License-Identifier: GPL-3.0-or-later
"""Changes that were armed beforehand and happen on time, whoever is busy then."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from . import disks, identity, links, quotas, syscalls
from .errors import AgentError, DisturbanceError
from .identity import Identity
from .loop import Loop
from .places import inside
from .quality import Quality

Body = dict[str, Any]


class Timelines:
    """The armed changes of a testbed, by timeline."""

    def __init__(
        self,
        directory: Path,
        loop: Loop,
        nodes: Callable[[str], Identity],
        tell: Callable[[Body], None],
    ) -> None:
        """Change the nodes of the testbed in directory, and tell of each change."""
        self._directory = directory
        self._loop = loop
        self._nodes = nodes
        self._tell = tell
        self._timelines: dict[str, list[Body]] = {}
        self._turns: dict[str, int] = {}
        self._in_force: dict[str, list[Body]] = {}

    def arm(self, request: Body) -> Body:
        """Keep a change for when its timeline starts; the same one again changes nothing."""
        step = {
            "node": self._nodes(str(request["node"])).name,
            "kind": str(request["kind"]),
            "layer": str(request["layer"]),
            "body": dict(request["body"]),
            "start": float(request["start"]),
            "duration": None if request.get("duration") is None else float(request["duration"]),
        }
        if step["kind"] not in ("link", "quota", "disk"):
            raise AgentError(f"unknown kind {step['kind']!r}; known are link, quota and disk")
        armed = self._timelines.setdefault(str(request["timeline"]), [])
        if step in armed:
            return {"changed": False}
        slot = (step["node"], step["kind"], step["layer"])
        armed[:] = [old for old in armed if (old["node"], old["kind"], old["layer"]) != slot]
        armed.append(step)
        return {"changed": True}

    def start(self, request: Body) -> Body:
        """Let a timeline run: its times count from t0 on CLOCK_MONOTONIC.

        With ``keep`` it stays armed, so that it can be run again.
        """
        name, origin = str(request["timeline"]), float(request["t0"])
        self._call_off(name)
        steps = self._timelines.get(name, [])
        if not request.get("keep"):
            self._timelines.pop(name, None)
        for step in steps:
            on = origin + step["start"]
            self._plan(name, step, on, present=True)
            if step["duration"] is not None:
                self._plan(name, step, on + step["duration"], present=False)
        return {"steps": len(steps)}

    def drop(self, request: Body) -> Body:
        """Forget a timeline; one that runs ends now, and so does what it has in force."""
        name = str(request["timeline"])
        self._call_off(name)
        return {"steps": len(self._timelines.pop(name, []))}

    def _call_off(self, name: str) -> None:
        self._turns[name] = self._turns.get(name, 0) + 1
        for step in self._in_force.pop(name, []):
            self._switch(name, step, syscalls.monotonic(), present=False)

    def _plan(self, name: str, step: Body, when: float, *, present: bool) -> None:
        turn = self._turns[name]
        self._loop.at(when, lambda: self._turn_to(name, turn, step, when, present=present))

    def _turn_to(self, name: str, turn: int, step: Body, when: float, *, present: bool) -> None:
        """Switch a step, unless its timeline was called off or began anew since."""
        if self._turns[name] != turn:
            return
        in_force = self._in_force.setdefault(name, [])
        if present:
            in_force.append(step)
        elif step in in_force:
            in_force.remove(step)
        self._switch(name, step, when, present=present)

    def _switch(self, timeline: str, step: Body, planned: float, *, present: bool) -> None:
        actual, error = syscalls.monotonic(), None
        try:
            with inside(self._directory, self._nodes(step["node"])):
                _change(step, present=present)
        except (DisturbanceError, ValueError) as failure:
            error = str(failure)
        told = {key: step[key] for key in ("node", "kind", "layer")}
        action = "on" if present else "off"
        moment = {"planned": planned, "actual": actual, "done": syscalls.monotonic()}
        self._tell(
            {
                "event": "layer",
                "timeline": timeline,
                "action": action,
                **told,
                **moment,
                "error": error,
            }
        )


def _change(step: Body, *, present: bool) -> None:
    here, body = identity.load(), step["body"]
    if step["kind"] == "link":
        egress, ingress = (_qualities(body.get(way, {})) for way in ("egress", "ingress"))
        links.change(here, layer=step["layer"], egress=egress, ingress=ingress, present=present)
    elif step["kind"] == "quota":
        quotas.change(here, layer=step["layer"], limits=body, present=present, force=True)
    else:
        disks.change(here, layer=step["layer"], present=present, **body)


def _qualities(numbers: Mapping[str, Mapping[str, Any]]) -> dict[str, Quality]:
    return {peer: Quality.from_dict(each) for peer, each in numbers.items()}
