# SPDX-License-Identifier: GPL-3.0-or-later
"""Layers add up by rules in which neither their order nor what was healed before plays a part."""

from __future__ import annotations

import math
import random

from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.pkgctl.testbed.plugins.module_utils import (
    condition,
    layers,
    links,
    quality,
    quotas,
)
from ansible_collections.pkgctl.testbed.plugins.module_utils.quality import (
    UNSHAPED,
    Quality,
    compose,
)

SHARES = st.one_of(st.just(0.0), st.just(1.0), st.floats(0.0, 1.0))
QUALITIES = st.builds(
    Quality,
    rate=st.none() | st.integers(1_000, 10**10),
    delay=st.floats(0.0, 10.0),
    jitter=st.just(0.0) | st.floats(1e-6, 1.0),
    loss=SHARES,
    distribution=st.sampled_from(quality.DISTRIBUTIONS) | st.just((-1.0, 0.0, 1.0)),
    burst=st.just(0.0) | st.floats(1.0, 100.0),
    duplicate=SHARES,
    reorder=SHARES,
    corrupt=SHARES,
)
PEERS = st.dictionaries(st.sampled_from(["cloud-1", "edge-2"]), QUALITIES)
NAMES = st.sampled_from(["slow", "lossy", "cut", "storm"])
STACKS = st.dictionaries(NAMES, st.tuples(PEERS, PEERS).map(lambda ways: links.body(*ways)))


@given(st.lists(QUALITIES, max_size=5), st.randoms(use_true_random=False))
def test_the_order_of_layers_makes_no_difference(stack: list[Quality], rng: random.Random) -> None:
    shuffled = list(stack)
    rng.shuffle(shuffled)

    assert compose(*shuffled) == compose(*stack)


@given(QUALITIES)
def test_unshaped_adds_nothing(one: Quality) -> None:
    both = compose(one, UNSHAPED)

    # Without jitter there is nothing that a distribution could scatter.
    assert both == (one if one.jitter else compose(one))
    assert (both.rate, both.delay, both.jitter, both.loss) == (
        one.rate,
        one.delay,
        one.jitter,
        one.loss,
    )


@given(st.lists(QUALITIES, min_size=1, max_size=5))
def test_a_composed_link_is_no_better_than_any_of_its_layers(stack: list[Quality]) -> None:
    total = compose(*stack)

    for one in stack:
        assert total.rate is not None if one.rate is not None else True
        assert one.rate is None or (total.rate or 0) <= one.rate
        assert total.delay >= one.delay or math.isclose(total.delay, one.delay)
        assert total.jitter >= one.jitter or math.isclose(total.jitter, one.jitter)
        for share in ("loss", "duplicate", "reorder", "corrupt"):
            whole, part = getattr(total, share), getattr(one, share)
            assert whole >= part or math.isclose(whole, part)


@given(QUALITIES)
def test_a_quality_survives_its_way_through_a_file(one: Quality) -> None:
    assert Quality.from_dict(one.to_dict()) == one


@given(STACKS, st.permutations(["slow", "lossy", "cut", "storm"]))
def test_healing_every_layer_in_any_order_leaves_what_was_before(
    stack: layers.Layers, order: list[str]
) -> None:
    base = {layers.BASE: links.body({"cloud-1": Quality(rate=10**6)}, {})}
    stored = {**base, **stack}

    for name in order:
        stored = layers.changed(stored, name, None)

    assert stored == base
    assert links.wanted(stored) == links.wanted(base)


@given(STACKS, NAMES)
def test_healing_one_layer_is_as_if_it_had_never_been(stack: layers.Layers, name: str) -> None:
    healed = layers.changed(stack, name, None)

    never = {each: body for each, body in stack.items() if each != name}
    assert links.wanted(healed) == links.wanted(never)


LIMITS = st.dictionaries(st.sampled_from(quotas.KEYS), st.integers(1, 10**9), max_size=4)


@given(st.dictionaries(NAMES, LIMITS), st.randoms(use_true_random=False))
def test_the_smallest_limit_holds_whatever_the_order(
    stack: layers.Layers, rng: random.Random
) -> None:
    shuffled = list(stack.items())
    rng.shuffle(shuffled)

    total = quotas.composed(dict(shuffled))

    assert total == quotas.composed(stack)
    asked = {key for body in stack.values() for key in body}
    assert total == {key: min(body[key] for body in stack.values() if key in body) for key in asked}


@given(st.dictionaries(NAMES, st.sampled_from(condition.CONDITIONS[1:])))
def test_the_harshest_health_holds(stack: dict[str, str]) -> None:
    stored = {name: {"health": health} for name, health in stack.items()}

    found = condition.composed(stored)

    worst = max(map(condition.CONDITIONS.index, stack.values()), default=0)
    assert found == condition.CONDITIONS[worst]
