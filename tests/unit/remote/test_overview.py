# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
import sys
import time
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from pkgctl import cli
from pkgctl.nodeside import cgroups
from pkgctl.remote import overview, told

RUNNING = {"pkgctl.lab.one": "running", "pkgctl.lab.two": "running"}
PART = {
    "layer": "slow",
    "timeline": "slow",
    "state": "running",
    "nodes": ["one"],
    "kinds": ["link"],
    "setting": "",
    "times": {},
    "on": True,
    "t0": 10.0,
    "since": 10.0,
    "next": None,
    "ends": 100.0,
}


def answer(mono: float = 40.0, **more: object) -> dict:
    """What a node answers whose clock shows mono."""
    told_of = {
        "stores": {"link": {"base": {}, "slow": {"egress": {"two": {"rate": 5000000}}}}},
        "memory_used": 10 << 20,
        "cpu_now": 0.5,
        "memory_now": None,
        "processes": 3,
        "outline": {"layers": [PART], "leases": []},
        "delay_line": None,
        "mono": mono,
    }
    return {"output": json.dumps({**told_of, **more}), "wanted": "def main("}


@pytest.fixture
def world(libvirt, far, running):
    libvirt.write(domains=RUNNING, networks={}, pools={}, volumes={})
    far.answers(
        **{"192_0_2_1": answer(), "192_0_2_2": answer(outline={"layers": [], "leases": []})}
    )
    return running


def test_nodes_are_described_by_themselves_and_by_libvirt(world):
    facts = overview.overview(world)

    assert facts["provider"] == "libvirt" and facts["agent"] is True
    assert facts["silent"] == {} and facts["delay_line"] is None
    one = facts["nodes"]["one"]
    assert (one["domain"], one["health"], one["answers"]) == ("running", "running", True)
    assert (one["processes"], one["cpu_now"], one["host"]) == (3, 0.5, "192.0.2.1")
    assert one["layers"] == {"slow": ["link"]}


def test_times_are_told_by_this_machines_clock(world):
    layer = overview.overview(world)["layers"][0]

    # Of a clock that showed 40 the layer began at 10 and ends at 100.
    assert layer["name"] == "slow" and layer["state"] == "on"
    assert layer["age"] == pytest.approx(30.0, abs=5.0)
    assert layer["ends_in"] == pytest.approx(60.0, abs=5.0)


def test_nodes_that_are_down_do_not_hide_the_others(world, libvirt):
    libvirt.write(domains={"pkgctl.lab.one": "shut off"}, networks={}, pools={}, volumes={})
    world.node("one").mkdir(parents=True)
    (world.node("one") / "health.json").write_text(json.dumps({"dead": {"health": "crashed"}}))

    facts = overview.overview(world)

    assert facts["nodes"]["one"]["domain"] == "shut off"
    assert facts["nodes"]["one"]["health"] == "crashed"
    assert facts["nodes"]["one"]["layers"] == {"dead": ["health"]}
    assert facts["nodes"]["two"]["domain"] == "gone"
    assert facts["silent"] == {} and facts["agent"] is True


def test_a_node_that_runs_and_says_nothing_is_told_with_the_reason(world, far):
    far.answers(**{"192_0_2_2": {"code": 1, "errors": "Traceback\nImportError: none of ours"}})

    facts = overview.overview(world)

    assert "No route to host" in facts["silent"]["one"]
    assert facts["silent"]["two"] == "two: ImportError: none of ours"
    assert facts["nodes"]["one"]["answers"] is False


def test_without_a_host_that_answers_the_nodes_are_asked_all_the_same(world, libvirt):
    libvirt.write(uris=[], domains={}, networks={}, pools={}, volumes={})

    facts = overview.overview(world)

    assert {node["domain"] for node in facts["nodes"].values()} == {"unknown"}
    assert facts["nodes"]["one"]["answers"] is True


def test_delay_lines_add_up(world, far):
    figures = {
        "pairs": 2,
        "delayed": 10,
        "lost": 1,
        "waiting": 0,
        "mean_late": 1e-3,
        "most_late": 2,
    }
    other = {**figures, "delayed": 30, "mean_late": 3e-3, "most_late": 5}
    far.answers(**{"192_0_2_1": answer(delay_line=figures), "192_0_2_2": answer(delay_line=other)})

    found = overview.overview(world)["delay_line"]

    assert (found["pairs"], found["delayed"], found["most_late"]) == (4, 40, 5)
    assert found["mean_late"] == pytest.approx(2.5e-3)


def test_status_shows_machines_and_warns_of_the_silent(world, far):
    far.answers(**{"192_0_2_1": answer()})

    shown = CliRunner().invoke(cli.cli, ["status", "--name", "lab"])

    assert shown.exit_code == 0, shown.output
    header, one, two = shown.stdout.splitlines()[1:4]
    assert header.split()[:6] == ["NODE", "SITE", "KIND", "ADDRESS", "SSH", "MACHINE"]
    assert one.split()[4:10] == ["192.0.2.1", "running", "running", "0.5", "10/128Mi", "3"]
    assert two.split()[4:6] == ["-", "running"]
    assert "warning: two does not answer" in shown.stderr
    assert "slow" in shown.stdout and "5mbit" in shown.stdout


def test_a_node_answers_what_it_is_asked(tmp_path, monkeypatch, capsys):
    group = SimpleNamespace(
        memory_used=lambda: 1, cpu=lambda: 0.5, memory=lambda: None, descend=lambda: []
    )
    monkeypatch.setattr(cgroups, "group", lambda name: group)
    (tmp_path / "links.json").write_text(json.dumps({"base": {}}))
    wanted = {
        "what": "overview",
        "directory": str(tmp_path),
        "cgroup": "pkgctl.none",
        "stores": {"link": "links.json", "quota": "quota.json"},
        "agent": "agent.sock",
        "delay_line": "delayline.sock",
    }
    monkeypatch.setattr("sys.argv", ["-", json.dumps(wanted)])
    monkeypatch.setattr(sys, "path", [*sys.path])
    before = time.monotonic()

    told.main()

    found = json.loads(capsys.readouterr().out)
    assert found["stores"] == {"link": {"base": {}}, "quota": {}}
    assert found["outline"] is None and found["processes"] == 0
    assert before <= found["mono"] <= time.monotonic()
