# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import random

import pytest

from ansible_collections.pkgctl.testbed.plugins.module_utils import units


@pytest.mark.parametrize(
    ("text", "bits"),
    [("5mbit", 5_000_000), ("1.5mbit", 1_500_000), ("256 kbit", 256_000), ("1Gbit", 10**9)],
)
def test_a_rate_is_read_as_bits_a_second(text, bits):
    assert units.rate(text) == bits


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("40ms", 0.04), ("1m30s", 90.0), ("250us", 0.00025), ("2h", 7200.0), (0, 0.0), ("0.1s", 0.1)],
)
def test_a_duration_is_read_as_seconds(text, seconds):
    assert units.duration(text) == seconds


@pytest.mark.parametrize(
    ("text", "count"),
    [("128Mi", 2**27), ("1.5Ki", 1536), (4096, 4096), ("2G", 2 * 10**9), ("7B", 7), (64.0, 64)],
)
def test_a_size_is_read_as_bytes(text, count):
    assert units.size(text) == count


@pytest.mark.parametrize(
    ("text", "part"), [("1%", 0.01), ("100%", 1.0), (0.25, 0.25), ("0.25", 0.25), (1.0, 1.0)]
)
def test_a_ratio_is_read_as_a_part_of_one(text, part):
    assert units.ratio(text) == part


@pytest.mark.parametrize(("text", "cores"), [("500m", 0.5), ("0.5", 0.5), (2, 2.0), ("1m", 0.001)])
def test_cpu_is_read_as_cores(text, cores):
    assert units.cpu(text) == cores


@pytest.mark.parametrize(
    ("reader", "text", "hint"),
    [
        (units.rate, "5mbps", "did you mean 5mbit"),
        (units.rate, "5mbps", "bytes a second"),
        (units.rate, "5mb", "did you mean 5mbit"),
        (units.rate, 5, "did you mean 5mbit"),
        (units.rate, "5mbti", "did you mean 5mbit"),
        (units.rate, "0kbit", "above zero"),
        (units.rate, "0.5bit", "whole number of bits"),
        (units.duration, "90", "no unit"),
        (units.duration, "5min", "did you mean 5m?"),
        (units.duration, "1m30", "did you mean 1m30s?"),
        (units.duration, "-5ms", "must not be negative"),
        (units.size, "128MB", "did you mean 128Mi"),
        (units.size, "128mi", "did you mean 128Mi"),
        (units.size, "0.3B", "whole number of bytes"),
        (units.ratio, "1", "write 1%"),
        (units.ratio, 1, "write 1%"),
        (units.ratio, "5", "write 5%"),
        (units.ratio, "150%", "between 0% and 100%"),
        (units.cpu, "2c", "0.5 or 500m"),
        (units.cpu, -1, "must not be negative"),
        (units.cpu, float("nan"), "not finite"),
        (units.size, True, "no quantity"),
        (units.size, None, "no quantity"),
        (units.size, "", "no quantity"),
        (units.rate, "9" * 10_000 + "mbit", "no quantity"),
    ],
)
def test_a_wrong_quantity_is_refused_in_one_line_with_what_would_be_right(reader, text, hint):
    with pytest.raises(ValueError) as caught:
        reader(text)

    message = str(caught.value)
    assert hint in message
    assert "\n" not in message and len(message) < 250


@pytest.mark.parametrize(
    ("show", "number", "text"),
    [
        (units.show_rate, 5_000_000, "5mbit"),
        (units.show_rate, 1_500_000, "1.5mbit"),
        (units.show_rate, 1, "1bit"),
        (units.show_duration, 0.04, "40ms"),
        (units.show_duration, 90.0, "90s"),
        (units.show_duration, 0, "0s"),
        (units.show_size, 2**27, "128Mi"),
        (units.show_size, 2**19, "512Ki"),
        (units.show_size, 0, "0B"),
        (units.show_ratio, 0.001, "0.1%"),
        (units.show_ratio, 0, "0%"),
        (units.show_cpu, 0.5, "0.5"),
        (units.show_cpu, 0.25, "250m"),
        (units.show_cpu, 1.0, "1"),
    ],
)
def test_a_number_is_shown_as_the_shortest_text(show, number, text):
    assert show(number) == text


@pytest.mark.parametrize(
    ("show", "read", "draw"),
    [
        (units.show_rate, units.rate, lambda rng: rng.randrange(1, 10**11)),
        (units.show_size, units.size, lambda rng: rng.randrange(0, 2**45)),
        (units.show_duration, units.duration, lambda rng: rng.expovariate(1)),
        (units.show_ratio, units.ratio, lambda rng: rng.random()),
        (units.show_cpu, units.cpu, lambda rng: rng.random() * 64),
    ],
)
def test_what_is_shown_reads_back_as_exactly_the_same_number(show, read, draw):
    rng = random.Random(7)

    numbers = [draw(rng) for _ in range(300)]

    assert [read(show(number)) for number in numbers] == numbers
