# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import math

import polars as pl
import pytest

from pkgctl.measure.observations import Observation
from pkgctl.measure.record import Cell, Record, Run
from pkgctl.measure.table import factor_columns, tabulate, to_frame


def seen(*values, metric="latency_p95", note="", count=50):
    return [
        Observation(metric, "web", "all", "c", repeat, value, count, note if value is None else "")
        for repeat, value in enumerate(values)
    ]


def row(*values, **more):
    (found,) = tabulate(seen(*values, **more)).rows
    return found


def test_a_row_is_the_mean_of_the_repeats_with_students_interval():
    found = row(1.0, 2.0, 3.0)

    assert found.mean == pytest.approx(2.0)
    assert found.interval.high == pytest.approx(2 + 2.484138, abs=1e-5)
    assert found.values == (1.0, 2.0, 3.0)
    assert found.samples == 150


def test_an_interval_is_cut_at_what_the_quantity_can_be():
    assert row(1.0, 2.0, 3.0).interval.low == 0.0
    assert row(0.9, 1.0, 0.8, metric="slo_attainment").interval.high == 1.0
    assert row(0.9, 1.0, 1.1, metric="cpu_used_of_capacity").interval.high > 1.2


def test_one_repeat_has_no_interval_and_says_so():
    found = row(1.5)

    assert (found.mean, found.interval, found.note) == (1.5, None, "one repeat: no interval")


def test_an_infinite_repeat_makes_the_mean_infinite_and_is_told():
    found = row(1.0, math.inf, 2.0)

    assert found.mean == math.inf
    assert found.interval is None
    assert found.note == "unbounded in 1 of 3 repeats"


def test_repeats_that_may_not_state_a_value_are_left_out_and_told():
    found = row(1.0, None, 3.0, note="few samples (under 20)")

    assert found.mean == pytest.approx(2.0)
    assert found.stated == (1.0, 3.0)
    assert found.by_repeat == {0: 1.0, 2: 3.0}
    assert found.note == "1 of 3 repeats: few samples (under 20)"


def test_repeats_are_put_in_order():
    found = tabulate(reversed(seen(1.0, 2.0))).rows[0]

    assert (found.repeats, found.values) == ((0, 1), (1.0, 2.0))


def test_rows_are_found_by_what_they_are_about():
    table = tabulate(seen(1.0) + seen(0.5, metric="miss_share"))

    assert table.find("miss_share", "web", "all", "c").mean == 0.5
    assert table.find("miss_share", "web", "all", "other") is None
    assert table.subjects("miss_share") == ["web"]
    assert table.phases("miss_share") == ["all"]


def record(**factors):
    cell = Cell("c", {name: levels[0] for name, levels in factors.items()}, (Run("c", 0),))
    return Record("x", factors=factors, cells=(cell,))


def test_the_frame_has_a_column_for_each_factor_in_its_own_type():
    frame = to_frame(
        tabulate(seen(1.0)),
        record(replicas=(1, 2), share=(0.5, 1), fast=(True, False), mix=(1, "a")),
    )

    kinds = {name: frame.schema[name] for name in ("replicas", "share", "fast", "mix")}
    assert kinds == {
        "replicas": pl.Int64,
        "share": pl.Float64,
        "fast": pl.Boolean,
        "mix": pl.String,
    }
    assert frame.row(0, named=True)["replicas"] == 1
    assert frame.row(0, named=True)["unit"] == "s"


def test_a_factor_with_a_taken_name_gets_another():
    assert factor_columns(["phase", "replicas"]) == {
        "phase": "phase_factor",
        "replicas": "replicas",
    }
    assert "phase_factor" in to_frame(tabulate(seen(1.0)), record(phase=("a",))).columns


def test_an_empty_table_is_an_empty_frame_with_all_columns():
    frame = to_frame(tabulate([]), record(replicas=(1,)))

    assert frame.height == 0
    assert {"metric", "replicas", "mean", "values", "pooled_low"} <= set(frame.columns)


def test_values_by_repeat_survive_the_file(tmp_path):
    frame = to_frame(tabulate(seen(1.0, None, math.inf)), record(replicas=(1,)))
    frame.write_parquet(tmp_path / "m.parquet")

    back = pl.read_parquet(tmp_path / "m.parquet").row(0, named=True)

    assert back["values"] == [1.0, None, math.inf]
    assert back["repeats"] == [0, 1, 2]
