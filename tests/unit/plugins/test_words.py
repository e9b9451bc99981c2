# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest

from ansible_collections.pkgctl.testbed.plugins.module_utils import words


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("bandwidht", "bw"),
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


def test_the_words_of_links_and_capacity_keep_their_texts():
    assert words.read_link({"bw": "5mbit", "loss": 0.01}) == {"rate": "5mbit", "loss": "0.01"}
    assert words.read_quota({"mem": "128Mi", "pids": 64, "io": "1Mi/s"}) == {
        "memory": "128Mi",
        "pids": "64",
        "io": "1Mi/s",
    }


@pytest.mark.parametrize("flag", [True, "true", "yes", "Yes", "1", 1])
def test_a_partition_loses_everything(flag):
    assert words.read_link({"partition": flag}) == {"loss": "100%"}


def test_no_partition_is_nothing():
    assert words.read_link({"partition": "no", "delay": "1ms"}) == {"delay": "1ms"}


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ({"partition": "yes", "delay": "1ms"}, "delay: means nothing beside partition"),
        ({"partition": "perhaps"}, "partition: 'perhaps' is neither true nor false"),
        ({"bw": "5mbps"}, "bw: rate '5mbps' has the unit 'mbps'"),
        ({"delay": "40"}, "delay: duration '40' has no unit"),
        ({"loss": "150%"}, "loss: ratio '150%' is above 100%"),
    ],
)
def test_a_wrong_value_for_a_link_is_refused_with_its_word(given, error):
    with pytest.raises(ValueError) as caught:
        words.read_link(given)

    assert str(caught.value).startswith(error)


@pytest.mark.parametrize(
    "given", [{"cpu": "0"}, {"cpu": "much"}, {"mem": "12Mb"}, {"pids": "3.5"}, {"io": "-1"}]
)
def test_a_wrong_value_for_capacity_is_refused_with_its_word(given):
    with pytest.raises(ValueError, match=f"^{next(iter(given))}: "):
        words.read_quota(given)


@pytest.mark.parametrize(
    ("value", "parts"),
    [
        ("unmounted", {"condition": "unmounted"}),
        ("data:readonly", {"condition": "readonly", "disk": "data"}),
        ({"data": "mounted"}, {"condition": "mounted", "disk": "data"}),
    ],
)
def test_a_disk_is_given_by_its_condition_with_or_without_its_name(value, parts):
    assert words.read_disk(value) == parts


@pytest.mark.parametrize("value", ["gone", "data:", "data", {}, {"a": "mounted", "b": "x"}, 3])
def test_another_condition_of_a_disk_is_refused(value):
    with pytest.raises(ValueError, match=r"^disk: .* is no condition"):
        words.read_disk(value)


@pytest.mark.parametrize("name", ["slow", "slow-uplink", "a", "v1.2_x"])
def test_a_name_is_of_lower_case_letters_digits_and_signs(name):
    assert words.read_name("name", name) == name


@pytest.mark.parametrize("name", ["", "Slow", "-a", "a b", "a/b", "x" * 64, "..", 3, None, "base"])
def test_another_name_is_refused(name):
    with pytest.raises(ValueError, match=r"^name: "):
        words.read_name("name", name)


def test_a_duration_of_nothing_is_refused_but_a_start_at_once_is_not():
    assert words.read_duration("start", "0s") == 0
    with pytest.raises(ValueError, match=r"^duration: must be above zero"):
        words.read_duration("duration", "0s")
