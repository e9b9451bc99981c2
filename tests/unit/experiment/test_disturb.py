# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from pkgctl.experiment import disturb

from .conftest import SMALL


def test_the_words_of_a_perturbation_are_handed_on_with_its_name(small):
    body = small().cells[1].body

    assert disturb.words(body) == {
        "slow": {
            "name": "slow",
            "site": "edge-a",
            "bw": "5mbit",
            "delay": "40ms",
            "start": "1s",
            "duration": "2s",
        }
    }


def test_a_cell_without_perturbations_has_no_words(small):
    assert disturb.words(small().cells[0].body) == {}


def test_a_perturbation_without_a_duration_lasts_until_the_run_is_over(small):
    body = small(text=SMALL.replace("start: 1s, duration: 2s", "start: 1500ms")).cells[1].body

    assert disturb.words(body)["slow"]["duration"] == "2.5s"


def test_a_factor_may_stand_in_a_perturbation(small):
    text = SMALL.replace("bw: 5mbit", 'bw: "${rate}"').replace(
        "factors:", "factors:\n  rate: [1mbit, 2mbit]"
    )

    words = [disturb.words(cell.body) for cell in small(text=text).cells]

    assert {each["slow"]["bw"] for each in words if each} == {"1mbit", "2mbit"}
