# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import polars as pl
import pytest

from pkgctl.measure.phases import Span, length, of_time, spans, stretches, within
from pkgctl.measure.record import Window
from tests.unit.measure.rows import run


def test_a_run_without_windows_is_all_before():
    assert spans(run(duration=6.0)) == (Span("before", 0.0, 6.0),)


def test_a_window_cuts_a_run_in_three():
    found = spans(run(duration=6.0, windows=[(2.0, 4.0)]))

    assert found == (Span("before", 0, 2), Span("during", 2, 4), Span("after", 4, 6))


def test_a_window_without_an_end_lasts_until_the_run_ends():
    assert spans(run(duration=6.0, windows=[(2.0, None)])) == (
        Span("before", 0, 2),
        Span("during", 2, 6),
    )


def test_overlapping_and_touching_windows_are_one():
    found = spans(run(windows=[(4.0, 6.0), (2.0, 5.0), (6.0, 7.0)]))

    assert [(each.phase, each.start, each.end) for each in found if each.phase == "during"] == [
        ("during", 2.0, 7.0)
    ]


def test_time_between_two_windows_is_a_phase_of_its_own():
    found = spans(run(windows=[(2.0, 3.0), (5.0, 6.0)]))

    assert [each.phase for each in found] == ["before", "during", "between", "during", "after"]


def test_only_its_own_disturbances_cut_a_run():
    own, other = Window("own", 2.0, 4.0), Window("other", 6.0, 8.0, active=False)
    one = replace(run(duration=10.0), windows=(own, other))

    assert spans(one) == (Span("before", 0, 2), Span("during", 2, 4), Span("after", 4, 10))


def test_a_run_without_disturbances_is_cut_by_those_of_the_others():
    windows = (Window("one", 2.0, 4.0, active=False), Window("two", 3.0, 5.0, active=False))
    one = replace(run(duration=10.0), windows=windows)

    assert spans(one) == (Span("before", 0, 2), Span("during", 2, 5), Span("after", 5, 10))


def test_windows_outside_of_the_run_are_cut_or_ignored():
    assert spans(run(windows=[(-1.0, 2.0)]))[0] == Span("during", 0, 2)
    assert spans(run(duration=10.0, windows=[(11.0, 12.0)])) == (Span("before", 0, 10),)


@pytest.mark.parametrize("windows", [[], [(2.0, 4.0)], [(0.0, 3.0), (5.0, None)], [(1, 2), (3, 4)]])
def test_the_spans_cover_the_run_without_gap_or_overlap(windows):
    found = spans(run(duration=10.0, windows=windows))

    assert length(found) == 10.0
    assert all(one.end == two.start for one, two in pairwise(found))


def test_phases_to_report_are_all_and_the_parts():
    assert list(stretches(run())) == ["all"]
    assert list(stretches(run(windows=[(2, 4)]))) == ["all", "before", "during", "after"]
    assert list(stretches(run(windows=[(0, None)]))) == ["all", "during"]


def test_a_time_on_an_edge_belongs_to_what_begins_there():
    times = pl.DataFrame({"t": [-0.1, 0.0, 1.999, 2.0, 3.999, 4.0, 99.0]})
    one = run(windows=[(2.0, 4.0)])

    found = times.select(of_time("t", one).alias("phase"))["phase"].to_list()

    assert found == ["before", "before", "before", "during", "during", "after", "after"]


def test_within_takes_the_start_and_not_the_end():
    times = pl.DataFrame({"t": [0.0, 1.0, 2.0, 2.5, 3.0]})

    kept = times.filter(within("t", [Span("x", 1.0, 2.0), Span("x", 2.5, 3.0)]))

    assert kept["t"].to_list() == [1.0, 2.5]
