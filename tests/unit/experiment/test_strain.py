# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a machine kept up with a run, from its requests and samples."""

from __future__ import annotations

import pytest

from pkgctl.experiment.strain import strain


def request(late: float | None) -> dict[str, float | None]:
    return {"intended": 1.0, "sent": None if late is None else 1.0 + late}


def sample(mono: float, node: str = "edge-1", busy: float | None = None, idle: float = 0.0):
    told = {} if busy is None else {"machine": {"busy": busy, "idle": idle}}
    return {"mono": mono, "rows": [{"node": node}, {"node": "edge-2"}], **told}


def test_a_run_of_which_nothing_is_known_has_no_strain():
    assert strain([], []) == {}
    assert strain([request(None)] * 200, [sample(1.0, busy=1.0)]) == {}


def test_of_requests_that_left_late_the_latest_percent_counts():
    rows = [request(0.001)] * 990 + [request(0.5)] * 10

    assert strain([*rows, request(None)], []) == {"late_p99": 0.001}
    assert strain([*rows, request(0.5)], []) == {"late_p99": 0.5}


def test_the_machine_is_busy_for_a_part_of_the_time():
    samples = [sample(1.0, busy=10, idle=5), sample(1.5, busy=12, idle=7), sample(3.0, busy=13)]
    samples[2]["machine"]["idle"] = 6.0

    assert strain([], samples) == {"busy": pytest.approx(0.75), "gap": 1.5}


def test_of_several_machines_the_worst_counts():
    samples = [
        sample(1.0, "a", busy=0, idle=0),
        sample(1.1, "b", busy=0, idle=0),
        sample(1.2, "a", busy=1, idle=9),
        sample(1.9, "b", busy=9, idle=1),
    ]

    assert strain([], samples) == {"busy": 0.9, "gap": 0.8}


def test_samples_that_tell_nothing_of_their_machine_have_gaps_all_the_same():
    assert strain([], [sample(1.0), sample(1.2), {"mono": 9.0, "rows": []}]) == {"gap": 0.2}
