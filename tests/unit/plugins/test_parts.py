# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json

import pytest

from ansible_collections.pkgctl.testbed.plugins.module_utils import arming, identity, kinds, parts
from ansible_collections.pkgctl.testbed.plugins.module_utils.change import Change
from ansible_collections.pkgctl.testbed.plugins.module_utils.errors import (
    AgentError,
    DisturbanceError,
)

from .agents import node


def test_a_star_is_every_layer_when_it_is_taken_away_only():
    assert parts.Layer("*", present=False).stored is None
    assert parts.Layer("slow").stored == "slow"
    with pytest.raises(DisturbanceError, match=r"^layer: '\*' is no name"):
        parts.Layer("*")
    with pytest.raises(DisturbanceError, match=r"^layer: 'base' is the testbed's own layer"):
        parts.Layer("base")


def test_a_report_is_changed_if_any_part_is_and_shows_each():
    report = parts.result(
        {
            "link": Change(False, "a\n", "a\n"),
            "disk": Change(True, "data: mounted\n", "data: unmounted\n", ["data: unmounted"]),
        }
    )

    assert report["changed"] is True
    assert report["actions"] == ["data: unmounted"]
    assert [part["before_header"] for part in report["diff"]] == ["link", "disk"]
    assert report["diff"][1]["after"] == "data: unmounted\n"


class World:
    """Stands in for the kinds and the agent: notes what it is told, in order."""

    def __init__(self) -> None:
        self.told = []
        self.refuses = None
        self.has_agent = True
        self.called_off = 0
        self.cancels = True

    def set_layer(self, identity, kind, layer, body, *, force=False, dry_run=False):
        step = f"{'foresee' if dry_run else 'set'} {kind}"
        self.told.append((step, layer, body, force))
        if self.refuses in (kind, step):
            raise DisturbanceError(f"{kind}: no")
        return Change(True, "", "", [f"{kind}"])

    def lease(self, identity, layer, seconds, *, dry_run):
        if seconds is not None and not self.has_agent:
            raise AgentError("nobody answers")
        self.told.append(("ask for a lease" if dry_run else "lease", layer, seconds))

    def cancel(self, identity, layer, asked, *, dry_run):
        self.told.append(("cancel", layer, [*asked], dry_run))
        if not self.cancels:
            raise AgentError("the journal cannot be written")
        return self.called_off

    def release(self, identity, layer):
        self.told.append(("release", layer))

    def arm(self, identity, layer, bodies, times, timeline, *, dry_run):
        self.told.append(("arm", layer, bodies, times, timeline, dry_run))
        return {"changed": True, "actions": []}

    @property
    def order(self) -> list[str]:
        return [each[0] for each in self.told]


@pytest.fixture
def world(monkeypatch, tmp_path):
    made = World()
    node(tmp_path)
    monkeypatch.setattr(identity, "DIRECTORY", str(tmp_path))
    monkeypatch.setattr(kinds, "set_layer", made.set_layer)
    for name in ("lease", "cancel", "release", "arm"):
        monkeypatch.setattr(arming, name, getattr(made, name))
    return made


def options(**given):
    return {"layer": "slow", "state": "present", "lease": "10m", "force": False, **given}


def test_all_is_tried_dry_and_the_lease_noted_before_anything_is_done(world):
    asked = options(quota={"cpu": "0.2"}, health={"health": "paused"})

    report = parts.set_layer(asked, dry_run=False)

    assert report["changed"] and report["actions"] == ["quota", "health"]
    assert world.order == [
        *("foresee quota", "foresee health", "lease", "set quota", "set health"),
    ]
    assert world.told[2] == ("lease", "slow", 600.0)


def test_a_dry_run_sets_nothing_but_sees_whether_there_is_an_agent(world):
    parts.set_quota(options(cpu="0.2"), dry_run=True)

    assert world.order == ["foresee quota", "ask for a lease"]
    world.has_agent = False
    with pytest.raises(AgentError):
        parts.set_quota(options(cpu="0.2"), dry_run=True)


def test_what_is_refused_after_all_leaves_no_lease_for_a_later_layer_of_that_name(world):
    world.refuses = "set disk"

    with pytest.raises(DisturbanceError, match="disk: no"):
        parts.set_disk(options(condition="unmounted"), dry_run=False)

    assert world.order == ["foresee disk", "lease", "set disk", "release"]


def test_what_is_refused_leaves_nothing_half_done(world):
    world.refuses = "health"

    with pytest.raises(DisturbanceError, match="health: no"):
        parts.set_layer(options(quota={"cpu": "0.2"}, health={"health": "paused"}), dry_run=False)

    assert world.order == ["foresee quota", "foresee health"]


def test_a_layer_without_a_lease_needs_no_agent(world):
    world.has_agent = False

    with pytest.raises(AgentError):
        parts.set_quota(options(cpu="0.2"), dry_run=False)
    assert "set quota" not in world.order

    parts.set_quota(options(cpu="0.2", lease="none"), dry_run=False)
    assert world.told[-1] == ("set quota", "slow", {"cpu": 0.2}, False)


def test_a_wrong_lease_is_refused_before_anything_is_done(world):
    with pytest.raises(ValueError, match=r"^lease: duration 'long'"):
        parts.set_quota(options(cpu="0.2", lease="long"), dry_run=False)

    assert world.told == []


def test_force_is_handed_on(world):
    parts.set_quota(options(memory="1Mi", force=True), dry_run=False)

    assert world.told[-1] == ("set quota", "slow", {"memory": 1 << 20}, True)


def test_a_layer_that_goes_is_called_off_first_and_its_lease_dropped_last(world):
    world.called_off = 2

    report = parts.set_layer(options(state="absent"), dry_run=False)

    every = ["link", "quota", "disk", "health", "stress"]
    assert report["actions"][0] == "call off what was to come"
    assert world.order == [
        *(f"foresee {kind}" for kind in every),
        "cancel",
        *(f"set {kind}" for kind in every),
        "release",
    ]
    assert all(each[2] is None for each in world.told if each[0].startswith("set"))


def test_a_layer_goes_though_the_agent_does_not_call_off_what_is_to_come_of_it(world):
    world.cancels = False

    with pytest.raises(AgentError, match="journal"):
        parts.set_quota(options(state="absent"), dry_run=False)

    assert world.order == ["foresee quota", "cancel", "set quota"]


def test_a_dry_run_of_healing_calls_nothing_off(world):
    parts.set_layer(options(layer="*", state="absent"), dry_run=True)

    assert world.told[-1] == ("cancel", None, [*parts.KINDS], True)


def test_the_lease_stays_while_another_kind_holds_the_layer(world, tmp_path):
    (tmp_path / "quota.json").write_text(json.dumps({"slow": {"cpu": 0.2}}))

    parts.set_link(options(state="absent"), dry_run=False)
    assert "release" not in world.order

    parts.set_quota(options(state="absent"), dry_run=False)
    assert world.order[-1] == "release"


def test_the_leases_of_all_layers_stay_while_only_one_kind_is_healed(world):
    parts.set_link(options(layer="*", state="absent"), dry_run=False)

    assert "release" not in world.order


def test_with_a_timeline_the_layer_is_armed_with_its_times(world):
    asked = options(
        timeline="storm", start="2s", flap="1s/1s/random", seed=7, health={"health": "paused"}
    )

    parts.set_layer(asked, dry_run=False)

    ((_, layer, bodies, times, timeline, dry_run),) = world.told
    assert (layer, timeline, dry_run) == ("slow", "storm", False)
    assert bodies == {"health": {"health": "paused"}}
    assert times == {
        **{"start": 2.0, "duration": None, "ramp": None, "repeat": None, "trace": None},
        **{"flap": {"on": 1.0, "off": 1.0, "random": True}, "seed": 7},
        **{"when": None, "after": None, "lease": 600.0},
    }


def test_a_trace_comes_as_rows_and_not_as_a_file(world):
    link = {"ingress": {"*": {"loss": "0%"}}}

    parts.set_link(options(timeline="t", trace=[[0, {"delay": 0.1}]], **link), dry_run=False)

    assert world.told[0][3]["trace"] == [[0.0, {"delay": 0.1}]]
    with pytest.raises(ValueError, match=r"^trace: 'x.csv' is no list of rows"):
        parts.set_link(options(timeline="t", trace="x.csv", **link), dry_run=False)


def test_the_seed_follows_from_the_name_if_none_is_given(world):
    for layer in ("slow", "cut", "slow"):
        parts.set_health(options(layer=layer, timeline="t", health="paused"), dry_run=False)

    seeds = [each[3]["seed"] for each in world.told]
    assert seeds[0] == seeds[2] != seeds[1]
