# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from pathlib import Path

import pytest

from pkgctl.measure.catalogue import METRICS
from pkgctl.report.numbers import show

PAGE = Path(__file__).parents[3] / "docs" / "results.md"


@pytest.mark.parametrize("name", METRICS)
def test_every_metric_is_documented_with_its_unit(name):
    lines = [line for line in PAGE.read_text().splitlines() if f"`{name}`" in line]

    assert lines, f"docs/results.md does not mention {name}"
    assert any(f"| {METRICS[name].unit} |" in line for line in lines)


@pytest.mark.parametrize("metric", METRICS.values(), ids=lambda metric: metric.name)
def test_every_metric_can_be_shown_and_says_what_it_is(metric):
    assert show(0.5, metric.unit)
    assert metric.definition.endswith(".")
    assert metric.better in ("lower", "higher", "")
