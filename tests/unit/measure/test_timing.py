# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest

from pkgctl.measure import timing
from tests.unit.measure.rows import events, run, values


def test_the_largest_distance_from_the_plan_is_told():
    rows = events(
        {"t": 2.004, "planned": 2.0, "kind": "layer-on"},
        {"t": 3.990, "planned": 4.0, "kind": "layer-off"},
        {"t": 9.0, "planned": None, "kind": "layer-on"},
        {"t": 9.0, "planned": 1.0, "kind": "note"},
    )

    assert values(timing.observe(rows, [run()]))["onset_error", "all"] == pytest.approx(0.010)


def test_a_run_without_planned_disturbances_says_nothing():
    assert list(timing.observe(events(), [run()])) == []
