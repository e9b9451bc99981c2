# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest

from ansible_collections.pkgctl.testbed.plugins.module_utils import arming
from ansible_collections.pkgctl.testbed.plugins.module_utils.arming import Times
from ansible_collections.pkgctl.testbed.plugins.module_utils.errors import AgentError

from .agents import Agent, node


def test_the_agent_is_told_what_to_set_when_and_for_how_long(tmp_path):
    here = node(tmp_path)
    times = Times("storm", 2.0, 30.0)

    with Agent(here, changed=True) as agent:
        report = arming.arm(here, "slow", {"quota": {"cpu": 0.2}}, times, dry_run=False)

    assert report == {"changed": True, "actions": ["arm slow (quota) on storm"]}
    assert agent.heard == [
        {
            "op": "timeline-arm",
            "node": "edge-1",
            "layer": "slow",
            "kind": "quota",
            "body": {"cpu": 0.2},
            "timeline": "storm",
            "start": 2.0,
            "duration": 30.0,
        }
    ]


def test_what_is_armed_already_is_no_change(tmp_path):
    here = node(tmp_path)

    with Agent(here, changed=False):
        report = arming.arm(here, "slow", {"disk": {}}, Times("storm"), dry_run=False)

    assert report == {"changed": False, "actions": []}


def test_a_dry_run_asks_nobody(tmp_path):
    report = arming.arm(node(tmp_path), "slow", {"disk": {}}, Times("storm"), dry_run=True)

    assert report["changed"] is True


def test_an_agent_that_is_not_there_is_named(tmp_path):
    with pytest.raises(AgentError, match=r"nobody answers at .*agent/agent.sock"):
        arming.arm(node(tmp_path), "slow", {"disk": {}}, Times("storm"), dry_run=False)


def test_a_timeline_begins_now_and_tells_its_steps(tmp_path):
    here = node(tmp_path)

    with Agent(here, steps=4) as agent:
        steps = arming.begin(here, "storm")
        arming.drop(here, "storm")

    assert steps == 4
    begun, dropped = agent.heard
    assert (begun["op"], begun["timeline"]) == ("timeline-start", "storm")
    assert begun["t0"] > 0
    assert dropped == {"op": "timeline-drop", "timeline": "storm"}


def test_times_are_read_from_texts_and_start_at_once_by_default():
    assert arming.read_times({"timeline": "a", "start": "2s", "duration": "1m"}) == Times(
        "a", 2, 60
    )
    assert arming.read_times({"timeline": "a", "start": None}) == Times("a")


@pytest.mark.parametrize(
    "options",
    [
        {"timeline": "A"},
        {"timeline": "a", "start": "soon"},
        {"timeline": "a", "duration": "0s"},
    ],
)
def test_times_that_cannot_be_read_are_refused_with_their_option(options):
    with pytest.raises(ValueError, match=r"^(timeline|start|duration): "):
        arming.read_times(options)
