# SPDX-License-Identifier: GPL-3.0-or-later
"""The watchman, as a process of its own over a virsh that only moves files."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from ansible_collections.pkgctl.testbed.plugins.module_utils import (
    arming,
    channel,
    domains,
    parts,
    watchman,
)
from ansible_collections.pkgctl.testbed.plugins.module_utils.errors import (
    AgentError,
    DisturbanceError,
)

from .recorded import record
from .virsh import Virsh

PATIENCE = 20.0
EDGE, CLOUD = "edge-1", "cloud-1"
DOMAINS = {name: f"pkgctl.lab.{name}" for name in (EDGE, CLOUD)}


@pytest.fixture
def virsh(tmp_path, monkeypatch):
    made = Virsh(tmp_path, monkeypatch)
    for domain in DOMAINS.values():
        made.define(domain)
    return made


@pytest.fixture
def bed(virsh):
    """A testbed's folder, short enough for a socket, whose watchman is gone afterwards."""
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder, "lab")
        made.mkdir()
        (made / "state.json").write_text(json.dumps(record()))
        yield made
        watchman.dismiss(made)


@pytest.fixture
def node(bed):
    return domains.guest(bed / "nodes" / EDGE, DOMAINS[EDGE], "qemu:///system")


def pid(bed):
    return channel.call(watchman.socket(bed), "ping")["pid"]


def runs(process):
    """Return whether a process runs: one that has ended may stay listed for a while."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def eventually(holds):
    deadline = time.monotonic() + PATIENCE
    while not holds() and time.monotonic() < deadline:
        time.sleep(0.02)
    return bool(holds())


def options(**given):
    return {"layer": "boom", "state": "present", "lease": None, **given}


def perform(node, health="crashed", *, dry_run=False, **given):
    asked = {"health": {"health": health}} if health else {"health": {}}
    return parts.perform(options(**given), asked, dry_run=dry_run, node=node)


# Its nodes.


def test_the_nodes_are_those_of_the_record_as_it_is_now(bed):
    stage = watchman.Domains(bed)
    assert stage.names() == [CLOUD, EDGE]
    assert stage.node(EDGE).domain == DOMAINS[EDGE]

    fresh = record()
    del fresh["nodes"][EDGE]
    (bed / "new").write_text(json.dumps(fresh))
    (bed / "new").replace(bed / "state.json")

    assert stage.names() == [CLOUD]
    with pytest.raises(AgentError, match="there is no node 'edge-1'"):
        stage.node(EDGE)


@pytest.mark.parametrize("text", ["{", "[]", '{"nodes": 3}', '{"nodes": {"a": {}}}'])
def test_a_record_that_is_none_has_no_nodes(bed, text):
    (bed / "state.json").write_text(text)
    stage = watchman.Domains(bed)

    assert stage.names() == []
    with pytest.raises(AgentError, match="is not a testbed's record"):
        stage.node(EDGE)


def test_nothing_but_health_is_taken_on(bed, virsh):
    stage = watchman.Domains(bed)

    with pytest.raises(AgentError, match="quota: the watchman sees to nothing but health"):
        stage.set(EDGE, "quota", "slow", {"cpu": 0.2})
    with pytest.raises(DisturbanceError, match="no health of a node"):
        stage.set(EDGE, "health", "slow", {"health": "tired"}, dry_run=True)
    assert not stage.set(EDGE, "quota", "slow", None).changed
    assert stage.set(EDGE, "health", "boom", {"health": "crashed"}, dry_run=True).changed
    assert virsh.calls() == []


# The process.


def test_it_is_started_once_and_dismissed_for_good(bed):
    watchman.ensure(bed)
    first = pid(bed)
    watchman.ensure(bed)
    assert pid(bed) == first

    watchman.dismiss(bed)

    assert not runs(first)
    assert not watchman.socket(bed).exists()
    with pytest.raises(AgentError, match="testbed lab is being removed"):
        watchman.ensure(bed)
    watchman.welcome(bed)
    watchman.ensure(bed)
    assert pid(bed) != first


def test_a_testbed_that_is_gone_has_nobody_to_dismiss(tmp_path):
    watchman.dismiss(tmp_path / "none")

    assert not (tmp_path / "none").exists()


def test_no_delay_line_runs_beside_it_and_no_job_is_taken(bed):
    watchman.ensure(bed)

    with pytest.raises(AgentError, match="unknown request"):
        channel.call(watchman.socket(bed), "job-list")
    assert sorted(path.name for path in (bed / "agent").glob("*.log")) == ["watchman.log"]
    assert (bed / "agent" / "watchman.log").read_text() == ""


def test_a_folder_whose_socket_would_have_too_long_a_path_is_refused(tmp_path):
    deep = tmp_path / ("x" * 100)
    deep.mkdir()

    with pytest.raises(AgentError, match="is too long for a socket: let PKGCTL_STATE name"):
        watchman.ensure(deep)


# Leases and timelines.


def test_a_layer_whose_lease_is_over_is_healed(bed, virsh, node):
    watchman.ensure(bed)

    report = perform(node, lease="1s")

    assert (report["changed"], report["actions"]) == (True, ["switch off"])
    assert virsh.state(DOMAINS[EDGE]) == "shut off"
    assert eventually(lambda: virsh.state(DOMAINS[EDGE]) == "running")
    assert not (Path(node.directory) / "health.json").exists()


def test_without_a_watchman_a_lease_is_refused_and_nothing_is_done(virsh, node):
    with pytest.raises(AgentError, match="edge-1 has no agent"):
        perform(node, lease="5s")

    assert virsh.calls() == []


def test_a_timeline_is_played_on_time_though_whoever_began_it_was_killed(bed, virsh):
    script = (
        "import sys; from pathlib import Path;"
        "from ansible_collections.pkgctl.testbed.plugins.module_utils import"
        " arming, domains, parts, watchman;"
        "bed = Path(sys.argv[1]); watchman.ensure(bed);"
        "node = domains.guest(bed / 'nodes' / 'edge-1', sys.argv[2], 'qemu:///system');"
        "given = dict(layer='boom', state='present', lease=None, timeline='storm', start='0.3s',"
        " duration='1s', seed=None);"
        "parts.perform(given, {'health': {'health': 'paused'}}, dry_run=False, node=node);"
        "arming.begin(node, 'storm'); print('begun', flush=True); sys.stdin.read()"
    )
    started = subprocess.Popen(
        [sys.executable, "-c", script, str(bed), DOMAINS[EDGE]],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    with started:
        assert started.stdout is not None and started.stdout.readline() == b"begun\n"
        os.killpg(started.pid, signal.SIGKILL)
        begun = time.monotonic()

    assert eventually(lambda: virsh.state(DOMAINS[EDGE]) == "paused")
    assert eventually(lambda: virsh.state(DOMAINS[EDGE]) == "running")
    assert time.monotonic() - begun > 1.0
    assert virsh.calls() == [f"suspend {DOMAINS[EDGE]}", f"resume {DOMAINS[EDGE]}"]


def test_a_watchman_that_was_killed_is_revived_and_goes_on(bed, virsh, node):
    watchman.revive(bed)
    assert not watchman.socket(bed).exists()
    watchman.ensure(bed)
    perform(node, lease="2s")
    first = pid(bed)
    os.kill(first, signal.SIGKILL)
    assert eventually(lambda: not runs(first))

    watchman.revive(bed)

    assert eventually(lambda: virsh.state(DOMAINS[EDGE]) == "running")


def test_what_is_healed_by_hand_does_not_come_back(bed, virsh, node):
    watchman.ensure(bed)
    perform(node, timeline="storm", start="0s", duration="1s", repeat="2s", seed=1)
    arming.begin(node, "storm")
    assert eventually(lambda: virsh.state(DOMAINS[EDGE]) == "shut off")

    report = parts.perform(
        options(layer="*", state="absent"), {"health": {}}, dry_run=False, node=node
    )

    assert report["changed"] and "call off what was to come" in report["actions"]
    assert virsh.state(DOMAINS[EDGE]) == "running"
    assert channel.call(watchman.socket(bed), "timeline-list")["timelines"] == []


def test_one_nodes_end_is_what_anothers_layer_waits_for(bed, virsh, node):
    other = domains.guest(bed / "nodes" / CLOUD, DOMAINS[CLOUD], "qemu:///system")
    watchman.ensure(bed)
    when = {"when": "node edge-1 down", "duration": "30s", "seed": 1}
    perform(other, timeline="storm", layer="follow", **when)
    arming.begin(node, "storm")
    time.sleep(0.3)
    assert virsh.state(DOMAINS[CLOUD]) == "running"

    perform(node, lease="none")

    assert eventually(lambda: virsh.state(DOMAINS[CLOUD]) == "shut off")
