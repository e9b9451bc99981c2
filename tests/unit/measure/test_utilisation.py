# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest

from pkgctl.measure import utilisation
from pkgctl.measure.record import Node
from pkgctl.measure.utilisation import ALL_NODES
from tests.unit.measure.rows import jobs, run, samples, values

NODES = (Node("a", cpu=2.0, memory=1000.0), Node("b", cpu=1.0, memory=1000.0))


def sample(t, cpu, node="a", **more):
    return {"t": t, "node": node, "cpu_seconds": cpu, "memory_bytes": 500.0} | more


def placed(cpu=1.0, node="a", decided=-1.0, finished=None, **more):
    claim = {"cpu": cpu, "memory": 200, "node": node, "decided": decided, "finished": finished}
    return claim | more


def of(rows, jobs_=(), subject="a", windows=()):
    found = utilisation.observe(samples(*rows), jobs(*jobs_), [run(windows=windows)], NODES)
    return values(found, subject)


def test_use_is_core_seconds_over_cores_times_time():
    found = of([sample(0.0, 0.0), sample(10.0, 5.0)])

    assert found["cpu_used_of_capacity", "all"] == pytest.approx(5.0 / (2.0 * 10.0))
    assert found["cpu_used_of_allocated", "all"] is None


def test_allocation_is_weighted_by_time():
    half = placed(cpu=1.0, decided=5.0)
    done = placed(cpu=0.5, decided=-3.0, finished=2.0)

    found = of([sample(0.0, 0.0), sample(10.0, 3.0)], [half, done])

    allocated = 1.0 * 5.0 + 0.5 * 2.0
    assert found["cpu_allocated_of_capacity", "all"] == pytest.approx(allocated / 20.0)
    assert found["cpu_used_of_allocated", "all"] == pytest.approx(3.0 / allocated)
    assert found["memory_allocated_of_capacity", "all"] == pytest.approx(200 * 7 / 10_000)


def test_load_generators_and_jobs_without_a_place_hold_nothing():
    client = placed(**{"class": "client"})
    waiting = placed(decided=None)

    found = of([sample(0.0, 0.0), sample(10.0, 3.0)], [client, waiting])

    assert found["cpu_allocated_of_capacity", "all"] == 0


def test_memory_is_the_mean_over_time():
    rows = [sample(0.0, 0, memory_bytes=0.0), sample(10.0, 1, memory_bytes=1000.0)]

    assert of(rows)["memory_used_of_capacity", "all"] == pytest.approx(0.5)


def test_phases_share_out_what_was_used():
    rows = [sample(0.0, 0.0), sample(2.0, 0.0), sample(4.0, 4.0), sample(10.0, 4.0)]

    found = of(rows, windows=[(2.0, 4.0)])

    assert found["cpu_used_of_capacity", "before"] == 0
    assert found["cpu_used_of_capacity", "during"] == pytest.approx(1.0)
    assert found["cpu_used_of_capacity", "after"] == 0
    assert found["cpu_used_of_capacity", "all"] == pytest.approx(0.2)


def test_over_and_under_utilised_are_shares_of_time():
    rows = [sample(0.0, 0.0), sample(1.0, 1.8), sample(5.0, 1.8), sample(10.0, 6.8)]

    found = of(rows)

    # 1 s at 90 %, 4 s at nothing, 5 s at 50 %
    assert found["overutilised_share", "all"] == pytest.approx(0.1)
    assert found["underutilised_share", "all"] == pytest.approx(0.4)


def test_throttling_and_bytes_are_growth_of_counters():
    rows = [
        sample(0.0, 0.0, throttled_seconds=1.0, rx_bytes=100, tx_bytes=5, read_bytes=0),
        sample(10.0, 0.0, throttled_seconds=3.0, rx_bytes=400, tx_bytes=5, read_bytes=64),
    ]

    found = of(rows)

    assert found["cpu_throttled", "all"] == pytest.approx(0.2)
    assert found["network_received", "all"] == pytest.approx(300)
    assert found["network_sent", "all"] == 0
    assert found["disk_read", "all"] == pytest.approx(64)


def test_all_nodes_are_sums_over_sums():
    rows = [sample(0.0, 0.0), sample(10.0, 10.0), sample(0.0, 0.0, "b"), sample(10.0, 2.0, "b")]

    found = of(rows, [placed(cpu=1.0)], ALL_NODES)

    assert found["cpu_used_of_capacity", "all"] == pytest.approx(12.0 / 30.0)
    assert found["cpu_allocated_of_capacity", "all"] == pytest.approx(10.0 / 30.0)


def test_a_node_without_a_known_capacity_has_no_ratio_to_it():
    rows = [sample(0.0, 0.0, "stranger"), sample(10.0, 1.0, "stranger")]

    found = of(rows, subject="stranger")

    assert found["cpu_used_of_capacity", "all"] is None
    assert found["network_sent", "all"] == 0
    assert ("overutilised_share", "all") not in found


def test_only_sampled_time_counts_as_capacity():
    rows = [sample(4.0, 0.0), sample(6.0, 4.0)]

    assert of(rows)["cpu_used_of_capacity", "all"] == pytest.approx(1.0)


def test_a_service_is_the_sum_of_its_jobs():
    rows = [
        sample(0.0, 0.0, job="j0", throttled_seconds=0.0),
        sample(10.0, 1.0, job="j0", throttled_seconds=2.0),
        sample(5.0, 0.0, job="j1", throttled_seconds=0.0),
        sample(10.0, 1.0, job="j1", throttled_seconds=4.0),
        sample(0.0, 0.0, job="stranger"),
        sample(10.0, 9.0, job="stranger"),
    ]
    placed_ = jobs(placed(cpu=0.2), placed(cpu=0.2))

    found = values(utilisation.observe_services(samples(*rows), placed_, [run()]), "web")

    assert found["service_cpu_used_of_allocated", "all"] == pytest.approx(2.0 / (0.2 * 15.0))
    assert found["service_cpu_throttled", "all"] == pytest.approx(6.0 / 15.0)
