# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest

from ansible_collections.pkgctl.testbed.plugins.module_utils import arming, identity
from ansible_collections.pkgctl.testbed.plugins.module_utils.errors import AgentError

from .agents import Agent, node

TIMES = {"start": 2.0, "duration": 30.0}


def arm(here, *, dry_run=False):
    bodies = {"quota": {"cpu": 0.2}}
    return arming.arm(here, "slow", bodies, TIMES, "storm", dry_run=dry_run)


def told(*, dry_run):
    step = {"node": "edge-1", "layer": "slow", "kind": "quota", "body": {"cpu": 0.2}}
    return {
        "op": "timeline-arm",
        "timeline": "storm",
        **step,
        "times": TIMES,
        "dry_run": dry_run,
    }


def test_the_agent_is_asked_first_and_then_told_what_to_set_and_when(tmp_path):
    here = node(tmp_path)

    with Agent(here, changed=True) as agent:
        report = arm(here)

    assert report == {"changed": True, "actions": ["arm slow (quota) on storm"]}
    assert agent.heard == [told(dry_run=True), told(dry_run=False)]


def test_what_is_armed_already_is_no_change(tmp_path):
    here = node(tmp_path)

    with Agent(here, changed=False) as agent:
        report = arm(here)

    assert report == {"changed": False, "actions": []}
    assert agent.heard == [told(dry_run=True)]


@pytest.mark.parametrize("changed", [True, False])
def test_a_dry_run_says_what_the_agent_says_and_arms_nothing(tmp_path, changed):
    here = node(tmp_path)

    with Agent(here, changed=changed) as agent:
        assert arm(here, dry_run=True)["changed"] is changed

    assert agent.heard == [told(dry_run=True)]


def test_an_agent_that_is_not_there_is_named_with_what_starts_it(tmp_path):
    with pytest.raises(AgentError, match=r"^edge-1 has no agent .*agent.sock.*`pkgctl up` starts"):
        arm(node(tmp_path))


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


@pytest.mark.parametrize(
    ("states", "begins", "changed"),
    [
        ([], True, True),
        (["armed"], True, True),
        (["running"], True, False),
        (["running", "armed"], True, True),
        ([], False, False),
        (["running"], False, True),
        (["armed"], False, True),
    ],
)
def test_a_dry_run_of_a_timeline_asks_whether_there_is_anything_to_begin_or_drop(
    tmp_path, monkeypatch, states, begins, changed
):
    here = node(tmp_path)
    monkeypatch.setattr(identity, "load", lambda _: here)
    listed = [{"timeline": "storm", "state": state} for state in states]
    listed.append({"timeline": "other", "state": "armed"})
    options = {"name": "storm", "state": "begun" if begins else "absent"}

    with Agent(here, timelines=listed):
        assert arming.perform(options, dry_run=True) == {"changed": changed}


def test_a_lease_is_told_and_dropped(tmp_path):
    here = node(tmp_path)

    with Agent(here) as agent:
        arming.lease(here, "slow", 60.0, dry_run=False)
        arming.release(here, None)

    assert agent.heard == [
        {"op": "lease-set", "node": "edge-1", "layer": "slow", "seconds": 60.0},
        {"op": "lease-drop", "node": "edge-1", "layer": None},
    ]


@pytest.mark.parametrize("dry_run", [True, False])
def test_without_an_agent_only_a_layer_that_may_stay_is_let_through(tmp_path, dry_run):
    here = node(tmp_path)

    with pytest.raises(AgentError, match="has no agent"):
        arming.lease(here, "slow", 60.0, dry_run=dry_run)

    arming.lease(here, "slow", None, dry_run=dry_run)
    arming.release(here, "slow")
    assert arming.cancel(here, None, ["link"], dry_run=dry_run) == 0


def test_an_agent_that_will_not_call_off_what_it_holds_is_an_error(tmp_path):
    here = node(tmp_path)

    with (
        Agent(here, ok=False, error="the journal cannot be written") as agent,
        pytest.raises(AgentError, match="the journal cannot be written"),
    ):
        arming.cancel(here, "slow", ["link"], dry_run=False)

    assert [each["op"] for each in agent.heard] == ["timeline-cancel"]
