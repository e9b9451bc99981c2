# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest

from pkgctl.spec import substitute


def test_a_place_alone_takes_the_value_with_its_type():
    assert substitute.fill({"a": "${n}"}, {"n": 3}) == {"a": 3}


def test_a_place_inside_a_text_takes_the_value_as_text():
    assert substitute.fill(["${n}mbit", "x${n}y${m}"], {"n": 5, "m": 0.5}) == ["5mbit", "x5y0.5"]


def test_an_unknown_place_stays_as_it_is():
    assert substitute.fill("${other}", {"n": 5}) == "${other}"


def test_every_place_is_found_with_the_steps_to_it():
    found = list(substitute.places({"a": ["${x}", {"b": "is ${y} and ${z}"}]}))

    assert found == [(("a", 0), "x"), (("a", 1, "b"), "y"), (("a", 1, "b"), "z")]


def test_putting_a_value_leaves_the_document_as_it_was():
    document = {"a": {"b": [1, 2]}}

    changed, steps = substitute.put(document, "a.b.1", 9)

    assert changed == {"a": {"b": [1, 9]}}
    assert steps == ("a", "b", 1)
    assert document == {"a": {"b": [1, 2]}}


def test_putting_makes_the_mappings_that_are_missing():
    assert substitute.put({}, "a.b.c", 1) == ({"a": {"b": {"c": 1}}}, ("a", "b", "c"))


@pytest.mark.parametrize("path", ["", "a.", ".a", "a..b"])
def test_an_empty_part_of_a_key_path_is_refused(path):
    with pytest.raises(ValueError, match="empty"):
        substitute.put({}, path, 1)


def test_the_last_factor_turns_fastest():
    crossed = substitute.cross({"a": [1, 2], "b": ["x", "y"]})

    assert [substitute.cell_id(levels) for levels in crossed] == [
        "a=1,b=x",
        "a=1,b=y",
        "a=2,b=x",
        "a=2,b=y",
    ]
