# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest

from pkgctl.errors import PlayError, SpecError, nearest


@pytest.mark.parametrize(
    ("place", "text"),
    [
        ({}, "is wrong"),
        ({"file": "a.yaml"}, "a.yaml: is wrong"),
        ({"file": "a.yaml", "line": 3}, "a.yaml:3: is wrong"),
        (
            {"file": "a.yaml", "line": 3, "key": "links[0].rate"},
            "a.yaml:3: links[0].rate: is wrong",
        ),
        ({"key": "bw"}, "bw: is wrong"),
    ],
)
def test_an_error_puts_its_place_before_its_message(place, text):
    error = SpecError("is wrong", **place)

    assert str(error) == text
    assert (error.file, error.line, error.key) == tuple(map(place.get, ("file", "line", "key")))


def test_a_failed_play_says_what_each_host_said_in_one_line():
    error = PlayError("perturb.yml", {"edge-2": "no route", "edge-1": "no disk"})

    assert str(error) == "perturb.yml failed on 2 hosts. edge-1: no disk; edge-2: no route"
    assert error.failures["edge-2"] == "no route"


@pytest.mark.parametrize(
    ("name", "known", "hint"),
    [
        ("egde-1", ["edge-1", "cloud-1"], "did you mean edge-1?"),
        ("EDGE-1", ["edge-1"], "did you mean edge-1?"),
        ("zebra", ["edge", "cloud"], "known are cloud, edge"),
        ("zebra", [], "known are none"),
        (None, ["edge"], "known are edge"),
    ],
)
def test_the_hint_names_what_was_likely_meant_else_what_there_is(name, known, hint):
    assert nearest(name, known) == hint


def test_the_hint_stays_short_with_many_names():
    hint = nearest("zebra", [f"node-{number}" for number in range(1000)])

    assert hint.endswith(" and 988 more")
    assert len(hint) < 200
