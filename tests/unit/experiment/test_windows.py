# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from typing import Any

import pytest

from pkgctl.experiment import tables, windows
from pkgctl.spec.models import Body

LOAD = {"service": "web", "from": "edge-1", "arrivals": {"constant": "1/s"}, "duration": "60s"}


def body(perturb: str = "all", **words: object) -> Body:
    perturbation = {"src": "edge-1", "delay": "40ms", **words}
    return Body.model_validate(
        {"load": [LOAD], "perturbations": {"slow": perturbation}, "perturb": perturb}
    )


def times(found: list[dict[str, Any]]) -> list[tuple[float, float | None]]:
    return [(window["start"], window["end"]) for window in found]


PLANNED: dict[str, tuple[dict[str, str], list[tuple[float, float | None]]]] = {
    "once": ({"start": "2s", "duration": "3s"}, [(2, 5)]),
    "to the end": ({"start": "2s"}, [(2, None)]),
    "again": ({"duration": "3s", "repeat": "3/20s"}, [(0, 3), (20, 23), (40, 43)]),
    "flapping": ({"start": "1s", "duration": "9s", "flap": "2s/1s"}, [(1, 10)]),
    "by condition": ({"when": "requests > 10", "duration": "3s"}, []),
    "after another": ({"after": "other + 5s"}, []),
}


@pytest.mark.parametrize(("words", "expected"), PLANNED.values(), ids=PLANNED.keys())
def test_windows_are_as_planned_where_they_can_be(words, expected):
    assert times(windows.planned(body(**words))) == expected


def test_cells_without_a_disturbance_have_its_windows_too():
    (window,) = windows.planned(body("none", start="2s", duration="3s"))

    assert window["active"] is False


def test_what_waits_for_a_condition_is_known():
    assert windows.conditional(body(when="requests > 10")) == ["slow"]
    assert windows.conditional(body("none", when="requests > 10")) == []
    assert windows.conditional(body(start="1s")) == []


def event(t: float, kind: str, target: str, name: str = "slow") -> dict[str, Any]:
    return {"t": t, "kind": kind, "target": target, "name": name}


def test_a_window_goes_from_the_first_onset_to_the_last_end():
    told = [
        event(3.0, windows.OFF, "a"), event(1.0, windows.ON, "a"), event(1.1, windows.ON, "b"),
        event(3.2, windows.OFF, "b"), event(0.5, windows.ON, "a", "other"),
        event(7.0, windows.ON, "a"), event(7.5, "scale", "a"),
    ]  # fmt: skip

    assert times(windows.actual(["slow"], told)) == [(1.0, 3.2), (7.0, None)]


def test_a_disturbance_that_never_came_has_no_window():
    assert windows.actual(["slow"], [event(1.0, windows.ON, "a", "other")]) == []


def test_the_cell_to_compare_with_gets_the_windows_of_the_same_repeat():
    came = {"name": "slow", "start": 4.0, "end": 6.0, "active": True}
    cells = [
        {"runs": [{"repeat": 0, "windows": []}, {"repeat": 1, "windows": []}]},
        {"runs": [{"repeat": 0, "windows": [came]}, {"repeat": 1, "windows": [], "waited": []}]},
    ]

    windows.lend(cells)

    assert cells[0]["runs"][0]["windows"] == [{**came, "active": False}]
    assert cells[0]["runs"][1]["windows"] == []
    assert cells[1]["runs"][0]["windows"] == [came]


def test_an_event_tells_its_times_on_each_clock():
    found = tables.moments(105.5, 105.0, 100.0, 1000.0)

    assert found == {
        "t": 5.5, "mono": 105.5, "wall": 1105.5,
        "planned": 5.0, "planned_mono": 105.0, "planned_wall": 1105.0,
    }  # fmt: skip
    assert "planned" not in tables.moments(105.5, None, 100.0, 1000.0)
