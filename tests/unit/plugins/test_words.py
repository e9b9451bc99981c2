# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest

from ansible_collections.pkgctl.testbed.plugins.module_utils import words


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("bandwidht", "bw"),
        ("latencies", "delay"),
        ("isolate", "health"),
        ("ttl", "lease"),
        ("bandwidth", "bw"),
        ("latency", "delay"),
        ("latancy", "delay"),
        ("memory", "mem"),
        ("durration", "duration"),
        ("Source", "src"),
        ("cpus", "cpu"),
    ],
)
def test_an_unknown_word_is_refused_with_the_nearest_right_one(wrong, right):
    with pytest.raises(ValueError) as caught:
        words.check_words([wrong], words.WORDS)

    assert str(caught.value) == f"{wrong}: unknown word; did you mean {right}?"


def test_a_word_like_no_other_is_refused_with_all_that_there_are():
    with pytest.raises(ValueError, match="zzz: unknown word; known are name, node, site"):
        words.check_words(["zzz"], words.HEAL_WORDS)


def test_a_word_is_not_hinted_at_where_it_has_no_meaning():
    with pytest.raises(ValueError, match="known are name, node, site"):
        words.check_words(["bandwidth"], words.HEAL_WORDS)


@pytest.mark.parametrize("name", ["slow", "slow-uplink", "a", "v1.2_x"])
def test_a_name_is_of_lower_case_letters_digits_and_signs(name):
    assert words.read_name("name", name) == name


@pytest.mark.parametrize("name", ["", "Slow", "-a", "a b", "a/b", "x" * 64, "..", 3, None, "base"])
def test_another_name_is_refused(name):
    with pytest.raises(ValueError, match=r"^name: "):
        words.read_name("name", name)


@pytest.mark.parametrize(
    ("value", "names"),
    [
        ("slow", ("slow",)),
        ("slow,cut", ("slow", "cut")),
        ("slow, cut,slow", ("slow", "cut")),
        (["slow", "cut"], ("slow", "cut")),
    ],
)
def test_several_names_are_a_list_or_joined_by_commas(value, names):
    assert words.read_names("name", value) == names


@pytest.mark.parametrize("value", ["slow,", "Slow", "", ["a", 3], None, {}, "base"])
def test_a_wrong_name_among_several_is_refused(value):
    with pytest.raises(ValueError, match=r"^name: "):
        words.read_names("name", value)


@pytest.mark.parametrize(("value", "seed"), [(0, 0), ("7", 7), (2**63 - 1, 2**63 - 1)])
def test_a_seed_is_a_whole_number(value, seed):
    assert words.read_seed(value) == seed


@pytest.mark.parametrize("value", [-1, "x", True, 1.5, 2**63, "9" * 30, None, [], "٣"])
def test_another_seed_is_refused(value):
    with pytest.raises(ValueError, match=r"^seed: .* is no whole number"):
        words.read_seed(value)


def test_a_seed_follows_from_labels_and_stays_the_same():
    assert words.seed_of("perturb") == words.seed_of("perturb") == 2645232262
    assert words.seed_of("slow") != words.seed_of("cut")


@pytest.mark.parametrize("value", [True, "true", "yes", "Yes", "1", 1])
def test_a_flag_may_be_written_in_several_ways(value):
    assert words.read_flag("force", value) is True


@pytest.mark.parametrize("value", ["perhaps", 2, None, [], {"a": 1}, 1.5])
def test_another_flag_is_refused(value):
    with pytest.raises(ValueError, match=r"^force: .* is neither true nor false"):
        words.read_flag("force", value)


def test_every_word_is_known_once():
    assert len(set(words.WORDS)) == len(words.WORDS)
    assert {*words.SETTING_WORDS, *words.TIME_WORDS, *words.SELECTOR_WORDS} < {*words.WORDS}
