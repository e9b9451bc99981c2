# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.pkgctl.testbed.plugins.module_utils import condition, layers, stress
from ansible_collections.pkgctl.testbed.plugins.module_utils.errors import (
    CapabilityError,
    DisturbanceError,
)
from ansible_collections.pkgctl.testbed.plugins.module_utils.identity import Disk

from . import agents, trees

DISK = Disk("/images/data.img", "/data", 1 << 26)


def words(body, disk=DISK):
    return [" ".join(argv) for argv in stress.commands(body, "/data/x", disk)]


@pytest.mark.parametrize(
    ("body", "wanted"),
    [
        ({"cpu": 2}, ["--cpu 2"]),
        ({"cpu": 0.5}, ["--cpu 1 --cpu-load 50"]),
        ({"cpu": 1.5}, ["--cpu 1", "--cpu 1 --cpu-load 50"]),
        ({"cpu": 0.29}, ["--cpu 1 --cpu-load 29"]),
        ({"memory": 1000000}, ["--vm 1 --vm-bytes 1000000 --vm-keep --vm-hang 0"]),
        (
            {"io": 2},
            ["--hdd 2 --hdd-bytes 4194304 --hdd-opts direct --temp-path /data/x"],
        ),
        ({}, []),
    ],
)
def test_the_commands_of_a_load(body, wanted):
    assert words(body) == [f"stress-ng --timeout 0 --quiet {each}" for each in wanted]


def test_all_that_is_whole_is_one_command():
    found = words({"cpu": 1.25, "memory": 4096, "io": 1})

    assert len(found) == 2
    assert all(key in found[0] for key in ("--cpu 1", "--vm 1", "--hdd 1"))
    assert found[1].endswith("--cpu 1 --cpu-load 25")


def test_without_a_disk_there_is_no_io():
    assert words({"io": 1}, None) == []
    assert words({"cpu": 1, "io": 1}, None) == ["stress-ng --timeout 0 --quiet --cpu 1"]


@pytest.mark.parametrize(
    ("size", "file"), [(1 << 20, 1 << 20), (1 << 26, 1 << 22), (1 << 40, 64 << 20)]
)
def test_a_workers_file_fits_the_disk(size, file):
    found = words({"io": 1}, Disk("/i", "/data", size))

    assert f"--hdd-bytes {file} " in found[0]


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        ({}, "a load needs one of cpu, memory, io"),
        ({"disk": 1}, "disk: unknown load"),
        ({"cpu": 0}, "cpu: must be above zero, not 0"),
        ({"cpu": 1, "io": -1}, "io: must be above zero, not -1"),
    ],
)
def test_a_load_that_means_nothing_is_refused(body, complaint):
    with pytest.raises(DisturbanceError, match=complaint):
        stress.check(body)


class Machine:
    """Groups made of files in which commands 'run' when they were begun."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.node = trees.node(trees.v1(folder))
        self.running: dict[str, list[tuple[str, ...]]] = {}
        monkeypatch.setattr(stress, "group", lambda path: self.node)
        monkeypatch.setattr(stress, "_tool", lambda: "/usr/bin/stress-ng")
        monkeypatch.setattr(stress, "_running", lambda own: sorted(self.running[own.path]))
        monkeypatch.setattr(stress, "_spawn", self._spawn)
        monkeypatch.setattr(stress, "_end", self._end)
        monkeypatch.setattr(stress, "_disk", lambda identity: None)

    def _spawn(self, tool, argv, own):
        assert own.exists()
        self.running.setdefault(own.path, []).append(argv)

    def _end(self, own):
        self.running.pop(own.path, None)
        own.remove()

    @property
    def layers(self) -> set[str]:
        return {path.rpartition("stress-")[2] for path in self.running}


@pytest.fixture
def machine(tmp_path, monkeypatch):
    return Machine(tmp_path / "groups", monkeypatch)


@pytest.fixture
def here(tmp_path):
    (tmp_path / "node").mkdir()
    return agents.node(tmp_path / "node")


def test_layers_run_beside_each_other_and_end_one_by_one(machine, here):
    assert stress.change(here, layer="a", body={"cpu": 1}).changed
    assert stress.change(here, layer="b", body={"cpu": 0.5}).changed
    assert machine.layers == {"a", "b"}

    healed = stress.change(here, layer="a", present=False)

    assert healed.actions == ["end the load of a"]
    assert machine.layers == {"b"}
    assert layers.load(Path(here.directory, stress.STORE)) == {"b": {"cpu": 0.5}}
    assert stress.change(here, layer=None, present=False).changed
    assert machine.layers == set()


def test_the_same_load_again_changes_nothing(machine, here):
    stress.change(here, layer="a", body={"cpu": 1.5})

    assert not stress.change(here, layer="a", body={"cpu": 1.5}).changed
    assert not stress.converge(here).changed


def test_another_amount_replaces_what_runs(machine, here):
    stress.change(here, layer="a", body={"cpu": 1})

    changed = stress.change(here, layer="a", body={"cpu": 2})

    assert changed.actions == ["begin the load of a: stress-ng --timeout 0 --quiet --cpu 2"]
    assert [argvs for argvs in machine.running.values()] == [
        [("stress-ng", "--timeout", "0", "--quiet", "--cpu", "2")]
    ]
    assert (changed.before, changed.after) == ("a: cpu 1\n", "a: cpu 2\n")


def test_what_died_or_was_left_over_is_drift_and_is_mended(machine, here):
    stress.change(here, layer="a", body={"cpu": 1})
    machine.running[next(iter(machine.running))].clear()
    other = machine.node.child("stress-old")
    other.create()
    machine.running[other.path] = []

    drift = stress.converge(here, dry_run=True)
    assert drift.actions[0] == "end the load of old"
    assert drift.actions[1].startswith("begin the load of a")
    assert other.exists()

    stress.converge(here)

    assert machine.layers == {"a"}
    assert not other.exists()
    assert not stress.converge(here, dry_run=True).changed


def test_a_dry_run_begins_nothing(machine, here):
    foreseen = stress.change(here, layer="a", body={"memory": 1 << 20}, dry_run=True)

    assert foreseen.changed
    assert foreseen.after == "a: memory 1Mi\n"
    assert machine.running == {}
    assert not Path(here.directory, stress.STORE).exists()


def test_a_node_that_is_off_has_no_load_and_gets_it_back(machine, here):
    stress.change(here, layer="a", body={"cpu": 1})
    _health(here, "crashed")

    stress.converge(here)
    assert machine.layers == set()
    assert not stress.converge(here, dry_run=True).changed

    _health(here, None)
    stress.converge(here)
    assert machine.layers == {"a"}


def test_on_a_paused_node_nothing_begins_and_what_is_there_stays(machine, here):
    stress.change(here, layer="a", body={"cpu": 1})
    _health(here, "paused")

    assert stress.change(here, layer="b", body={"cpu": 1}).actions == []
    assert machine.layers == {"a"}
    assert not stress.converge(here, dry_run=True).changed

    _health(here, None)
    stress.converge(here)
    assert machine.layers == {"a", "b"}


def _health(here, word):
    stored = {"x": {"health": word}} if word else {}
    layers.save(Path(here.directory, condition.STORE), stored)


def test_a_machine_without_the_tool_is_told_how_to_get_it(machine, here, monkeypatch):
    monkeypatch.setattr(stress, "_tool", lambda: None)

    with pytest.raises(CapabilityError, match="apt-get install stress-ng"):
        stress.change(here, layer="a", body={"cpu": 1})
    assert not Path(here.directory, stress.STORE).exists()
    assert not stress.change(here, layer="a", present=False).changed


def test_io_needs_a_data_disk(machine, tmp_path):
    diskless = agents.node(tmp_path, disks={})

    with pytest.raises(DisturbanceError, match="edge-1 has no data disk to load"):
        stress.change(diskless, layer="a", body={"io": 1})


def test_leftover_files_of_io_are_found_by_their_layer(tmp_path, here, monkeypatch):
    disk = Disk("/i", str(tmp_path / "disk"), 1 << 26)
    for name in (".pkgctl-stress-a", ".pkgctl-stress-b", "mine"):
        (tmp_path / "disk" / name).mkdir(parents=True)
    monkeypatch.setattr(stress, "_disk", lambda identity: disk)

    found = stress._folders(here)

    assert [name for name, _ in found] == ["a", "b"]
