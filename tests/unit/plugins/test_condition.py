# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.pkgctl.testbed.plugins.module_utils import condition, layers, syscalls
from ansible_collections.pkgctl.testbed.plugins.module_utils.errors import NodeError

BODIES = st.one_of(
    st.just({}), st.sampled_from(condition.CONDITIONS).map(lambda one: {"health": one})
)


def test_a_node_without_layers_runs(tmp_path):
    assert condition.load(tmp_path) == "running"
    assert condition.composed({"base": {}}) == "running"


@given(st.lists(BODIES, max_size=5), st.randoms())
def test_the_harshest_layer_holds_in_whatever_order_they_are(bodies, rng):
    mixed = list(enumerate(bodies))
    rng.shuffle(mixed)

    found = condition.composed({str(name): body for name, body in mixed})

    asked = [body.get("health", "running") for body in bodies]
    rank = condition.CONDITIONS.index
    assert rank(found) == max((rank(one) for one in asked), default=0)


def test_what_no_version_knows_counts_for_nothing():
    assert condition.composed({"a": {"health": "sleepy"}, "b": {"health": "paused"}}) == "paused"


@pytest.mark.parametrize(
    ("health", "up", "off"),
    [
        ("running", True, False),
        ("paused", False, False),
        ("stopped", False, True),
        ("crashed", False, True),
    ],
)
def test_a_node_is_up_or_off_or_between_the_two(health, up, off):
    assert condition.is_up(health) is up
    assert condition.is_off(health) is off


def test_nothing_begins_on_a_node_that_is_down(tmp_path):
    condition.check_up(tmp_path, "edge-1")
    layers.save(tmp_path / condition.STORE, {"boom": {"health": "crashed"}})

    with pytest.raises(NodeError, match="node edge-1 is crashed: nothing starts there"):
        condition.check_up(tmp_path, "edge-1")


def test_an_outage_is_known_to_those_who_were_there_before_it(tmp_path):
    assert condition.outage(tmp_path, 0.0) is None
    before = syscalls.monotonic()

    condition.note_outage(tmp_path, "stopped")

    assert condition.outage(tmp_path, before) == "stopped"
    assert condition.outage(tmp_path, syscalls.monotonic()) is None
