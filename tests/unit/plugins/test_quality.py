# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import math

import pytest

from ansible_collections.pkgctl.testbed.plugins.module_utils import quality
from ansible_collections.pkgctl.testbed.plugins.module_utils.quality import Quality

UPLINK = Quality(rate=20_000_000, delay=0.012, jitter=0.001, loss=0.001)


def test_nothing_composes_to_an_unshaped_link():
    assert quality.compose() == Quality()
    assert quality.compose().is_unshaped


def test_one_quality_alone_composes_to_itself():
    assert quality.compose(UPLINK, Quality()) == UPLINK


def test_rates_take_the_smallest_and_delays_add():
    both = quality.compose(UPLINK, Quality(rate=5_000_000, delay=0.04))

    assert both.rate == 5_000_000
    assert both.delay == pytest.approx(0.052)


def test_jitters_add_as_variances_and_losses_as_independent_events():
    both = quality.compose(Quality(jitter=0.003, loss=0.1), Quality(jitter=0.004, loss=0.2))

    assert both.jitter == pytest.approx(0.005)
    assert both.loss == pytest.approx(0.28)


def test_down_wins_over_everything():
    assert quality.compose(UPLINK, Quality(loss=1.0), Quality(loss=0.3)).is_down


def test_the_order_of_composition_does_not_matter():
    parts = [UPLINK, Quality(rate=10**6, loss=0.3), Quality(delay=0.2, jitter=0.05)]

    there, back = quality.compose(*parts), quality.compose(*reversed(parts))

    assert there.rate == back.rate
    assert math.isclose(there.delay, back.delay) and math.isclose(there.loss, back.loss)


def test_a_quality_survives_the_way_through_plain_numbers():
    assert Quality.from_dict(UPLINK.to_dict()) == UPLINK
    assert Quality.from_dict(Quality().to_dict()) == Quality()


def test_texts_with_units_are_parsed():
    texts = {"rate": "20mbit", "delay": "12ms", "jitter": "1ms", "loss": "0.1%"}

    assert quality.parse(texts) == UPLINK


@pytest.mark.parametrize(
    ("texts", "start", "hint"),
    [
        ({"rate": "5mbps"}, "rate: ", "5mbit"),
        ({"dely": "1ms"}, "dely: ", "did you mean delay?"),
        ({"loss": "120%"}, "loss: ", "100%"),
    ],
)
def test_a_wrong_text_is_refused_naming_its_key(texts, start, hint):
    with pytest.raises(ValueError) as caught:
        quality.parse(texts)

    assert str(caught.value).startswith(start)
    assert hint in str(caught.value)


@pytest.mark.parametrize(
    "numbers", [{"rate": 0}, {"delay": -1.0}, {"loss": 1.5}, {"jitter": math.inf}, {"rate": "5"}]
)
def test_a_quality_that_no_link_can_have_cannot_be_made(numbers):
    with pytest.raises(ValueError, match=next(iter(numbers))):
        Quality.from_dict(numbers)


@pytest.mark.parametrize(
    ("link", "text"),
    [
        (UPLINK, "20mbit 12ms ±1ms 0.1%"),
        (Quality(), "unshaped"),
        (Quality(loss=1.0), "down"),
        (Quality(delay=0.1 + 0.2), "0.3s"),
    ],
)
def test_a_quality_is_shown_in_the_words_it_is_written_in(link, text):
    assert link.show() == text
