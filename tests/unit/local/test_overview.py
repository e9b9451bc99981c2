# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
import subprocess
import sys
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from pkgctl import cli
from pkgctl.errors import TestbedError
from pkgctl.local import overview, paths
from pkgctl.nodeside import Quality
from tests.unit.plugins.agents import Agent, node

SLOW = Quality(rate=5_000_000, delay=0.04).to_dict()
HEAVY = ("ansible", "asyncio", "jinja2", "numpy", "plotly", "polars", "pydantic", "scipy", "yaml")
PART = {
    "layer": "slow",
    "timeline": "slow",
    "state": "running",
    "t0": 0.0,
    "nodes": ["edge-1"],
    "kinds": ["link"],
    "setting": "",
    "times": {},
    "on": True,
    "next": None,
    "ends": None,
    "since": 0.0,
}


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A testbed of two nodes as far as it is files; its control groups are made up."""
    monkeypatch.setattr(paths, "RUN", tmp_path)
    group = SimpleNamespace(
        children=list,
        memory_used=lambda: 10 << 20,
        cpu=lambda: 0.5,
        memory=lambda: None,
        descend=lambda: [],
    )
    monkeypatch.setattr(overview.cgroups, "group", lambda _: group)
    here = paths.Paths("test")
    nodes = {}
    for name in ("cloud-1", "edge-1"):
        here.node(name).mkdir(parents=True)
        nodes[name] = {
            "directory": str(here.node(name)),
            "site": "somewhere",
            "kind": "server",
            "role": "edge",
            "address": "10.77.0.1",
            "cpu": 1.0,
            "memory": 256 << 20,
            "disks": {},
            "cgroup": "none",
        }
    here.state.write_text(json.dumps({"topology": {"name": "made"}, "nodes": nodes}))
    return here


def store(place, name, kind, **layers):
    (place.node(name) / overview.STORES[kind]).write_text(json.dumps({"base": {}, **layers}))


def slow(place):
    for name, peer in (("edge-1", "cloud-1"), ("cloud-1", "edge-1")):
        store(place, name, "link", slow={"egress": {peer: SLOW}, "ingress": {peer: SLOW}})
    store(place, "edge-1", "health", down={"health": "crashed"})


def status(*words):
    return CliRunner().invoke(cli.cli, ["status", "--name", "test", *words])


def test_a_testbed_whose_agent_is_dead_is_still_described(place):
    slow(place)

    facts = overview.overview(place)

    assert (facts["agent"], facts["delay_line"]) == (False, None)
    assert facts["nodes"]["edge-1"]["layers"] == {"slow": ["link"], "down": ["health"]}
    assert facts["nodes"]["edge-1"]["health"] == "crashed"
    assert [(layer["name"], layer["left"]) for layer in facts["layers"]] == [
        ("down", "?"),
        ("slow", "?"),
    ]


def test_status_says_that_the_agent_is_dead_and_shows_the_layers(place):
    slow(place)

    shown = status()

    assert shown.exit_code == 0
    assert "warning: the agent does not answer; `pkgctl up` starts it again" in shown.stderr
    row = next(line for line in shown.stdout.splitlines() if line.startswith("slow"))
    assert row.split() == [
        "slow",
        "link",
        "cloud-1",
        "<->",
        "edge-1",
        "5mbit",
        "40ms",
        "?",
        "-",
        "?",
    ]
    assert "crashed" in shown.stdout


def test_the_agent_tells_the_times(place):
    slow(place)
    answer = {"layers": [PART], "leases": [{"layer": "down", "seconds": 9e9, "ends": 9e9}]}

    with Agent(node(place.run), **answer) as agent:
        facts = overview.overview(place)

    assert facts["agent"] is True
    assert [request["op"] for request in agent.heard] == ["layer-list"]
    assert {layer["name"]: layer["left"].split()[0] for layer in facts["layers"]} == {
        "down": "lease",
        "slow": "until",
    }


def test_status_shows_the_times(place):
    slow(place)
    waiting = {**PART, "on": False, "since": None, "times": {"when": "requests > 1000"}}
    late = {**waiting, "layer": "late", "setting": "cpu 0.2"}

    with Agent(node(place.run), layers=[PART, late], leases=[]):
        shown = status().stdout

    rows = {line.split()[0]: line for line in shown.splitlines() if line}
    assert rows["slow"].endswith("until healed")
    assert "cpu 0.2" in rows["late"] and rows["late"].endswith("waits for requests > 1000")


def test_a_testbed_without_layers_lists_none(place):
    shown = status()

    assert "SETTING" not in shown.stdout
    assert "running" in shown.stdout


def test_json_is_complete(place):
    slow(place)

    facts = json.loads(status("-o", "json").stdout)

    assert set(facts) == {"testbed", "topology", "nodes", "layers", "agent", "delay_line"}
    assert facts["layers"][1]["nodes"] == ["cloud-1", "edge-1"]
    assert facts["layers"][1]["where"] == "cloud-1 <-> edge-1"


def test_a_testbed_that_is_not_up_is_named(place):
    place.state.unlink()

    with pytest.raises(TestbedError, match="no testbed 'test' is up"):
        overview.overview(place)


@pytest.mark.parametrize("command", ["status", "top"])
def test_nothing_heavy_is_imported(command):
    words = [command, "--name", "no-such-testbed"]
    run = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "pkgctl", *words],
        capture_output=True,
        text=True,
        check=False,
    )

    imported = {line.rpartition("|")[2].strip() for line in run.stderr.splitlines()}
    assert "pkgctl.local.state" in imported
    assert [name for name in HEAVY if name in imported] == []
