# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest

from pkgctl.report.settings import settings


def told(folder, text):
    (folder / "experiment.yaml").write_text(text)
    return settings(folder)


def test_a_setting_is_what_a_perturbation_does_without_where_and_when(tmp_path):
    text = """
perturbations:
  slow: {src: {site: edge-a}, dst: {site: cloud}, delay: 40ms, bw: 5mbit, start: 2s, duration: 2s}
  cut: {site: edge-a, partition: true}
"""

    assert told(tmp_path, text) == {"slow": "bw 5mbit, delay 40ms", "cut": "partition true"}


def test_a_value_that_differs_between_cells_is_not_quoted(tmp_path):
    assert told(tmp_path, 'perturbations: {slow: {bw: "${rate}", delay: 1ms}}') == {
        "slow": "delay 1ms"
    }
    assert told(tmp_path, 'perturbations: {slow: {bw: "${rate}"}}') == {}


def test_a_text_that_is_too_long_is_not_quoted(tmp_path):
    assert told(tmp_path, f"perturbations: {{slow: {{disk: {'x' * 100}}}}}") == {}


@pytest.mark.parametrize(
    "text", ["", "[", "a: [1", "perturbations: 5", "perturbations: {x: 5}", "5", "\x00"]
)
def test_what_cannot_be_read_is_not_quoted(tmp_path, text):
    assert told(tmp_path, text) == {}


def test_a_file_that_is_not_there_is_not_quoted(tmp_path):
    assert settings(tmp_path) == {}
