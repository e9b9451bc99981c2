# SPDX-License-Identifier: GPL-3.0-or-later
"""Each module as Ansible calls it, up to the kernel; tests/local has the rest of their lives."""

from __future__ import annotations

import importlib
import json
from typing import Any

import pytest
from ansible.module_utils.testing import patch_module_args

from ansible_collections.pkgctl.testbed.plugins.module_utils import identity, specifications

from .agents import Agent, node

MODULES = "ansible_collections.pkgctl.testbed.plugins.modules"


@pytest.fixture
def call(monkeypatch, tmp_path, capsys):
    """Return a function that runs a module in the test's folder, and returns its result."""
    monkeypatch.setattr(identity, "DIRECTORY", str(tmp_path))

    def run(name: str, /, **options: Any) -> dict[str, Any]:
        with patch_module_args(options), pytest.raises(SystemExit):
            importlib.import_module(f"{MODULES}.{name}").main()
        return dict(json.loads(capsys.readouterr().out))

    return run


LIFE = [
    ("link", {"egress": {"cloud-1": {"rate": "5mbit"}}}),
    ("quota", {"cpu": "0.2"}),
    ("disk", {"condition": "unmounted"}),
    ("health", {"health": "paused"}),
    ("stress", {"cpu": "0.5"}),
    ("layer", {"quota": {"cpu": 0.2}, "disk": {"condition": "readonly"}}),
]


@pytest.mark.parametrize(("name", "options"), [*LIFE, ("timeline", {"name": "storm"})])
def test_a_module_on_a_host_that_is_no_node_says_so(call, name, options):
    result = call(name, **options)

    assert result["failed"]
    assert "this host is not a node of a testbed: there is no" in result["msg"]


@pytest.mark.parametrize("name", [name for name, _ in LIFE])
def test_a_module_that_is_told_nothing_says_what_is_missing(call, name):
    result = call(name)

    assert result["failed"]
    assert result["msg"].startswith("state is present but")


@pytest.mark.parametrize(("name", "options"), LIFE)
@pytest.mark.parametrize("word", specifications.ARMING)
def test_times_need_a_timeline(call, name, options, word):
    result = call(name, **{word: "30s"}, **options)

    assert result["failed"]
    assert f"required by '{word}': timeline" in result["msg"]


@pytest.mark.parametrize(("name", "options"), LIFE)
def test_a_layer_of_the_testbed_cannot_be_set(call, tmp_path, name, options):
    node(tmp_path)

    result = call(name, layer="base", **options)

    assert result["msg"] == "layer: 'base' is the testbed's own layer; choose another name"


@pytest.mark.parametrize(
    ("name", "options", "error"),
    [
        ("link", {"egress": {"cloud-1": {"rate": "5mbps"}}}, "egress.cloud-1.rate: rate '5mbps'"),
        ("quota", {"memory": "12Mb"}, "memory: size '12Mb' has the unknown unit 'Mb'"),
        ("disk", {"condition": "gone"}, "value of condition must be one of: unmounted, readonly"),
        ("layer", {"quota": {"mem": "1Gi"}}, "mem: unknown limit; known are cpu"),
        ("layer", {"link": {}}, "one of the following is required: egress, ingress found in link"),
        ("quota", {"cpu": 1, "timeline": "t", "state": "absent"}, "timeline: a layer cannot be"),
        ("quota", {"cpu": 1, "timeline": "t", "flap": "2s"}, "flap: '2s' is no flapping"),
        ("quota", {"cpu": 1, "timeline": "t", "seed": -1}, "seed: -1 is no whole number"),
        ("disk", {"condition": "mounted", "how": "lazy"}, "how: says how a disk goes"),
        ("disk", {"fill": "full"}, "fill: ratio 'full'"),
        ("health", {"health": "tired"}, "value of health must be one of: paused, stopped"),
        ("stress", {"memory": "64Mb"}, "memory: size '64Mb'"),
        ("layer", {"stress": {}}, "one of the following is required: cpu, memory, io found in"),
        ("layer", {"quota": {"cpu": 1}, "lease": "ever"}, "lease: duration 'ever'"),
    ],
)
def test_a_wrong_option_fails_in_one_line_that_names_it(call, tmp_path, name, options, error):
    node(tmp_path)

    result = call(name, **options)

    assert result["failed"]
    assert result["msg"].startswith(error)
    assert "\n" not in result["msg"]


@pytest.mark.parametrize(("name", "options"), LIFE)
@pytest.mark.parametrize("is_new", [True, False])
def test_an_armed_module_changes_what_the_agent_says_it_changes(
    call, tmp_path, name, options, is_new
):
    with Agent(node(tmp_path), changed=is_new) as agent:
        result = call(name, timeline="storm", start="2s", **options)

    assert result["changed"] is is_new
    assert {heard["timeline"] for heard in agent.heard} == {"storm"}
    assert {heard["times"]["start"] for heard in agent.heard} == {2.0}


def test_an_armed_link_is_told_in_numbers_for_both_ways(call, tmp_path):
    with Agent(node(tmp_path), changed=True) as agent:
        call("link", timeline="t", layer="slow", ingress={"*": {"delay": "40ms"}})

    body = agent.heard[0]["body"]
    assert body["egress"] == {}
    assert {peer: quality["delay"] for peer, quality in body["ingress"].items()} == {
        "cloud-1": 0.04,
        "edge-2": 0.04,
    }


@pytest.mark.parametrize(("state", "steps", "changed"), [("begun", 3, True), ("absent", 0, False)])
def test_a_timeline_reports_whether_it_had_steps(call, tmp_path, state, steps, changed):
    with Agent(node(tmp_path), steps=steps):
        result = call("timeline", name="storm", state=state)

    assert (result["changed"], result["steps"]) == (changed, steps)


@pytest.mark.parametrize(
    ("known", "changes"), [([], True), (["armed"], True), (["running"], False)]
)
def test_a_timeline_in_check_mode_begins_only_if_it_has_not_begun(call, tmp_path, known, changes):
    there = [{"timeline": "storm", "state": state} for state in known]

    with Agent(node(tmp_path), timelines=there):
        result = call("timeline", name="storm", _ansible_check_mode=True)

    assert result["changed"] is changes
