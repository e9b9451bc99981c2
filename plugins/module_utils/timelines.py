# SPDX-License-Identifier: GPL-3.0-or-later
"""Changes that were armed beforehand and happen on time, whoever is busy then."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import disks, identity, links, quotas, syscalls
from .errors import AgentError, DisturbanceError
from .identity import Identity
from .loop import Loop
from .places import inside
from .quality import Quality

Body = dict[str, Any]


@dataclass(slots=True, eq=False)
class Running:
    """A step of a timeline that has begun, and whether it is in force."""

    step: Body
    on: bool = False


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
        self._running: dict[str, list[Running]] = {}

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
        self._running[name] = [Running(step) for step in steps]
        for running in self._running[name]:
            on, duration = origin + running.step["start"], running.step["duration"]
            self._plan(name, running, on, present=True)
            if duration is not None:
                self._plan(name, running, on + duration, present=False)
        return {"steps": len(steps)}

    def drop(self, request: Body) -> Body:
        """Forget a timeline; one that runs ends now, and so does what it has in force."""
        name = str(request["timeline"])
        self._call_off(name)
        return {"steps": len(self._timelines.pop(name, []))}

    def cancel(self, request: Body) -> Body:
        """Forget what running timelines still hold for a node: it is about to be healed.

        The request names the node, the kinds, and the layer; no layer is every one.
        """
        node, layer, kinds = str(request["node"]), request.get("layer"), set(request["kinds"])

        def is_meant(step: Body) -> bool:
            named = layer is None or step["layer"] == layer
            return named and step["node"] == node and step["kind"] in kinds

        count = 0
        for name, all_running in self._running.items():
            kept = [running for running in all_running if not is_meant(running.step)]
            count += len(all_running) - len(kept)
            if not request.get("dry_run"):
                self._running[name] = kept
        return {"steps": count}

    def _call_off(self, name: str) -> None:
        for running in self._running.pop(name, []):
            if running.on:
                self._switch(name, running.step, syscalls.monotonic(), present=False)

    def _plan(self, name: str, running: Running, when: float, *, present: bool) -> None:
        self._loop.at(when, lambda: self._turn(name, running, when, present=present))

    def _turn(self, name: str, running: Running, when: float, *, present: bool) -> None:
        """Switch a step, unless it was called off since."""
        if not any(each is running for each in self._running.get(name, [])):
            return
        running.on = present
        if not present:
            self._running[name] = [each for each in self._running[name] if each is not running]
        self._switch(name, running.step, when, present=present)

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
