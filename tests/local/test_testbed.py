# SPDX-License-Identifier: GPL-3.0-or-later
"""A testbed comes up as declared, changes by differences, and leaves nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pkgctl import topology
from pkgctl.errors import TestbedError
from pkgctl.local import paths, removal, testbed
from pkgctl.local.paths import Paths

from .conftest import on_node, pkgctl, traces_of, what_is_there

pytestmark = pytest.mark.root


def test_a_node_has_its_own_name_network_files_and_disk(three_sites: Paths) -> None:
    facts = on_node(
        three_sites,
        "edge-1",
        "sh",
        "-c",
        "hostname; ip -4 -o addr show eth0; cat /etc/hostname; df --output=fstype /data | tail -1;"
        " ls -A /tmp; ls /run; echo kept > /var/mark; echo kept > /data/mark",
    )

    assert "edge-1" in facts.splitlines()
    assert "10.77.0.3/16" in facts
    assert "ext4" in facts
    assert not Path("/var/mark").exists()
    assert on_node(three_sites, "edge-1", "cat", "/var/mark", "/data/mark") == "kept\nkept\n"
    other = pkgctl("exec", "--name", three_sites.name, "edge-2", "--", "cat", "/var/mark")
    assert other.returncode != 0


def test_names_resolve_and_nodes_reach_each_other(three_sites: Paths) -> None:
    found = on_node(three_sites, "edge-5", "getent", "ahosts", "cloud-1").split()
    assert found[0] == "10.77.0.1"
    assert "fd77:7067::1" in found
    assert " 0% packet loss" in on_node(three_sites, "cloud-1", "ping", "-c", "1", "cloud-2")


BURN = """
import time
begun, spent = time.time(), time.process_time()
while time.time() - begun < 2:
    pass
print(time.process_time() - spent)
"""


def test_limits_are_the_kernels(three_sites: Paths) -> None:
    facts = json.loads(pkgctl("status", "--name", three_sites.name, "-o", "json").stdout)

    edge = facts["nodes"]["edge-2"]
    assert edge["cpu_now"] == 0.25
    assert edge["memory_now"] == 192 << 20
    used = float(on_node(three_sites, "edge-2", sys.executable, "-S", "-c", BURN))
    # A busy machine gives less than is allowed, and never more.
    assert 0.1 < used < 2 * 0.25 + 0.08


def test_up_again_changes_nothing(three_sites: Paths) -> None:
    before = on_node(three_sites, "edge-1", "sh", "-c", "echo mark > /data/mark; ip -o addr")

    again = testbed.up(topology.load("three-sites"), three_sites)

    assert again.changed is False
    assert again.lines == []
    assert on_node(three_sites, "edge-1", "ip", "-o", "addr") == before


EDITED = """
name: edited
sites:
  one: {location: {latitude: 50, longitude: 8}, access: lan}
kinds:
  box: {cpu: 0.5, memory: 64Mi, pids: 64}
nodes:
%s
links:
  - {from: a, to: b, rate: %s, symmetric: true}
"""


def edited(nodes: list[str], rate: str) -> topology.Topology:
    lines = "\n".join(f"  - {{name: {name}, site: one, kind: box}}" for name in nodes)
    return topology.loads(EDITED % (lines, rate))


def test_up_with_an_edited_topology_changes_only_the_difference(place: Paths) -> None:
    testbed.up(edited(["a", "b", "c"], "10mbit"), place)
    on_node(place, "a", "sh", "-c", "echo mark > /root/mark")

    outcome = testbed.up(edited(["a", "b", "d"], "20mbit"), place)

    assert [line for line in outcome.lines if line[0] in "+-"] == ["- node c", "+ node d"]
    assert any("a → b" in line and "20mbit" in line for line in outcome.lines)
    assert on_node(place, "a", "cat", "/root/mark") == "mark\n"
    assert "20Mbit" in on_node(place, "a", "tc", "class", "show", "dev", "eth0")
    assert " 0% packet loss" in on_node(place, "d", "ping", "-c", "1", "a")
    gone = pkgctl("exec", "--name", place.name, "c", "--", "true")
    assert (gone.returncode, "no node 'c'" in gone.stderr) == (2, True)


def test_a_dry_run_makes_nothing(place: Paths) -> None:
    done = pkgctl("up", "duo", "--name", place.name, "--dry-run")

    assert (done.returncode, "+ node edge-1" in done.stdout) == (0, True)
    assert traces_of(place.name) == []


def await_program(name: str, starter: subprocess.Popen[bytes]) -> None:
    """Wait until the starter has become a program."""
    deadline = time.monotonic() + 120
    while Path(f"/proc/{starter.pid}/comm").read_text().strip() != name:
        assert time.monotonic() < deadline, f"{name} does not start"
        time.sleep(0.02)


def test_down_leaves_nothing(place: Paths) -> None:
    before = what_is_there()
    testbed.up(topology.load("three-sites"), place)
    sleeper = subprocess.Popen(
        [sys.executable, "-m", "pkgctl", "exec", "--name", place.name, "edge-1", "sleep", "600"]
    )
    try:
        await_program("sleep", sleeper)
        behind = removal.images(place)
        assert len(removal.loop_devices(behind)) == 7

        removal.down(place)

        assert sleeper.wait(timeout=120) == -signal.SIGKILL
    finally:
        sleeper.kill()
        sleeper.wait()
    assert traces_of(place.name) == []
    assert removal.loop_devices(behind) == []
    assert what_is_there()["links"] == before["links"]


def test_down_of_nothing_is_no_error(place: Paths) -> None:
    assert removal.down(place).changed is False


@pytest.mark.parametrize("moment", [0.25, 0.35, 0.45, 0.6])
def test_down_removes_what_a_killed_up_had_made(place: Paths, moment: float) -> None:
    maker = subprocess.Popen(
        [sys.executable, "-m", "pkgctl", "up", "hundred", "--name", place.name],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    time.sleep(moment)
    maker.kill()
    maker.wait()

    removal.down(place)

    assert traces_of(place.name) == []


def test_a_half_made_testbed_is_named_and_not_built_upon(place: Paths) -> None:
    testbed.up(topology.load("duo"), place)
    place.state.unlink()

    with pytest.raises(TestbedError, match="half-made"):
        testbed.up(topology.load("duo"), place)


def test_two_testbeds_live_beside_each_other(place: Paths) -> None:
    other = paths.paths(f"{place.name}b")
    try:
        for each in (place, other):
            testbed.up(topology.load("duo"), each)
        assert " 0% packet loss" in on_node(other, "edge-1", "ping", "-c", "1", "cloud-1")
        removal.down(place)
        assert " 0% packet loss" in on_node(other, "edge-1", "ping", "-c", "1", "cloud-1")
    finally:
        removal.down(other)


def start_hundred(place: Paths) -> None:
    testbed.up(topology.load("hundred"), place)


def test_a_hundred_nodes_reach_each_other(place: Paths) -> None:
    start_hundred(place)

    assert " 0% packet loss" in on_node(place, "node-1", "ping", "-c", "2", "node-100")
    assert "10Mbit" in on_node(place, "node-57", "tc", "class", "show", "dev", "eth0")


@pytest.mark.parametrize(
    ("words", "code", "hint"),
    [
        (["up", "no-such"], 2, "no topology 'no-such'"),
        (["exec", "edge-9", "--", "true"], 2, "did you mean edge-1?"),
        (["exec", "edge-1", "--", "no-such-command"], 2, "no command 'no-such-command' on edge-1"),
        (["exec", "edge-1", "--", "sh", "-c", "exit 7"], 7, ""),
        (["status", "--name", "no-such-testbed"], 1, "run `pkgctl up`"),
        (["status", "--name", "Bad/Name"], 2, "is no name of a testbed"),
    ],
)
def test_a_mistake_is_one_line_with_its_code(
    duo: Paths, words: list[str], code: int, hint: str
) -> None:
    done = pkgctl(*words, name=duo.name)

    assert done.returncode == code
    assert hint in done.stderr
    assert done.stderr.count("\n") <= 1


def test_without_root_it_says_so(tmp_path: Path, place: Paths) -> None:
    def drop() -> None:
        os.setgid(65534)
        os.setuid(65534)

    if not _readable_by_nobody():
        pytest.skip("needs an interpreter that an ordinary user may run")
    done = pkgctl("up", "duo", name=place.name, preexec_fn=drop, cwd=tmp_path)

    assert done.returncode == 3
    assert "needs root" in done.stderr


def _readable_by_nobody() -> bool:
    places = [Path(sys.executable).resolve(), Path(testbed.__file__).resolve()]
    return all(parent.stat().st_mode & 0o001 for each in places for parent in each.parents)
