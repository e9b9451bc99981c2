# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from pkgctl.experiment import disturb
from pkgctl.nodeside import words

from .conftest import SMALL


def test_the_words_of_a_perturbation_are_handed_on_with_its_name(small):
    body = small().cells[1].body

    assert disturb.words(body) == {
        "slow": {
            "name": "slow",
            "seed": words.seed_of(7, "perturb", "slow"),
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

    found = [disturb.words(cell.body) for cell in small(text=text).cells]

    assert {each["slow"]["bw"] for each in found if each} == {"1mbit", "2mbit"}


def test_a_perturbation_that_waits_has_no_times_of_its_own(small):
    text = SMALL.replace("start: 1s, duration: 2s", "when: requests > 10")
    body = small(text=text).cells[1].body

    assert {*disturb.words(body)["slow"]} == {"name", "seed", "site", "bw", "delay", "when"}
    assert disturb.open_ended(body) == {"slow"}


def test_one_with_times_ends_by_itself(small):
    assert disturb.open_ended(small().cells[1].body) == set()


def test_healing_several_is_one_play_and_healing_none_is_none(monkeypatch, tmp_path):
    played = []
    monkeypatch.setattr(disturb.playbook, "play", lambda name, given, **_: played.append(given))

    disturb.heal(["slow", "cut"], disturb.Paths("t"), tmp_path)
    disturb.heal([], disturb.Paths("t"), tmp_path)

    assert played == [{"name": "slow,cut"}]
