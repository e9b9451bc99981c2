# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import math

import pytest

from pkgctl.measure import provisioning
from tests.unit.measure.rows import events, jobs, run, values

COLD = {
    "artifact_bytes": 100,
    "submitted": -5.0,
    "decided": -4.9,
    "artifact": -3.9,
    "started": -3.8,
    "ready": -3.5,
    "first_byte": 0.5,
}
POD = COLD | {"fetching": -4.6}
WARM = COLD | {"cached": True, "artifact": -4.9, "started": -4.85, "ready": -4.65}


def test_a_pod_has_to_have_a_place_before_anything_is_fetched():
    found = of(POD, COLD)

    assert found["provisioning_cold_place", "all"] == pytest.approx(0.15)
    assert found["provisioning_cold_transfer", "all"] == pytest.approx((0.7 + 1.0) / 2)
    assert found["provisioning_transfer_share", "all"] == pytest.approx(1.7 / 3.0)
    assert ("provisioning_cold_place", "all") not in of(COLD)


def of(*rows):
    return values(provisioning.observe(jobs(*rows), [run()]))


def test_the_steps_are_differences_of_stamps():
    found = of(COLD)

    assert found["provisioning_cold", "all"] == pytest.approx(1.5)
    assert found["provisioning_cold_decide", "all"] == pytest.approx(0.1)
    assert found["provisioning_cold_transfer", "all"] == pytest.approx(1.0)
    assert found["provisioning_cold_start", "all"] == pytest.approx(0.1)
    assert found["provisioning_cold_ready", "all"] == pytest.approx(0.3)
    assert found["provisioning_transfer_share", "all"] == pytest.approx(1.0 / 1.5)
    assert found["first_byte", "all"] == pytest.approx(4.0)


@pytest.mark.parametrize("absent", ["decided", "artifact", "started"])
def test_the_steps_add_up_even_if_a_stamp_was_skipped(absent):
    found = of(COLD | {absent: None})

    steps = sum(found.get((f"provisioning_cold_{step}", "all"), 0) for step in provisioning.STEPS)
    assert steps == pytest.approx(found["provisioning_cold", "all"]) == pytest.approx(1.5)


def test_cold_and_warm_starts_are_kept_apart():
    found = of(COLD, WARM, WARM)

    assert found["provisioning_cold", "all"] == pytest.approx(1.5)
    assert found["provisioning_warm", "all"] == pytest.approx(0.35)
    assert found["cold_share", "all"] == pytest.approx(1 / 3)


def test_a_job_without_an_artifact_is_warm():
    found = of(COLD | {"artifact_bytes": 0, "artifact": None})

    assert ("provisioning_cold", "all") not in found
    assert found["provisioning_warm", "all"] == pytest.approx(1.5)


def test_replicas_that_never_became_ready_are_counted_and_not_averaged():
    found = of(COLD, COLD | {"ready": None, "started": None})

    assert found["never_ready", "all"] == 1
    assert found["provisioning_cold", "all"] == pytest.approx(1.5)


def test_load_generators_are_nobodys_replicas():
    assert of(COLD | {"class": "client"}) == {}


def test_phases_of_provisioning_are_deploy_and_scale():
    found = of(COLD, WARM | {"phase": "scale"})

    assert found["provisioning_cold", "deploy"] == pytest.approx(1.5)
    assert found["provisioning_warm", "scale"] == pytest.approx(0.35)
    assert ("provisioning_cold", "scale") not in found


def scaling(rows, *scaled):
    return values(provisioning.observe_scaling(jobs(*rows), events(*scaled), [run()]))


def replica(submitted, ready, phase="scale", **more):
    return {"submitted": submitted, "decided": submitted, "ready": ready, "phase": phase} | more


def test_scaling_lasts_from_the_decision_until_the_last_replica_is_ready():
    rows = [replica(1.1, 2.0), replica(1.2, 4.0), replica(1.3, 3.0)]

    found = scaling(rows, {"t": 1.0, "kind": "scale", "name": "web"})

    assert found["scaling_time", "scale"] == pytest.approx(3.0)
    assert found["scaling_time_per_replica", "scale"] == pytest.approx(1.0)
    assert found["scaling_replicas", "scale"] == 3


def test_a_deployment_is_a_scale_step_from_its_first_submission():
    found = scaling([replica(-5.0, -3.0, "deploy"), replica(-4.0, -2.0, "deploy")])

    assert found["scaling_time", "deploy"] == pytest.approx(3.0)


def test_each_decision_begins_a_step_and_steps_are_averaged():
    rows = [replica(1.0, 2.0), replica(5.0, 8.0), replica(5.1, 7.0)]

    found = scaling(
        rows,
        {"t": 1.0, "kind": "scale", "name": "web"},
        {"t": 5.0, "kind": "scale", "target": "web"},
    )

    assert found["scaling_time", "scale"] == pytest.approx((1.0 + 3.0) / 2)
    assert found["scaling_time_per_replica", "scale"] == pytest.approx((1.0 + 1.5) / 2)


def test_a_decision_stamped_just_after_its_submissions_is_still_theirs():
    found = scaling([replica(1.0, 2.0)], {"t": 1.02, "kind": "scale", "name": "web"})

    assert found["scaling_time", "scale"] == pytest.approx(1.0)


def test_another_services_decision_begins_no_step():
    found = scaling([replica(1.0, 2.0)], {"t": 0.1, "kind": "scale", "name": "db"})

    assert found["scaling_time", "scale"] == pytest.approx(1.0)


def test_a_replica_that_is_never_ready_makes_scaling_endless():
    found = scaling([replica(1.0, 2.0), replica(1.0, None)])

    assert found["scaling_time", "scale"] == math.inf


def test_batch_jobs_have_no_scale_step():
    assert scaling([replica(1.0, 2.0, **{"class": "batch"})]) == {}
