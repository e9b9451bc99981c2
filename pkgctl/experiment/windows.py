# SPDX-License-Identifier: GPL-3.0-or-later
"""When disturbances are on in a run: as planned, or as it came where that cannot be planned. Pure.

The window of a disturbance that waits for a condition is known only when the run is over. It goes
from its onset on the first node to its end on the last. The cells without that disturbance get
the window of the same repeat of the first cell that has it, so that like is compared with like.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pkgctl.spec.models import Body

Window = dict[str, Any]
ON, OFF = "layer-on", "layer-off"
_MOST = 1000


def planned(body: Body) -> list[Window]:
    """Return when each perturbation is to be on; also those that this cell goes without.

    So a cell without the disturbance is cut into the same phases as its neighbour with it. One
    that comes and goes (``flap``) counts from its onset to its end.
    """
    found = []
    for name in body.perturbations:
        timing, active = body.disturbance(name).timing, name in body.active
        if timing.is_conditional:
            continue
        count = timing.repeat.count or _MOST if timing.repeat else 1
        period = timing.repeat.period if timing.repeat else 0.0
        for number in range(count):
            start = timing.start + number * period
            if number and start >= body.duration:
                break
            end = None if timing.duration is None else start + timing.duration
            found.append({"name": name, "start": start, "end": end, "active": active})
    return found


def conditional(body: Body) -> list[str]:
    """Return the names of the active perturbations that wait for a condition."""
    return [name for name in body.active if body.disturbance(name).timing.is_conditional]


def actual(names: Iterable[str], events: Iterable[Mapping[str, Any]]) -> list[Window]:
    """Return when disturbances were on, by the events of a run; one still on has no end."""
    told = sorted(
        (event for event in events if event["kind"] in (ON, OFF)), key=lambda event: event["t"]
    )
    return [window for name in names for window in _of(name, told)]


def _of(name: str, told: Iterable[Mapping[str, Any]]) -> list[Window]:
    found: list[Window] = []
    where: set[str] = set()
    for event in told:
        if event["name"] != name:
            continue
        if event["kind"] == ON:
            if not where:
                found.append({"name": name, "start": event["t"], "end": None, "active": True})
            where.add(event["target"])
        else:
            where.discard(event["target"])
            if not where and found:
                found[-1]["end"] = event["t"]
    return found


def lend(cells: Iterable[Mapping[str, Any]]) -> None:
    """Give runs without a disturbance the windows of the same repeat of a cell that had it.

    Args:
        cells: those of run.json; their runs are changed in place.
    """
    runs = [run for cell in cells for run in cell["runs"]]
    known: dict[tuple[int, str], list[Window]] = {}
    for run in runs:
        for name in {window["name"] for window in run.get("windows", ()) if window["active"]}:
            mine = [window for window in run["windows"] if window["name"] == name]
            known.setdefault((run["repeat"], name), mine)
    for run in runs:
        present = {window["name"] for window in run.get("windows", ())}
        for (repeat, name), windows in known.items():
            if (
                repeat == run["repeat"]
                and name not in present
                and name not in run.get("waited", ())
            ):
                run.setdefault("windows", []).extend(
                    {**window, "active": False} for window in windows
                )
