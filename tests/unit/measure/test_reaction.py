# SPDX-License-Identifier: GPL-3.0-or-later
"""When Kubernetes noticed that a node was gone, and when its replicas were replaced."""

from __future__ import annotations

import math

import pytest

from pkgctl.measure import reaction
from tests.unit.measure.rows import events, jobs, run, values

ON = {"t": 10.0, "kind": "layer-on", "target": "edge-1"}
OFF = {"t": 70.0, "kind": "layer-off", "target": "edge-1"}
NOTICED = {"t": 59.0, "kind": "kubernetes-notready", "target": "edge-1"}
BACK = {"t": 72.5, "kind": "kubernetes-ready", "target": "edge-1"}
LOST = {"t": 59.0, "kind": "replace", "name": "web", "target": "edge-1"}
FRESH = {"service": "web", "phase": "replace", "submitted": 59.0}


def of(happened, started=()):
    found = reaction.observe(events(*happened), jobs(*started), [run()])
    return {metric: value for (metric, phase), value in values(found).items() if phase == "all"}


def test_what_was_lost_is_replaced_after_it_was_noticed():
    second = {**FRESH, "submitted": 59.1}

    found = of(
        [ON, NOTICED, LOST, LOST, OFF, BACK], [FRESH | {"ready": 63.0}, second | {"ready": 64}]
    )

    assert found == {
        "notice_delay": pytest.approx(49.0),
        "notice_back_delay": pytest.approx(2.5),
        "replaced": 2.0,
        "replace_delay": pytest.approx(54.0),
    }


def test_what_is_never_ready_replaces_nothing():
    assert of([ON, NOTICED, LOST], [FRESH])["replace_delay"] == math.inf
    assert of([ON, NOTICED, LOST])["replace_delay"] == math.inf


def test_a_node_may_have_nothing_to_replace():
    other = {**LOST, "target": "edge-2"}

    assert of([ON, NOTICED, other], [FRESH | {"ready": 63.0}]) == {
        "notice_delay": 49.0,
        "replaced": 0.0,
    }


@pytest.mark.parametrize("happened", [[], [ON, OFF], [NOTICED, BACK], [NOTICED, {**ON, "t": 60.0}]])
def test_without_a_layer_and_a_notice_after_it_there_is_no_delay(happened):
    assert of(happened) == {}
