# SPDX-License-Identifier: GPL-3.0-or-later
"""A reader is told of runs with which the machine could not keep up."""

from __future__ import annotations

from pkgctl.measure.record import Run, parse_record
from pkgctl.report.sentences import Kind
from pkgctl.report.strain import strain_sentences


def told(*strains: dict[str, float]) -> list[str]:
    sentences = list(strain_sentences([Run("c", 1, strain=each) for each in strains]))
    assert all(each.kind is Kind.CAUTION for each in sentences)
    return [each.text for each in sentences]


def test_nothing_is_said_of_a_machine_that_kept_up():
    assert told({}, {"busy": 0.9, "late_p99": 0.01, "gap": 0.3}) == []


def test_each_way_of_not_keeping_up_is_told_with_the_worst():
    found = told({"busy": 0.97, "late_p99": 0.025}, {"busy": 0.3, "gap": 4.0}, {"busy": 0.91})

    assert len(found) == 3
    assert found[0].startswith("In 2 of 3 runs the machine's processors had work")
    assert "97 %" in found[0]
    assert found[1].startswith("In 1 of 1 runs 1 % of the requests") and "25 ms" in found[1]
    assert "4 s" in found[2] or "4.0 s" in found[2]


def test_strain_is_read_from_the_record():
    run = {"repeat": 1, "strain": {"busy": 1}}
    found = parse_record({"name": "x", "cells": [{"id": "c", "runs": [run]}]})

    assert found.runs[0].strain == {"busy": 1.0}
