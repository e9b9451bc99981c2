# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest

from pkgctl.watch import numbers, words


@pytest.mark.parametrize(
    ("nodes", "text"),
    [
        (["edge-1"], "edge-1"),
        (["edge-2", "edge-1"], "edge-1, edge-2"),
        (["edge-1", "edge-2", "edge-3"], "edge-1 +2"),
        (["a", "b", "c", "d"], "all 4"),
        ([], ""),
    ],
)
def test_nodes_are_named_in_short(nodes, text):
    assert words.names(nodes, 4) == text


def both(*couples):
    return {*couples, *((far, near) for near, far in couples)}


@pytest.mark.parametrize(
    ("pairs", "text"),
    [
        ({("a", "b")}, "a -> b"),
        (both(("a", "b")), "a <-> b"),
        ({("a", "b"), ("a", "c")}, "a -> b, c"),
        ({("a", "b"), ("a", "c"), ("a", "d")}, "a -> others"),
        (both(("a", "b"), ("a", "c"), ("a", "d")), "a <-> others"),
        (both(("a", "c"), ("a", "d"), ("b", "c"), ("b", "d")), "a, b <-> others"),
        (both(("a", "b"), ("a", "c"), ("b", "c")), "among a +2"),
        (both(("a", "b"), ("b", "c"), ("c", "d")), "3 links of 4 nodes"),
        ({("a", "b"), ("b", "c"), ("c", "d")}, "3 directions of 4 nodes"),
        (set(), ""),
    ],
)
def test_pairs_are_named_in_short(pairs, text):
    assert words.pairs(pairs, 4) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-1, "0.0s"),
        (0.84, "0.8s"),
        (9.94, "9.9s"),
        (9.96, "10s"),
        (59.4, "59s"),
        (59.6, "1m00s"),
        (552, "9m12s"),
        (7500, "2h05m"),
    ],
)
def test_times_to_wait_are_short(seconds, text):
    assert words.seconds(seconds) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"),
        (0, "0"),
        (0.001, "0"),
        (950, "950"),
        (999.4, "999"),
        (999.6, "1k"),
        (1234, "1.23k"),
        (12_340_000, "12.3M"),
        (999_600_000, "1G"),
        (5e6, "5M"),
        (2e12, "2T"),
    ],
)
def test_figures_take_five_characters(value, text):
    assert numbers.figure(value) == text
    assert len(text) <= 5


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"),
        (512, "512"),
        (1023.6, "1K"),
        (1536, "1.5K"),
        (384 << 20, "384M"),
        (3 << 30, "3G"),
    ],
)
def test_sizes_take_five_characters(value, text):
    assert numbers.size(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "-"), (0.0, "0%"), (0.001, "<1%"), (0.42, "42%"), (1.35, "135%"), (1e9, "9999%")],
)
def test_shares_are_whole_percents(value, text):
    assert numbers.share(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "-"), (0.02, "2%"), (0.0012, "0.12%"), (0.0215, "2.1%"), (1.0, "100%")],
)
def test_losses_keep_two_digits(value, text):
    assert numbers.ratio(value) == text


@pytest.mark.parametrize(
    ("value", "text"), [(85e-6, "85us"), (0.04, "40ms"), (0.01234, "12.3ms"), (1.5, "1.5s")]
)
def test_delays_have_their_unit(value, text):
    assert numbers.time(value) == text
