# SPDX-License-Identifier: GPL-3.0-or-later
"""The agent's timelines and leases, with a clock that the test moves and nodes that only note."""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from itertools import count

import pytest

from ansible_collections.pkgctl.testbed.plugins.module_utils import syscalls, timelines
from ansible_collections.pkgctl.testbed.plugins.module_utils.change import Change
from ansible_collections.pkgctl.testbed.plugins.module_utils.errors import (
    AgentError,
    DisturbanceError,
)
from ansible_collections.pkgctl.testbed.plugins.module_utils.leases import Leases
from ansible_collections.pkgctl.testbed.plugins.module_utils.ledger import Book
from ansible_collections.pkgctl.testbed.plugins.module_utils.loop import Timer
from ansible_collections.pkgctl.testbed.plugins.module_utils.timelines import Timelines
from ansible_collections.pkgctl.testbed.plugins.module_utils.waiting import Judge

HALF = {"cpu": 0.5}


class Clock:
    """A loop whose time passes when the test says so."""

    def __init__(self):
        self.now = 100.0
        self._timers = []
        self._order = count()

    def at(self, when, action):
        timer = Timer(self, when, action)
        heapq.heappush(self._timers, (when, next(self._order), timer))
        return timer

    def swept(self):
        """Take no note of timers that were called off."""

    def pass_to(self, when):
        while self._timers and self._timers[0][0] <= when:
            due, _, timer = heapq.heappop(self._timers)
            self.now = max(self.now, due)
            if timer.action is not None:
                timer.action()
        self.now = when


@dataclass
class Named:
    name: str


class Stage:
    """Nodes that hold what they are told and refuse what the test says."""

    def __init__(self, clock):
        self._clock = clock
        self.nodes = {"edge-1", "edge-2"}
        self.layers = {}
        self.told = []
        self.down = set()
        self.refusals = 0

    def node(self, name):
        if name not in self.nodes:
            raise AgentError(f"there is no node {name!r}")
        return Named(name)

    def names(self):
        return sorted(self.nodes)

    def detach(self):
        """Share nothing."""

    def prepare(self, *_):
        """Have everything ready."""

    def set(self, node, kind, layer, body, *, dry_run=False):
        self.node(node)
        slot = (node, kind, layer)
        changed = self.layers.get(slot) != body
        if dry_run:
            if body == {"cpu": -1}:
                raise DisturbanceError("cpu: must be above zero, not -1")
            return Change(changed, "", "")
        self.told.append((round(self._clock.now - 100, 6), node, layer, body))
        if self.refusals:
            self.refusals -= 1
            raise DisturbanceError("not now")
        self.layers = {key: held for key, held in self.layers.items() if key != slot}
        if body is not None:
            self.layers[slot] = body
        return Change(changed, "", "")

    def stored(self, node, kind):
        return {
            layer: body for (n, k, layer), body in self.layers.items() if (n, k) == (node, kind)
        }

    def standing(self, *_):
        return {"cpu": 1.0}

    def holds(self, node, layer):
        return any((n, each) == (node, layer) for n, _, each in self.layers)

    def health(self, name):
        self.node(name)
        return "crashed" if name in self.down else "running"


class Agent:
    """The parts of an agent that carry out timelines, over a journal in a test's folder."""

    def __init__(self, path, clock, stage):
        self.clock, self.stage = clock, stage
        self.events, self.requests, self.jobs, self.renewing = [], 0, {}, False
        self.book = Book(path)
        judge = Judge(self.book, stage, lambda: {"requests": self.requests}, self.jobs.get)
        self.timelines = Timelines(clock, stage, self.book, judge, self.events.append)
        self.leases = Leases(
            self.book, clock, lambda: self.renewing, self.timelines.heal, stage.holds
        )
        self.timelines.attach(self.leases.mind)
        self.timelines.resume()
        self.leases.mind()

    def arm(self, layer="slow", node="edge-1", body=None, timeline="run", **times):
        request = {"timeline": timeline, "node": node, "kind": "quota", "layer": layer}
        return self.timelines.arm({**request, "body": body or HALF, "times": times})["changed"]

    def start(self, timeline="run", *, t0=None, keep=False):
        t0 = self.clock.now if t0 is None else t0
        return self.timelines.start({"timeline": timeline, "t0": t0, "keep": keep})["steps"]

    def told(self):
        return [(at, layer, body is not None) for at, _, layer, body in self.stage.told]

    def listed(self):
        return {each["timeline"]: each for each in self.timelines.listing()["timelines"]}


@pytest.fixture
def clock(monkeypatch):
    made = Clock()
    monkeypatch.setattr(syscalls, "monotonic", lambda: made.now)
    return made


@pytest.fixture
def stage(clock):
    return Stage(clock)


@pytest.fixture
def agent(tmp_path, clock, stage, monkeypatch):
    monkeypatch.setattr(timelines, "Child", lambda _, work, then: then(work()))
    return Agent(tmp_path / "journal.jsonl", clock, stage)


def again(agent):
    """Another agent on the same journal and nodes: the first was killed."""
    agent.clock._timers.clear()
    agent.stage.told.clear()
    return Agent(agent.book._journal._path, agent.clock, agent.stage)


def test_steps_happen_at_their_times_and_are_told(agent, clock):
    agent.arm("slow", start=1.0, duration=2.0)
    agent.arm("cut", start=2.0, duration=3.0)
    assert agent.start() == 2

    clock.pass_to(110.0)

    assert agent.told() == [
        (1.0, "slow", True),
        (2.0, "cut", True),
        (3.0, "slow", False),
        (5.0, "cut", False),
    ]
    first = agent.events[0]
    assert (first["event"], first["timeline"], first["layer"]) == ("layer", "run", "slow")
    assert (first["node"], first["kind"], first["action"]) == ("edge-1", "quota", "on")
    assert (first["planned"], first["actual"], first["error"]) == (101.0, 101.0, None)
    assert agent.listed() == {}
    assert list(agent.book.records()) == []


def test_the_same_step_armed_again_is_no_change(agent, clock):
    assert agent.arm(duration=5.0) is True
    assert agent.arm(duration=5.0) is False
    assert agent.arm(duration=6.0) is True

    agent.start()
    clock.pass_to(101.0)

    assert agent.arm(duration=6.0) is False
    assert agent.start() == 0
    assert agent.arm(duration=7.0) is True


def test_a_dry_run_says_what_would_be_armed_and_arms_nothing(agent):
    request = {"timeline": "run", "node": "edge-1", "kind": "quota", "layer": "slow"}

    for _ in range(2):
        asked = {**request, "body": HALF, "times": {}, "dry_run": True}
        assert agent.timelines.arm(asked) == {"changed": True}

    assert agent.start() == 0


def test_beginning_again_takes_over_only_what_is_new(agent, clock):
    agent.arm("slow", duration=5.0)
    agent.arm("cut", duration=5.0)
    agent.start()
    clock.pass_to(101.0)

    agent.arm("slow", duration=8.0)
    assert agent.start() == 1
    clock.pass_to(120.0)

    assert agent.told() == [
        (0.0, "slow", True),
        (0.0, "cut", True),
        (1.0, "slow", True),
        (5.0, "cut", False),
        (9.0, "slow", False),
    ]


def test_a_kept_timeline_runs_again_from_its_beginning(agent, clock):
    agent.arm(start=1.0)
    agent.start(keep=True)
    clock.pass_to(105.0)

    assert agent.start(keep=True) == 1
    clock.pass_to(110.0)

    assert agent.told() == [(1.0, "slow", True), (5.0, "slow", False), (6.0, "slow", True)]


def test_a_timeline_may_begin_later_or_have_begun_before(agent, clock):
    agent.arm("slow", start=1.0)
    agent.arm("old", timeline="past", duration=10.0, start=1.0)
    agent.start(t0=103.0)
    agent.start("past", t0=95.0)
    clock.pass_to(120.0)

    assert agent.told() == [(0.0, "old", True), (4.0, "slow", True), (6.0, "old", False)]
    assert agent.events[0]["planned"] == 96.0


def test_a_dropped_timeline_ends_what_it_has_in_force(agent, clock):
    agent.arm("slow")
    agent.arm("cut", start=5.0)
    agent.start()
    clock.pass_to(101.0)

    assert agent.timelines.drop({"timeline": "run"}) == {"steps": 2}
    assert agent.timelines.drop({"timeline": "run"}) == {"steps": 0}
    clock.pass_to(110.0)

    assert agent.told() == [(0.0, "slow", True), (1.0, "slow", False)]
    assert list(agent.book.records()) == []


def test_a_cancelled_step_leaves_its_layer_to_whoever_heals_and_a_lease_in_case(agent, clock):
    agent.arm(duration=5.0)
    agent.start()
    clock.pass_to(101.0)
    meant = {"node": "edge-1", "layer": None, "kinds": ["quota", "link"]}

    assert agent.timelines.cancel({**meant, "dry_run": True}) == {"steps": 1}
    assert agent.timelines.cancel(meant) == {"steps": 1}
    assert agent.timelines.cancel(meant) == {"steps": 0}

    clock.pass_to(110.0)
    assert agent.stage.holds("edge-1", "slow")
    clock.pass_to(800.0)
    assert not agent.stage.holds("edge-1", "slow")


def test_what_cannot_be_is_refused_before_it_is_armed(agent):
    for words, arguments in {
        "must be above zero": {"body": {"cpu": -1}},
        "no node 'edge-9'": {"node": "edge-9"},
        "the testbed's own layer": {"layer": "base"},
        "cannot wait for itself": {"after": "slow + 1s"},
        "when: ": {"when": "the cows come home"},
        "duration: ": {"duration": -1.0},
        "unknown key": {"length": 1.0},
    }.items():
        with pytest.raises((DisturbanceError, ValueError), match=words):
            agent.arm(**arguments)
    assert agent.start() == 0


@pytest.mark.parametrize("t0", [float("nan"), float("inf"), -1e30, "soon", None, True])
def test_a_beginning_that_is_no_time_is_refused(agent, t0):
    agent.arm()

    with pytest.raises(ValueError, match=r"^t0: "):
        agent.timelines.start({"timeline": "run", "t0": t0})


def test_a_failure_is_told_and_healing_is_tried_until_it_holds(agent, clock):
    agent.arm(duration=2.0)
    agent.start()
    clock.pass_to(101.0)
    agent.stage.refusals = 3

    clock.pass_to(110.0)

    assert agent.told()[1:] == [(at, "slow", False) for at in (2.0, 3.0, 4.0, 5.0)]
    assert [(each["action"], each["error"]) for each in agent.events] == [
        ("on", None),
        ("off", "not now"),
        ("off", None),
    ]
    assert agent.listed() == {}


def test_healing_is_given_up_at_last_and_told(agent, clock):
    agent.arm(duration=2.0)
    agent.start()
    clock.pass_to(101.0)
    agent.stage.refusals = 1000

    clock.pass_to(300.0)

    assert [each["error"] for each in agent.events] == [None, "not now", "not now"]
    assert len(agent.stage.told) == 62
    assert agent.listed() == {}


def test_a_layer_that_was_refused_is_taken_away_all_the_same(agent, clock):
    agent.arm(duration=2.0)
    agent.stage.refusals = 1
    agent.start()
    clock.pass_to(110.0)

    assert agent.told() == [(0.0, "slow", True), (2.0, "slow", False)]
    assert [each["error"] for each in agent.events] == ["not now", None]


def test_a_node_that_is_gone_is_not_waited_for(agent, clock):
    agent.arm(duration=2.0)
    agent.start()
    clock.pass_to(101.0)
    agent.stage.nodes.remove("edge-1")
    clock.pass_to(105.0)

    assert agent.events[-1]["error"] == "there is no node 'edge-1'"
    assert agent.listed() == {}


def test_what_flaps_for_ever_on_a_node_that_is_gone_is_over(agent, clock):
    agent.arm(flap={"on": 1.0, "off": 1.0}, lease=None)
    agent.start()
    clock.pass_to(101.5)
    agent.stage.nodes.remove("edge-1")
    clock.pass_to(110.0)

    assert [each["error"] for each in agent.events] == [None, None, "there is no node 'edge-1'"]
    assert agent.listed() == {}
    assert list(agent.book.records()) == []


def test_what_was_switched_already_is_not_due_any_more(agent, clock):
    agent.arm("stays")
    agent.arm("slow", start=5.0, duration=1.0)
    agent.start()
    clock.pass_to(101.0)

    assert agent.timelines.next_due() == pytest.approx(104.5)  # It is made ready before.


def test_a_ramp_that_cannot_keep_up_leaves_steps_out(agent, clock):
    agent.arm(ramp={"seconds": 1.0, "steps": 10}, duration=5.0)
    agent.start(t0=99.45)

    clock.pass_to(100.0)
    assert [body["cpu"] for *_, body in agent.stage.told] == [pytest.approx(0.75)]


# Conditions.


def test_a_count_begins_a_step_once_there_are_more_since_the_beginning(agent, clock):
    agent.requests = 50
    agent.arm(when="requests > 10", start=1.0, duration=2.0)
    agent.start()
    for requests, wait in ((60, 101.0), (61, 102.0)):
        agent.requests = requests
        clock.pass_to(wait)
        agent.timelines.reconsider()
    clock.pass_to(110.0)

    assert agent.told() == [(3.0, "slow", True), (5.0, "slow", False)]


def test_a_node_or_a_job_may_be_waited_for(agent, clock):
    agent.stage.down.add("edge-2")
    agent.arm("one", when="node edge-2 ready")
    agent.arm("two", when="node edge-2 down")
    agent.arm("three", when="job web ready")
    agent.arm("four", when="job web finished")
    agent.arm("five", when="node edge-9 down")
    agent.start()
    clock.pass_to(101.0)
    assert agent.told() == [(0.0, "two", True)]

    agent.stage.down.clear()
    for status in ("running", "failed"):
        agent.jobs["web"] = status
        agent.timelines.reconsider()
        clock.pass_to(clock.now + 1)

    assert agent.told()[1:] == [(1.0, "one", True), (1.0, "three", True), (2.0, "four", True)]


def test_a_step_follows_the_end_of_a_layer_or_else_its_onset(agent, clock):
    agent.arm("slow", start=1.0, duration=2.0)
    agent.arm("slow", node="edge-2", start=1.0, duration=4.0)
    agent.arm("lasting", start=3.0)
    agent.arm("later", after="slow + 5s")
    agent.arm("then", after="lasting")
    agent.arm("last", after="later + 1s", start=1.0)
    agent.start()
    clock.pass_to(130.0)

    onsets = {layer: at for at, layer, on in agent.told() if on}
    assert onsets["later"] == 10.0
    assert onsets["then"] == 3.0
    assert onsets["last"] == 12.0


def test_a_step_follows_a_layer_of_another_timeline_or_a_lasting_one(agent, clock):
    agent.arm("slow", timeline="one", duration=3.0)
    agent.start("one")
    agent.arm("later", timeline="two", after="slow")
    agent.start("two")
    agent.stage.layers["edge-1", "quota", "fixed"] = HALF
    agent.arm("third", timeline="three", after="fixed + 1s")
    agent.start("three")
    clock.pass_to(110.0)

    onsets = {layer: at for at, layer, on in agent.told() if on}
    assert (onsets["later"], onsets["third"]) == (3.0, 1.0)


def test_what_waits_in_vain_ends_with_its_lease(agent, clock):
    agent.arm(when="requests > 10", duration=2.0, lease=None)
    agent.start()
    clock.pass_to(900.0)
    agent.requests = 100
    agent.timelines.reconsider()

    assert agent.listed() == {}
    assert all(not on for _, _, on in agent.told())


# Leases.


def test_a_layer_without_an_end_goes_when_its_lease_has_run_out(agent, clock):
    agent.arm(lease=60.0, flap={"on": 20.0, "off": 1.0})
    agent.start()
    clock.pass_to(159.0)
    assert agent.stage.holds("edge-1", "slow")

    clock.pass_to(200.0)

    assert not agent.stage.holds("edge-1", "slow")
    assert (agent.events[-1]["action"], agent.events[-1]["planned"]) == ("off", 160.0)
    assert agent.listed() == {}
    assert agent.leases.listing() == {"leases": []}


def test_a_lease_is_renewed_while_somebody_listens_and_half_is_left_at_least(agent, clock):
    agent.stage.layers["edge-1", "quota", "slow"] = HALF
    agent.leases.set("edge-1", {"layer": "slow", "seconds": 60.0})
    agent.renewing = True
    clock.pass_to(1000.0)
    agent.renewing = False

    left = agent.leases.listing()["leases"][0]["ends"] - clock.now
    assert 30.0 <= left <= 60.0
    clock.pass_to(clock.now + left + 1)
    assert not agent.stage.holds("edge-1", "slow")


def test_a_lease_without_seconds_does_not_run_out(agent, clock):
    agent.stage.layers["edge-1", "quota", "slow"] = HALF
    agent.leases.set("edge-1", {"layer": "slow", "seconds": 60.0})
    agent.leases.set("edge-1", {"layer": "slow", "seconds": None})
    clock.pass_to(1e6)

    assert agent.stage.holds("edge-1", "slow")


def test_only_the_leases_of_what_is_gone_are_dropped(agent):
    for layer in ("slow", "cut"):
        agent.leases.set("edge-1", {"layer": layer, "seconds": 60.0})
    agent.stage.layers["edge-1", "quota", "slow"] = HALF

    agent.leases.drop({"node": "edge-1", "layer": None})

    assert [each["layer"] for each in agent.leases.listing()["leases"]] == ["slow"]


def test_what_a_lease_could_not_heal_is_tried_again(agent, clock):
    agent.stage.layers["edge-1", "quota", "slow"] = HALF
    agent.leases.set("edge-1", {"layer": "slow", "seconds": 10.0})
    agent.stage.refusals = 12
    clock.pass_to(120.0)

    assert not agent.stage.holds("edge-1", "slow")
    assert agent.leases.listing() == {"leases": []}


def test_a_timeline_that_never_begins_is_forgotten(agent, clock):
    agent.arm("slow", lease=60.0)
    agent.arm("cut", lease=90.0)
    clock.pass_to(189.0)
    assert list(agent.listed()) == ["run"]

    clock.pass_to(191.0)
    assert agent.listed() == {}


# Another agent takes over.


def test_another_agent_goes_on_where_the_first_was(agent, clock):
    agent.arm("slow", start=1.0, duration=4.0)
    agent.arm("flappy", flap={"on": 2.0, "off": 1.0}, duration=10.0)
    agent.arm("ramped", ramp={"seconds": 8.0, "steps": 4})
    agent.start()
    clock.pass_to(103.5)

    other = again(agent)
    clock.pass_to(103.9)
    assert other.events == [], "nothing is told of what has happened already"
    clock.pass_to(112.0)

    told = [(at, layer, on) for at, layer, on in other.told() if at > 4.0]
    assert [each for each in told if each[1] != "ramped"] == [
        (5.0, "slow", False),
        (5.0, "flappy", False),
        (6.0, "flappy", True),
        (8.0, "flappy", False),
        (9.0, "flappy", True),
        (10.0, "flappy", False),
    ]
    assert agent.stage.layers == {("edge-1", "quota", "ramped"): HALF}


def test_what_ended_while_no_agent_was_there_is_healed_by_the_next(agent, clock):
    agent.arm("slow", duration=2.0)
    agent.start()
    agent.stage.layers["edge-2", "quota", "leased"] = HALF
    agent.leases.set("edge-2", {"layer": "leased", "seconds": 5.0})
    clock.pass_to(101.0)
    agent.clock.now = 150.0

    other = again(agent)
    clock.pass_to(150.1)

    assert agent.stage.layers == {}
    assert [(each["layer"], each["planned"]) for each in other.events] == [
        ("slow", 102.0),
        ("leased", 105.0),
    ]
    assert list(other.book.records()) == []


def test_an_end_that_was_only_written_down_is_carried_out_by_the_next(agent, clock):
    agent.arm("slow")
    agent.start()
    clock.pass_to(101.0)
    agent.stage.refusals = 1
    agent.timelines.drop({"timeline": "run"})
    assert agent.stage.holds("edge-1", "slow")

    other = again(agent)

    assert not agent.stage.holds("edge-1", "slow")
    assert list(other.book.records()) == []


def test_a_condition_that_was_met_stays_met(agent, clock):
    agent.arm(when="requests > 10", duration=5.0)
    agent.start()
    agent.requests = 11
    agent.timelines.reconsider()
    clock.pass_to(101.0)

    again(agent)
    clock.pass_to(110.0)

    assert agent.told()[-1] == (5.0, "slow", False)
