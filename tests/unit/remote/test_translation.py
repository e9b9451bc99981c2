# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from pkgctl.remote import translation


def hour_later(moment: float) -> float:
    return moment + 3600.0


def test_a_request_s_times_are_the_node_s():
    asked = {"id": "a", "submitted": 1.0, "decided": 2.0, "labels": {"t0": 5}}
    heard = translation.request("job-start", asked, hour_later)

    assert heard == {**asked, "submitted": 3601.0, "decided": 3602.0}
    assert translation.request("timeline-start", {"t0": 1}, hour_later) == {"t0": 3601.0}


def test_what_is_no_moment_stays_as_it_is():
    assert translation.request("timeline-start", {"t0": True}, hour_later) == {"t0": True}
    assert translation.request("job-start", {"submitted": None}, hour_later) == {"submitted": None}
    message = {"op": "stop"}
    assert (
        translation.request("client-tell", {"message": message}, hour_later)["message"] == message
    )


def test_all_moments_of_an_answer_are_translated():
    step = {"next": 1.0, "ends": None, "since": 2.0, "body": {"next": 1}}
    answer = {
        "mono": 1.0,
        "layers": [{"layer": "a", "t0": 1.0, "next": 2.0, "ends": 3.0, "since": None}],
        "leases": [{"layer": "a", "seconds": 60.0, "ends": 4.0}],
        "timelines": [{"timeline": "t", "t0": 5.0, "steps": [step]}],
        "jobs": [{"id": "a", "stamps": {"ready": 6.0}, "labels": {"mono": 1}}],
        "job": {"id": "b", "stamps": {"ready": 7.0}},
    }

    assert translation.answer(answer, hour_later) == {
        "mono": 3601.0,
        "layers": [{"layer": "a", "t0": 3601.0, "next": 3602.0, "ends": 3603.0, "since": None}],
        "leases": [{"layer": "a", "seconds": 60.0, "ends": 3604.0}],
        "timelines": [
            {
                "timeline": "t",
                "t0": 3605.0,
                "steps": [{"next": 3601.0, "ends": None, "since": 3602.0, "body": {"next": 1}}],
            }
        ],
        "jobs": [{"id": "a", "stamps": {"ready": 3606.0}, "labels": {"mono": 1}}],
        "job": {"id": "b", "stamps": {"ready": 3607.0}},
    }


def test_an_event_is_on_both_of_our_clocks():
    event = {"mono": 1.0, "wall": -5.0, "planned": 2.0, "planned_wall": -4.0, "node": "a"}

    assert translation.event(event, hour_later, wall=1e6) == {
        "mono": 3601.0,
        "wall": 1e6 + 3601.0,
        "planned": 3602.0,
        "planned_wall": 1e6 + 3602.0,
        "node": "a",
    }


def test_a_job_s_event_is_its_record_by_our_clock():
    event = {"event": "job", "mono": 1.0, "stamps": {"started": 0.5}}

    assert translation.event(event, hour_later, 0.0)["stamps"] == {"started": 3600.5}
