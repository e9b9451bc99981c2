# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest

from pkgctl.measure import throughput
from pkgctl.measure.record import Objective
from tests.unit.measure.rows import requests, run, values

OBJECTIVE = {"web": Objective(latency=0.15, at=0.95)}


def test_offered_counts_what_was_intended_and_throughput_what_was_answered_in_time():
    rows = requests((0.0, 0.1), (1.0, 0.1), (2.0, None), (9.9, 0.2))

    found = values(throughput.observe(rows, [run(duration=10.0)], OBJECTIVE))

    assert found["offered", "all"] == pytest.approx(0.4)
    # The last answer comes at 10.1 s, after the run; the third never came.
    assert found["throughput", "all"] == pytest.approx(0.2)


def test_an_answer_counts_in_the_phase_in_which_it_came():
    rows = requests((1.5, 1.0), (2.5, 0.1))

    found = values(throughput.observe(rows, [run(windows=[(2.0, 4.0)])], {}))

    assert found["throughput", "before"] == 0
    assert found["throughput", "during"] == pytest.approx(2 / 2.0)
    assert found["offered", "before"] == pytest.approx(1 / 2.0)


def test_goodput_leaves_out_late_answers():
    rows = requests((0.0, 0.15), (1.0, 0.16), (2.0, 0.01))

    found = values(throughput.observe(rows, [run()], OBJECTIVE))

    assert found["throughput", "all"] == pytest.approx(0.3)
    assert found["goodput", "all"] == pytest.approx(0.2)


def test_attainment_is_the_share_of_all_requests_answered_within_the_latency():
    rows = requests((0.0, 0.15), (1.0, 0.16), (2.0, None), (3.0, 0.01))

    assert values(throughput.observe(rows, [run()], OBJECTIVE))["slo_attainment", "all"] == 0.5


def test_time_in_violation_is_the_share_of_seconds_under_the_objective():
    good = [(second + 0.1 * at, 0.01) for second in range(4) for at in range(5)]
    rows = requests(*good, (1.9, 0.5))

    found = values(throughput.observe(rows, [run()], OBJECTIVE))

    assert found["slo_violation_time", "all"] == pytest.approx(1 / 4)


def test_a_service_without_objective_has_no_attainment():
    metrics = {each.metric for each in throughput.observe(requests((0.0, 0.1)), [run()], {})}

    assert metrics == {"offered", "throughput"}


def test_without_a_duration_there_are_no_rates():
    found = list(throughput.observe(requests((0.0, 0.1)), [run(duration=None)], {}))

    assert {each.value for each in found} == {None}
    assert {each.note for each in found} == {"the run's duration is not known"}
