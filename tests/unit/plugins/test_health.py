# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.pkgctl.testbed.plugins.module_utils import (
    arming,
    channel,
    condition,
    health,
    layers,
    volatile,
)
from ansible_collections.pkgctl.testbed.plugins.module_utils.errors import (
    CapabilityError,
    DisturbanceError,
)
from ansible_collections.pkgctl.testbed.plugins.module_utils.health import State

from . import agents, trees

UP = State(processes=3, mounted=("data",))
PAUSED = State(closed=True, frozen=True, processes=3, mounted=("data",))
OFF = State(closed=True, unmounted=("data",))


@pytest.mark.parametrize(
    ("now", "then", "wanted"),
    [
        (UP, "running", []),
        (UP, "paused", ["close links", "freeze"]),
        (UP, "stopped", ["close links", "end processes", "let go of disks"]),
        (UP, "crashed", ["close links", "kill processes", "let go of disks"]),
        (PAUSED, "paused", []),
        (PAUSED, "running", ["thaw", "open links"]),
        (PAUSED, "crashed", ["kill processes", "let go of disks"]),
        (OFF, "crashed", []),
        (OFF, "stopped", []),
        (OFF, "running", ["take up disks", "open links"]),
        (OFF, "paused", ["take up disks", "freeze"]),
    ],
)
def test_the_steps_from_a_state_to_a_condition(now, then, wanted):
    assert health.steps(now, then) == wanted


def test_a_node_that_goes_down_loses_its_memory():
    full = State(processes=1, memory=("/tmp", "shm"))

    assert health.steps(full, "crashed")[-1] == "lose memory"
    assert "lose memory" not in health.steps(full, "paused")
    assert "lose memory" not in health.steps(full, "running")


HALF = State(closed=True, frozen=None, processes=3, mounted=("data",))


@pytest.mark.parametrize(
    ("then", "wanted"),
    [
        ("paused", ["freeze"]),
        ("running", ["thaw", "open links"]),
        ("crashed", ["kill processes", "let go of disks"]),
    ],
)
def test_a_node_of_which_a_part_stands_still_is_brought_on(then, wanted):
    assert health.steps(HALF, then) == wanted


def test_units_are_frozen_and_found_with_their_node(here, tmp_path, monkeypatch):
    machine = trees.v1(tmp_path / "groups")
    monkeypatch.setattr(health, "group", lambda path: trees.Group(path, machine))
    own, system = machine.v1["freezer"] / here.cgroup, machine.v1["freezer"] / SYSTEM
    health.group(here.cgroup).create()
    assert health._is_frozen(here) is False
    health.group(f"{SYSTEM}/unit-web").create()

    health._set_frozen(here, frozen=True)
    assert health._is_frozen(here) is True
    (system / "freezer.state").write_text("THAWED")
    assert health._is_frozen(here) is None
    (own / "freezer.state").write_text("THAWED")
    assert health._is_frozen(here) is False
    (machine.v1["pids"] / SYSTEM / "unit-web" / "cgroup.procs").write_text("77\n")
    assert health._processes(here) == [77]


SYSTEM = "pkgctl/test/system/edge-1"
STATES = st.builds(
    State,
    closed=st.booleans(),
    frozen=st.sampled_from([True, False, None]),
    processes=st.integers(0, 2),
    mounted=st.just(("data",)),
    memory=st.sampled_from([(), ("/tmp",)]),
) | st.builds(
    State,
    closed=st.booleans(),
    frozen=st.sampled_from([True, False, None]),
    processes=st.integers(0, 2),
    unmounted=st.just(("data",)),
)


@given(STATES, st.sampled_from(condition.CONDITIONS))
def test_whatever_state_a_kill_left_the_steps_lead_to_the_condition(state, then):
    after = _carried_out(state, health.steps(state, then))

    assert health.steps(after, then) == []
    assert after.closed == (then != "running")
    assert after.frozen == (then == "paused")
    if condition.is_off(then):
        assert (after.processes, after.mounted, after.memory) == (0, (), ())


def _carried_out(state: State, steps: list[str]) -> State:
    now = {key: getattr(state, key) for key in State.__slots__}
    effects = {
        "close links": {"closed": True},
        "open links": {"closed": False},
        "freeze": {"frozen": True},
        "thaw": {"frozen": False},
        "kill processes": {"processes": 0, "frozen": False},
        "end processes": {"processes": 0, "frozen": False},
        "let go of disks": {"mounted": (), "unmounted": ("data",)},
        "take up disks": {"mounted": ("data",), "unmounted": ()},
        "lose memory": {"memory": ()},
    }
    for step in steps:
        now |= effects[step]
    return State(**now)


@given(STATES, st.sampled_from(["paused", "stopped", "crashed"]))
def test_the_links_close_before_anything_else_happens(state, then):
    steps = health.steps(state, then)

    assert "close links" not in steps[1:]


@given(STATES)
def test_the_links_open_when_all_else_is_done(state):
    steps = health.steps(state, "running")

    assert "open links" not in steps[:-1]


class Kernel:
    """A node in which each step does what it says."""

    def __init__(self, state: State) -> None:
        self.state = state
        self.done: list[str] = []
        self.fails_at = ""

    def act(self, step):
        def perform(_):
            if step == self.fails_at:
                raise DisturbanceError(f"cannot {step}")
            self.done.append(step)
            self.state = _carried_out(self.state, [step])

        return perform


@pytest.fixture
def kernel(monkeypatch, tmp_path):
    made = Kernel(UP)
    monkeypatch.setattr(health, "read", lambda _: made.state)
    monkeypatch.setattr(health, "_ACTS", {step: made.act(step) for step in health._ACTS})
    monkeypatch.setattr(health.stress, "converge", lambda _: made.done.append("converge load"))
    monkeypatch.setattr(volatile, "check_apart", lambda: None)
    monkeypatch.setattr(health, "group", lambda path: trees.node(trees.v1(tmp_path / "groups")))
    return made


@pytest.fixture
def here(tmp_path):
    return agents.node(tmp_path)


def test_a_layer_is_set_and_taken_away(kernel, here):
    set_ = health.change(here, layer="boom", health="crashed")

    assert set_.changed
    assert (set_.before, set_.after) == ("health: running\n", "health: crashed\n")
    assert set_.actions == ["close links", "kill processes", "let go of disks"]
    assert condition.load(here.directory) == "crashed"
    assert condition.outage(here.directory, 0.0) == "crashed"
    assert kernel.done[-1] == "converge load"

    healed = health.change(here, layer="boom", present=False)
    assert healed.actions == ["take up disks", "open links"]
    assert condition.load(here.directory) == "running"


def test_setting_the_same_again_changes_nothing(kernel, here):
    health.change(here, layer="nap", health="paused")
    kernel.done.clear()

    again = health.change(here, layer="nap", health="paused")

    assert not again.changed
    assert kernel.done == []
    assert not health.converge(here).changed


def test_of_two_layers_the_harsher_holds_and_each_is_healed_alone(kernel, here):
    health.change(here, layer="nap", health="paused")
    health.change(here, layer="boom", health="crashed")
    assert not kernel.state.frozen and kernel.state.processes == 0

    health.change(here, layer="boom", present=False)

    assert condition.load(here.directory) == "paused"
    assert kernel.state.frozen and kernel.state.closed and kernel.state.mounted


def test_a_dry_run_touches_neither_store_nor_kernel(kernel, here):
    foreseen = health.change(here, layer="boom", health="stopped", dry_run=True)

    assert foreseen.changed
    assert foreseen.actions == ["close links", "end processes", "let go of disks"]
    assert kernel.done == []
    assert condition.load(here.directory) == "running"


def test_drift_is_told_and_mended(kernel, here):
    health.change(here, layer="nap", health="paused")
    kernel.state = _carried_out(kernel.state, ["thaw"])

    assert health.converge(here, dry_run=True).actions == ["freeze"]
    assert kernel.state.frozen is False
    assert health.converge(here).actions == ["freeze"]
    assert not health.converge(here, dry_run=True).changed


def test_what_was_cut_short_on_the_way_down_does_not_come_back_alive(kernel, here):
    kernel.fails_at = "let go of disks"
    with pytest.raises(DisturbanceError, match="cannot let go"):
        health.change(here, layer="boom", health="crashed")
    kernel.fails_at = ""
    kernel.state = State(True, frozen=True, processes=2, mounted=("data",), memory=("/tmp",))

    health.change(here, layer="boom", present=False)

    order = [step for step in kernel.done if step != "converge load"]
    assert order[-4:] == ["let go of disks", "lose memory", "take up disks", "open links"]
    assert kernel.state.processes == 0


def test_heal_goes_on_when_what_was_cut_short_cannot_be_ended(kernel, here):
    kernel.fails_at = "let go of disks"
    with pytest.raises(DisturbanceError):
        health.change(here, layer="halt", health="stopped")

    health.change(here, layer="halt", present=False)

    assert not kernel.state.closed


@pytest.mark.parametrize("word", ["sleepy", "running", None, ""])
def test_other_words_are_refused_with_those_that_are_known(kernel, here, word):
    with pytest.raises(DisturbanceError, match="known are paused, stopped, crashed"):
        health.change(here, layer="x", health=word)
    assert layers.load(Path(here.directory, condition.STORE)) == {}


@pytest.mark.parametrize("dry_run", [True, False])
def test_a_process_of_the_node_cannot_take_its_own_node_down(kernel, here, monkeypatch, dry_run):
    monkeypatch.setattr(health, "_processes", lambda _: [os.getpid()])

    with pytest.raises(DisturbanceError, match="pkgctl_limits: false"):
        health.change(here, layer="boom", health="crashed", dry_run=dry_run)
    assert condition.load(here.directory) == "running"


def test_a_machine_of_its_own_is_left_alone(kernel, here, monkeypatch):
    def refuse():
        raise CapabilityError("this node is a machine of its own")

    monkeypatch.setattr(volatile, "check_apart", refuse)

    with pytest.raises(CapabilityError, match="a machine of its own"):
        health.change(here, layer="boom", health="crashed")
    assert condition.load(here.directory) == "running"
    assert not health.change(here, layer="boom", present=False).changed


def test_the_agent_is_told_of_each_new_condition(kernel, here):
    (Path(here.directory) / "agent").mkdir()
    with channel.listen(arming.socket(here)) as listener:
        health.change(here, layer="nap", health="paused")
        health.change(here, layer="doze", health="paused")
        health.change(here, layer="nap", present=False)
        health.change(here, layer="doze", present=False)
        listener.settimeout(0.0)
        heard = []
        with suppress(BlockingIOError):
            while True:
                client, _ = listener.accept()
                with client, client.makefile("rb") as lines:
                    heard.append(json.loads(lines.readline()))

    assert heard == [{"op": "node-changed", "node": "edge-1"}] * 2


def test_an_agent_that_is_the_caller_itself_is_not_waited_for(kernel, here, tmp_path):
    path = tmp_path / "agent"
    path.mkdir()
    listener = channel.listen(path / "agent.sock")  # It takes the connection and never answers.

    health.change(here, layer="nap", health="paused")

    listener.close()
    assert condition.load(here.directory) == "paused"


@pytest.mark.parametrize("world", [trees.v1, trees.v2])
def test_a_group_tells_whether_it_is_frozen(world, tmp_path):
    made = trees.node(world(tmp_path))
    if made.machine.is_unified("freezer"):
        trees.put(made, "freezer", "cgroup.events", "populated 1\nfrozen 0\n")
        assert not made.is_frozen()
        made.freeze(frozen=True)
        assert trees.shown(made, "freezer", "cgroup.freeze") == "1"
        trees.put(made, "freezer", "cgroup.events", "populated 1\nfrozen 1\n")
    else:
        trees.put(made, "freezer", "freezer.state", "FREEZING\n")
        assert not made.is_frozen()
        made.freeze(frozen=True)
    assert made.is_frozen()
