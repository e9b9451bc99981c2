# SPDX-License-Identifier: GPL-3.0-or-later
"""One term of the scheduler against an API of this process: whom it places, and when again."""

from __future__ import annotations

import copy
import queue
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from pkgctl.cluster import nodes
from pkgctl.cluster.binder import BOUND_BY
from pkgctl.cluster.client import Withheld
from pkgctl.cluster.scheduler import Options, Term
from pkgctl.errors import ClusterError, Refused, SpecError
from tests.unit.cluster.objects import container, raw_node, raw_pod

NODES, PODS = "/api/v1/nodes", "/api/v1/pods"


class World:
    """Nodes and pods, watched by whoever wants; bindings are carried out unless a test says no."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.things: dict[str, dict[str, dict[str, Any]]] = {NODES: {}, PODS: {}}
        self.streams: dict[str, list[queue.SimpleQueue[Any]]] = {NODES: [], PODS: []}
        self.version = 0
        self.bindings: list[tuple[str, str]] = []
        self.evictions: list[str] = []
        self.before_binding: Callable[[str], None] = lambda _: None
        self.before_eviction: Callable[[str], None] = lambda _: None

    def put(self, path: str, raw: dict[str, Any], kind: str = "MODIFIED") -> None:
        with self.lock:
            self.version += 1
            raw = copy.deepcopy(raw)
            raw["metadata"]["resourceVersion"] = str(self.version)
            self.things[path][raw["metadata"]["name"]] = raw
            self._tell(path, kind, raw)

    def drop(self, path: str, name: str) -> None:
        with self.lock:
            self._tell(path, "DELETED", self.things[path].pop(name))

    def _tell(self, path: str, kind: str, raw: dict[str, Any]) -> None:
        for stream in self.streams[path]:
            stream.put({"type": kind, "object": copy.deepcopy(raw)})

    def get(self, path: str, **_: Any) -> dict[str, Any]:
        with self.lock:
            if path not in self.things:
                return copy.deepcopy(self.things[PODS][path.rpartition("/")[2]])
            items = list(copy.deepcopy(self.things[path]).values())
            return {"metadata": {"resourceVersion": str(self.version)}, "items": items}

    def watch(self, path: str, _version: str, _timeout: float, **_: Any) -> Stream:
        events: queue.SimpleQueue[Any] = queue.SimpleQueue()
        with self.lock:
            self.streams[path].append(events)
        return Stream(events)

    def post_if(self, may: Callable[[], bool], path: str, body: Any, **_: Any) -> None:
        name, act = path.split("/")[-2:]
        if not may():
            raise Withheld
        if act == "eviction":
            self.evictions.append(name)
            self.before_eviction(name)
            self.drop(PODS, name)
            return
        self.before_binding(name)
        with self.lock:
            pod = self.things[PODS][name]
            if pod["spec"].get("nodeName"):
                raise Refused("already assigned", status=409)
            self.bindings.append((name, body["target"]["name"]))
            pod["spec"]["nodeName"] = body["target"]["name"]
            pod["metadata"]["annotations"] = body["metadata"]["annotations"]
            self.put(PODS, pod)

    def node_of(self, name: str) -> str:
        with self.lock:
            return str(self.things[PODS][name]["spec"].get("nodeName", ""))


class Stream:
    def __init__(self, events: queue.SimpleQueue[Any]) -> None:
        self.events = events

    def __iter__(self) -> Iterator[Any]:
        return iter(self.events.get, None)

    def stop(self) -> None:
        self.events.put(None)


class Held:
    """A lease that a test gives and takes."""

    holder = "me"

    def __init__(self) -> None:
        self.is_held = True

    def held(self) -> bool:
        return self.is_held


class Notes:
    """Events as they are recorded."""

    def __init__(self) -> None:
        self.all: list[tuple[str, str, str]] = []

    def scheduled(self, pod: Any, node: str) -> None:
        self.all.append(("Scheduled", pod.name, node))

    def failed(self, pod: Any, reason: str) -> None:
        self.all.append(("FailedScheduling", pod.name, reason))

    def preempted(self, victim: Any, by: Any, node: str) -> None:
        self.all.append(("Preempted", victim.name, by.name))

    def failures(self, name: str) -> list[str]:
        return [text for kind, pod, text in self.all if (kind, pod) == ("FailedScheduling", name)]


class Running:
    def __init__(self, world: World, patience: float = 10.0, **options: Any) -> None:
        self.world, self.notes, self.lease = world, Notes(), Held()
        self.term = Term(
            world,  # type: ignore[arg-type]
            Options(seed=1, **options),
            self.lease,  # type: ignore[arg-type]
            self.notes,  # type: ignore[arg-type]
            print,
            patience,
        )
        self.error: ClusterError | None = None
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self) -> None:
        try:
            self.term.run()
        except ClusterError as error:
            self.error = error

    def close(self) -> None:
        self.term.end()
        self.thread.join(10)
        self.term.close()
        assert not self.thread.is_alive()


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def run(world) -> Iterator[Callable[..., Running]]:
    started: list[Running] = []

    def start(**options: Any) -> Running:
        started.append(Running(world, **options))
        return started[-1]

    yield start
    for each in started:
        each.close()


def until(there: Callable[[], Any]) -> Any:
    end = time.monotonic() + 20
    while time.monotonic() < end:
        if found := there():
            return found
        time.sleep(0.002)
    raise AssertionError("it did not come")


def pod(name: str, cpu: str = "1", **spec: Any) -> dict[str, Any]:
    return raw_pod(name, container(cpu), schedulerName="pkgctl", **spec)


def test_pods_are_placed_and_what_is_under_way_counts(world, run):
    for name in ("a", "b"):
        world.put(NODES, raw_node(name, cpu="3"))
    for number in range(7):
        world.put(PODS, pod(f"p{number}"))
    hold = threading.Event()
    world.before_binding = lambda _: hold.wait(10)

    running = run()
    until(lambda: running.notes.failures("p6"))  # while not one of the others is bound
    assert world.bindings == []
    hold.set()

    until(lambda: len(world.bindings) == 6)
    assert sorted(node for _, node in world.bindings) == ["a"] * 3 + ["b"] * 3
    assert running.notes.failures("p6") == ["0/2 nodes: 2 lack cpu"]


def test_nothing_is_placed_before_nodes_and_pods_were_both_read(world, run):
    """Else a pod that is there already would not count."""
    world.put(NODES, raw_node("a", cpu="1"))
    world.put(PODS, pod("there", nodeName="a"))
    world.put(PODS, pod("p"))
    slow, real = threading.Event(), world.get

    def get(path: str, **query: Any) -> Any:
        if path == PODS:
            slow.wait(10)
        return real(path, **query)

    world.get = get  # type: ignore[method-assign]
    running = run()
    time.sleep(0.05)
    assert running.notes.all == []
    slow.set()

    until(lambda: running.notes.failures("p"))
    assert world.bindings == []


def test_a_pod_that_another_bound_meanwhile_is_where_the_other_put_it(world, run):
    world.put(NODES, raw_node("a", cpu="1"))

    def theft(name: str) -> None:
        if name == "p" and not world.node_of("p"):
            world.put(PODS, pod("p", nodeName="elsewhere"))

    world.before_binding = theft
    world.put(PODS, pod("p"))
    running = run()
    until(lambda: world.node_of("p"))

    world.put(PODS, pod("q"))  # its room on the node is free again

    until(lambda: world.node_of("q") == "a")
    assert ("Scheduled", "p", "a") not in running.notes.all
    assert world.bindings == [("q", "a")]


def test_a_pod_that_cannot_be_bound_gives_its_room_back_and_is_tried_again(world, run):
    world.put(NODES, raw_node("a", cpu="1"))
    refusals = iter([Refused("a webhook says no", status=400)])

    def refuse(name: str) -> None:
        if name == "p" and (refusal := next(refusals, None)):
            raise refusal

    world.before_binding = refuse
    world.put(PODS, pod("p", priority=1))
    running = run()
    until(lambda: running.notes.failures("p"))
    world.put(PODS, pod("q"))
    until(lambda: world.node_of("q") == "a")
    world.drop(PODS, "q")

    until(lambda: world.node_of("p") == "a")
    assert running.notes.failures("p")[0] == "could not be bound: a webhook says no"


def test_a_deleted_pod_is_forgotten_whatever_its_binding_says(world, run):
    world.put(NODES, raw_node("a", cpu="1"))

    def vanish(name: str) -> None:
        if name == "p":
            world.drop(PODS, "p")
            raise Refused("not found", status=404)

    def get(path: str, **query: Any) -> Any:
        if path.endswith("/p"):
            raise Refused("not found", status=404)
        return real(path, **query)

    world.before_binding, real = vanish, world.get
    world.get = get  # type: ignore[method-assign]
    world.put(PODS, pod("p"))
    run()
    until(lambda: "p" not in world.things[PODS])

    world.put(PODS, pod("q"))

    until(lambda: world.node_of("q") == "a")


def test_nothing_is_decided_without_the_lease(world, run):
    world.put(NODES, raw_node("a"))
    running = run()
    until(lambda: running.term.is_settled)
    running.lease.is_held = False

    world.put(PODS, pod("p"))
    time.sleep(0.1)

    assert world.bindings == []


def test_what_is_decided_and_not_sent_when_the_lease_ends_is_left_undone(world, run):
    for name in ("a", "b"):
        world.put(NODES, raw_node(name))
    running = run(threads=1)

    def lose(_name: str) -> None:
        running.lease.is_held = False

    world.before_binding = lose
    for number in range(4):
        world.put(PODS, pod(f"p{number}"))

    running.thread.join(20)  # the term ends by itself
    assert not running.thread.is_alive()
    assert len(world.bindings) == 1
    assert world.things[PODS][world.bindings[0][0]]["metadata"]["annotations"] == {BOUND_BY: "me"}


def test_what_the_api_refuses_for_good_ends_the_term(world, run):
    def get(path: str, **_: Any) -> Any:
        raise Refused(f"you cannot list {path}", status=403)

    world.get = get  # type: ignore[method-assign]
    running = run(patience=0.0)

    running.thread.join(30)
    assert "you cannot list" in str(running.error)


class Chooses:
    """Puts every pod on one node, whether it may be there or not."""

    def place(self, queue: Any, view: Any, rng: Any) -> Any:
        from pkgctl.scheduling.decision import Place

        return [Place(job.id, view.nodes[0].name) for job in queue]


def test_a_policy_that_chooses_a_node_that_is_out_is_not_followed(world, run):
    world.put(NODES, raw_node("a", unschedulable=True))
    world.put(NODES, raw_node("b"))
    world.put(PODS, pod("p"))

    running = run(policy="tests.unit.cluster.test_scheduler:Chooses")

    until(lambda: running.notes.failures("p"))
    assert running.notes.failures("p") == ["its policy chose a, where it may not run"]
    assert world.bindings == []


class Displaces:
    """Puts a pod on the first node if it is empty, else has all others evicted."""

    def place(self, queue: Any, view: Any, rng: Any) -> Any:
        from pkgctl.scheduling.decision import Place, Preempt

        name, there = view.nodes[0].name, tuple(each.id for each in view.nodes[0].jobs)
        return [Preempt(job.id, name, there) if there else Place(job.id, name) for job in queue]


def test_who_is_evicted_has_an_event_of_it_once_that_is_granted(world, run):
    world.put(NODES, raw_node("a"))
    world.put(PODS, pod("low", nodeName="a"))
    world.put(PODS, pod("high", priority=1))
    refusals = iter([Refused("a budget keeps it", status=429)])

    def refuse(_name: str) -> None:
        if refusal := next(refusals, None):
            raise refusal

    world.before_eviction = refuse
    running = run(policy="tests.unit.cluster.test_scheduler:Displaces")
    until(lambda: world.node_of("high") == "a")
    preempted = ("Preempted", "low", "high")
    until(lambda: preempted in running.notes.all)

    assert world.evictions == ["low", "low"]
    assert running.notes.all.count(preempted) == 1


def test_a_pod_asks_for_what_a_layer_left_as_kube_scheduler_would_have_it(world, run):
    world.put(NODES, raw_node("a", **{nodes.MILLICORES: "4k"}))
    asking = pod("p", cpu="300m")
    asking["spec"]["containers"][0]["resources"]["requests"][nodes.MILLICORES] = "300"
    world.put(PODS, asking)

    run()

    until(lambda: world.node_of("p") == "a")


def test_a_reason_is_told_again_only_when_it_is_another(world, run):
    world.put(NODES, raw_node("a", cpu="1"))
    world.put(PODS, pod("p", cpu="2"))
    running = run()
    until(lambda: running.notes.failures("p"))

    for number in range(5):
        world.put(NODES, raw_node("a", cpu="1", labels={"count": str(number)}))
    world.put(NODES, raw_node("b", cpu="1"))
    until(lambda: len(running.notes.failures("p")) == 2)

    assert running.notes.failures("p") == ["0/1 nodes: 1 lack cpu", "0/2 nodes: 2 lack cpu"]


def test_a_policy_that_nobody_knows_is_refused_at_the_start():
    from pkgctl.cluster.scheduler import PodScheduler

    with pytest.raises(SpecError, match="no scheduler is called 'nonsense'"):
        PodScheduler(None, Options(policy="nonsense"), print)  # type: ignore[arg-type]
