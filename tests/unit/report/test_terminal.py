# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest

from pkgctl.report import summary_text
from tests.unit.report.synthetic import Shape, write_run


def lines_of(folder):
    lines = summary_text(folder).splitlines()
    assert len(lines) <= 25
    assert all(len(line) <= 80 for line in lines[:-1])
    return lines


def test_a_run_ends_with_its_answer_its_numbers_and_the_reports_path(whole):
    lines = lines_of(whole)

    assert lines[0] == "scaling: complete, 8 cells, 24 runs"
    assert lines[1].startswith("What does it cost to scale")
    assert any(line.startswith("+ Going from replicas = 1 to 8 cut the p95") for line in lines)
    assert any(line.startswith("1, slow-uplink") for line in lines)
    assert lines[-1] == f"Report: {whole / 'report.html'}"


def test_there_are_only_ordinary_blanks(whole):
    assert "\xa0" not in summary_text(whole)


def test_what_is_missing_is_told(tmp_path):
    folder = write_run(tmp_path / "run", Shape(factors={"replicas": [1]}, repeats=1))
    (folder / "links.parquet").unlink()

    assert "Missing: links.parquet: missing" in lines_of(folder)


@pytest.mark.parametrize(
    "shape",
    [
        Shape(factors={f"factor-with-a-long-name-{at}": ["a" * 40, "b" * 40] for at in range(3)}),
        Shape(factors={"replicas": list(range(1, 13))}, repeats=1),
        Shape(factors={}, rate=0.0),
        Shape(factors={"replicas": [2]}, rate=0.0, batch=True),
    ],
    ids=["long names", "many cells", "nothing", "batch"],
)
def test_it_stays_within_25_lines_of_80_columns(tmp_path, shape):
    lines_of(write_run(tmp_path / "run", shape))


def test_an_empty_run_has_a_summary(tmp_path):
    (tmp_path / "run.json").write_text('{"format": 1, "name": "empty"}')

    assert lines_of(tmp_path)[0] == "empty: running, 0 cells, 0 runs"
