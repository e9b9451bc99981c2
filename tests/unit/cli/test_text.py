# SPDX-License-Identifier: GPL-3.0-or-later
"""What commands read alike."""

from __future__ import annotations

import pytest

from pkgctl.cli.text import pairs
from pkgctl.errors import SpecError


def test_a_value_is_all_that_follows_the_first_equals_sign():
    found = pairs(["impairment=delay line", "a=b=c"], "key=value", "x=y")

    assert found == {"impairment": "delay line", "a": "b=c"}


@pytest.mark.parametrize(
    ("texts", "option", "message"),
    [
        (["bw"], "", "'bw' is no word=value; write one such as bw=5mbit"),
        (["=x"], "--set", "--set '=x' is no word=value; write one such as bw=5mbit"),
        (["bw="], "--set", "--set 'bw=' is no word=value; write one such as bw=5mbit"),
        (["a=1", "a=2"], "", "a is given twice"),
        (["a=1", "a=2"], "--set", "--set: a is given twice"),
    ],
)
def test_what_is_no_pair_or_comes_twice_is_told_in_one_line(texts, option, message):
    with pytest.raises(SpecError) as error:
        pairs(texts, "word=value", "bw=5mbit", option)

    assert str(error.value) == message
