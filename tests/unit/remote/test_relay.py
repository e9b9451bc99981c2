# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pkgctl.nodeside import channel
from pkgctl.nodeside import errors as node_errors
from pkgctl.remote import places as places_
from pkgctl.remote.places import Places

from .farnodes import FarAgent, relaying

HOUR = 3600.0
# What a round trip within this machine may take when it is busy.
CLOSE = 0.1


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Places:
    monkeypatch.setenv(places_.VARIABLE, str(tmp_path / "r"))
    return Places("far")


@pytest.fixture
def agents(tmp_path: Path) -> Iterator[dict[str, FarAgent]]:
    """Two nodes: one ahead by hours and too fast, the other behind and too slow."""
    with (
        FarAgent(tmp_path / "one", "one", ahead=7 * HOUR, rate=1 + 300e-6) as one,
        FarAgent(tmp_path / "two", "two", ahead=-5 * HOUR, rate=1 - 300e-6) as two,
    ):
        yield {"one": one, "two": two}


@pytest.fixture
def relay(place: Places, agents: dict[str, FarAgent]) -> Iterator[Path]:
    with relaying(place, agents) as path:
        yield path


def await_that(is_so: Callable[[], bool], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.02)


class Ear:
    """A client that has asked for events."""

    def __init__(self, relay: Path, **fields: object) -> None:
        self._client = channel.Client(relay, timeout=10.0)
        self._client.call("events", **fields)

    def next(self, kind: str) -> dict[str, object]:
        """Return the next event of a kind."""
        while True:
            message = self._client._next()
            assert message is not None
            if message["event"] == kind:
                return message

    def __enter__(self) -> Ear:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()


def start(relay: Path, name: str, node: str, **fields: object) -> dict[str, object]:
    return channel.call(relay, "job-start", id=name, node=node, argv=["true"], **fields)["job"]


def test_a_job_s_stamps_are_by_our_clock_and_the_node_hears_its_own(relay, agents):
    for name, agent in agents.items():
        now = time.monotonic()
        job = start(relay, f"job-{name}", name, submitted=now - 1.0, decided=now - 0.5)

        heard = next(each for each in agent.heard if each["op"] == "job-start")
        assert agent.truth(heard["submitted"]) == pytest.approx(now - 1.0, abs=CLOSE)
        assert job["stamps"]["submitted"] == pytest.approx(now - 1.0, abs=CLOSE)
        assert job["stamps"]["decided"] == pytest.approx(now - 0.5, abs=CLOSE)
        assert job["stamps"]["started"] == pytest.approx(time.monotonic(), abs=CLOSE)
        # What the caller noted with its job is nobody's time.
        assert job["labels"] == {"since": 1.0, "t0": 2.0}


def test_all_listings_are_of_all_nodes(relay, agents):
    start(relay, "a", "one")
    start(relay, "b", "two")

    assert [job["id"] for job in channel.call(relay, "job-list")["jobs"]] == ["a", "b"]
    found = channel.call(relay, "artifact-list")["artifacts"]
    assert found == {"one": ["app"], "two": ["app"]}
    layers = channel.call(relay, "layer-list")["layers"]
    assert [each["t0"] for each in layers] == [pytest.approx(time.monotonic(), abs=CLOSE)] * 2
    traffic = channel.call(relay, "traffic", nodes=["two"])
    assert traffic["pairs"] == [["two", "x", 1, 2, 0]]
    assert traffic["monos"]["two"] == pytest.approx(time.monotonic(), abs=CLOSE)


def test_a_timeline_begins_everywhere_at_one_moment(relay, agents):
    t0 = time.monotonic() + 30.0

    assert channel.call(relay, "timeline-start", timeline="t", t0=t0, keep=True)["steps"] == 4

    for agent in agents.values():
        heard = next(each for each in agent.heard if each["op"] == "timeline-start")
        # Their clocks drift by at most 300 millionths until then.
        assert agent.truth(heard["t0"]) == pytest.approx(t0, abs=CLOSE)


def test_how_well_clocks_are_known_is_told(relay, agents):
    agents["one"].delays = (0.05, 0.0)
    channel.call(relay, "job-list")
    told = channel.call(relay, "nodes")["nodes"]

    for name, agent in agents.items():
        truth = agent.clock() - time.monotonic()
        assert abs(told[name]["ahead"] - truth) <= told[name]["bound"] + 1e-3
        assert told[name]["state"] == "running"


def test_events_of_all_nodes_are_one_stream_on_one_clock(relay, agents):
    channel.call(relay, "job-list")
    with Ear(relay) as ear:
        for agent in agents.values():
            now = agent.clock()
            moment = {"planned": now - 0.2, "actual": now - 0.1, "planned_wall": 7.0}
            agent.tell({"event": "layer", "layer": "slow", "node": agent.node, **moment})
        found = [ear.next("layer") for _ in range(2)]

    assert {each["node"] for each in found} == {"one", "two"}
    assert found[0]["seq"] < found[1]["seq"]
    for each in found:
        assert each["planned"] == pytest.approx(time.monotonic() - 0.2, abs=CLOSE)
        assert each["actual"] - each["planned"] == pytest.approx(0.1, abs=1e-3)
        assert each["planned_wall"] == pytest.approx(time.time() - 0.2, abs=CLOSE)
        assert each["wall"] == pytest.approx(time.time(), abs=CLOSE)


def test_samples_of_all_nodes_come_by_our_clock(relay, agents):
    with channel.Client(relay, timeout=10.0) as client:
        stream = client.stream("samples", interval=0.2)
        found = {
            sample["rows"][0]["node"]: sample["mono"] for sample in (next(stream), next(stream))
        }

    assert found.keys() == {"one", "two"}
    assert all(mono == pytest.approx(time.monotonic(), abs=CLOSE) for mono in found.values())


def test_the_load_generator_s_begin_is_translated(relay, agents):
    t0 = time.monotonic() + 1.0
    message = {"op": "start", "t0": t0}
    channel.call(relay, "client-tell", node="two", message=message)

    heard = next(each for each in agents["two"].heard if each["op"] == "client-tell")
    assert agents["two"].truth(heard["message"]["t0"]) == pytest.approx(t0, abs=CLOSE)


def test_a_removed_job_is_told_of_once_and_its_name_is_free_elsewhere(relay, agents):
    start(relay, "a", "one")
    with Ear(relay) as ear:
        channel.call(relay, "job-remove", id="a")
        assert ear.next("job")["status"] == "removed"
        start(relay, "a", "two")
        assert (ear.next("job")["node"], agents["one"].jobs) == ("two", {})


def test_a_job_s_name_is_taken_in_the_whole_testbed(relay):
    start(relay, "a", "one")

    with pytest.raises(node_errors.AgentError, match="a is there already, on one"):
        start(relay, "a", "two")


def test_requests_about_what_is_not_there_are_refused_in_words(relay):
    for op, fields, reason in (
        ("job-stop", {"id": "no"}, "there is no job 'no'"),
        ("artifact-drop", {"node": "no"}, "there is no node 'no'"),
        ("dance", {}, "unknown request"),
        ("job-stop", {}, "bad request"),
    ):
        with pytest.raises(node_errors.AgentError, match=reason):
            channel.call(relay, op, **fields)


def test_a_node_that_is_gone_is_told_of_and_again_when_it_is_back(relay, agents):
    start(relay, "a", "two")
    with Ear(relay) as ear:
        agents["two"].go()
        lost = ear.next("node")
        with pytest.raises(node_errors.AgentError, match="two does not answer: "):
            channel.call(relay, "job-stop", id="a")
        assert channel.call(relay, "look")["silent"] == ["two"]
        # Its job ended meanwhile, and nobody heard of it.
        agents["two"].jobs["a"]["status"] = "finished"
        agents["two"].come()
        back = ear.next("node")
    job = channel.call(relay, "job-list")["jobs"][0]

    assert (lost["node"], lost["health"]) == ("two", "unreachable")
    assert (back["node"], back["health"]) == ("two", "running")
    assert job["status"] == "finished"


def test_what_was_told_while_the_connection_was_lost_is_heard_later(relay, agents):
    channel.call(relay, "job-list")
    with Ear(relay) as ear:
        agents["one"].tell({"event": "layer", "layer": "first", "node": "one"})
        assert ear.next("layer")["layer"] == "first"
        agents["one"].go()
        agents["one"].tell({"event": "layer", "layer": "second", "node": "one"})
        agents["one"].come()
        assert ear.next("layer")["layer"] == "second"


def test_a_crashed_node_loses_its_jobs_at_once(relay, agents, place):
    start(relay, "a", "two")
    with Ear(relay) as ear:
        folder = place.node("two")
        folder.mkdir(parents=True)
        (folder / "health.json").write_text(json.dumps({"oops": {"health": "crashed"}}))
        agents["two"].go()
        job, node = ear.next("job"), ear.next("node")
        with pytest.raises(node_errors.AgentError, match="node two is crashed"):
            start(relay, "b", "two")
        assert channel.call(relay, "timeline-drop", timeline="t")["silent"] == ["two"]
        # Back with a new life: its agent knows that the job was lost.
        agents["two"].pid += 1
        agents["two"].seq = 0
        agents["two"].jobs["a"] |= {"status": "failed", "lost": True}
        agents["two"].come()
        (folder / "health.json").unlink()
        back = ear.next("node")

    assert (job["id"], job["status"], job["lost"]) == ("a", "failed", True)
    assert job["error"] == "node two crashed"
    assert (node["health"], back["health"]) == ("crashed", "running")
    # What was to be dropped while it was down was dropped when it came back.
    assert [each["op"] for each in agents["two"].heard].count("timeline-drop") == 1


def test_leases_are_renewed_as_long_as_somebody_listens_who_asks_for_it(relay, agents):
    def last() -> bool:
        return [each for each in agents["one"].heard if each["op"] == "events"][-1]["renew"]

    with Ear(relay, renew=True):
        await_that(lambda: last() is True)
    await_that(lambda: last() is False)


def test_latecomers_hear_what_they_missed(relay, agents):
    channel.call(relay, "job-list")
    agents["one"].tell({"event": "layer", "layer": "early", "node": "one"})
    time.sleep(0.1)

    with Ear(relay, since=0) as ear:
        assert ear.next("layer")["layer"] == "early"


def test_a_suspended_node_s_clock_is_learnt_anew(relay, agents):
    start(relay, "a", "one")
    before = channel.call(relay, "job-list")["jobs"][0]["stamps"]["started"]
    agents["one"].jump(-60.0)

    def is_learnt() -> bool:
        told = channel.call(relay, "nodes")["nodes"]["one"]
        return abs(told["ahead"] - (agents["one"].clock() - time.monotonic())) < CLOSE

    await_that(is_learnt)
    assert start(relay, "b", "one")["stamps"]["started"] == pytest.approx(
        time.monotonic(), abs=CLOSE
    )
    after = {job["id"]: job for job in channel.call(relay, "job-list")["jobs"]}
    assert after["a"]["stamps"]["started"] == before


def test_nodes_that_come_and_go_with_the_record_are_followed(relay, agents, place):
    channel.call(relay, "job-list")
    state = json.loads(place.state.read_text())
    del state["nodes"]["two"]
    fresh = place.state.with_suffix(".new")
    fresh.write_text(json.dumps(state))
    fresh.replace(place.state)

    await_that(lambda: list(channel.call(relay, "nodes")["nodes"]) == ["one"])
