# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pkgctl.cluster import quantities


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("0", 0),
        ("100m", Fraction(1, 10)),
        ("1.5", Fraction(3, 2)),
        (".5", Fraction(1, 2)),
        ("64Mi", 64 * 2**20),
        ("5G", 5 * 10**9),
        ("1Ki", 1024),
        ("2k", 2000),
        ("1e3", 1000),
        ("12E2", 1200),
        ("1E", 10**18),
        ("1Ei", 2**60),
        ("1e-3", Fraction(1, 1000)),
        ("3n", Fraction(3, 10**9)),
        ("250u", Fraction(1, 4000)),
        ("+2", 2),
        ("-1", -1),
        ("1.", 1),
    ],
)
def test_a_quantity_is_exactly_its_number(text, number):
    assert quantities.exactly(text) == number


@pytest.mark.parametrize(
    "text", ["", "1mi", "1KI", "ten", "1 Gi", "1Gi ", "--1", ".", "1e", "1MM", "²"]
)
def test_what_is_no_quantity_is_named(text):
    with pytest.raises(ValueError, match="is no quantity"):
        quantities.exactly(text)


@pytest.mark.parametrize(("text", "amount"), [("100m", 100), ("0.1", 100), ("1n", 1), ("2", 2000)])
def test_cpu_is_in_thousandths_rounded_up(text, amount):
    assert quantities.millicores(text) == amount


@pytest.mark.parametrize(("text", "amount"), [("1.5Ki", 1536), ("100m", 1), ("1e3", 1000)])
def test_bytes_are_whole_and_rounded_up(text, amount):
    assert quantities.whole(text) == amount


@given(st.integers(0, 2**62))
def test_what_is_shown_is_read_back_as_it_was(amount):
    assert quantities.whole(quantities.show_bytes(amount)) == amount
    assert quantities.millicores(quantities.show_millicores(amount)) == amount


@pytest.mark.parametrize(
    ("amount", "text"),
    [(0, "0"), (1000, "1000"), (2**20, "1Mi"), (1536, "1536"), (3 * 2**30, "3Gi")],
)
def test_bytes_are_shown_in_the_largest_unit_that_is_exact(amount, text):
    assert quantities.show_bytes(amount) == text


@pytest.mark.parametrize(
    ("amount", "text"), [(0, "0"), (250, "250m"), (1500, "1500m"), (2000, "2")]
)
def test_cpu_is_shown_in_cores_if_they_are_whole(amount, text):
    assert quantities.show_millicores(amount) == text
