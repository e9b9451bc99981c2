# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import random

from pkgctl.cluster import nodes, pods
from pkgctl.cluster.snapshot import Snapshot
from tests.unit.cluster.objects import container, raw_node, raw_pod


def node(name, **more):
    return nodes.read(raw_node(name, **more))


def pod(name, cpu="1", **spec):
    return pods.read(raw_pod(name, container(cpu, "1Gi"), **spec))


def snapshot(*names):
    made = Snapshot()
    for name in names:
        made.set_node(node(name))
    return made


def test_what_is_put_on_a_node_counts_there_until_it_is_dropped():
    made = snapshot("b", "a")
    made.put(pod("p"), "a")

    view = made.view(now=3.0)
    assert [each.name for each in view.nodes] == ["a", "b"]
    assert view.by_name["a"].requested.millicores == 1000
    assert [job.id for job in view.by_name["a"].jobs] == ["default/p"]
    assert view.now == 3.0

    made.drop("uid-p")
    assert made.view().by_name["a"].requested.millicores == 0
    assert "uid-p" not in made


def test_a_pod_is_on_one_node_at_a_time_and_counts_what_it_asks_for_now():
    made = snapshot("a", "b")
    made.put(pod("p"), "a")
    made.put(pod("p", cpu="2"), "b")

    view = made.view()
    assert [each.requested.millicores for each in view.nodes] == [0, 2000]


def test_a_view_is_built_anew_only_where_something_changed():
    made = snapshot(*(f"n{number}" for number in range(5)))
    before = made.view()

    made.put(pod("p"), "n3")
    made.set_node(node("n1", cpu="2"))
    after = made.view()

    same = [one is other for one, other in zip(before.nodes, after.nodes, strict=True)]
    assert same == [True, False, True, False, True]


def test_pods_of_a_node_that_is_not_known_yet_count_once_it_is():
    made = Snapshot()
    made.put(pod("p"), "late")
    assert made.view().nodes == ()

    made.set_node(node("late"))
    assert made.view().by_name["late"].requested.millicores == 1000
    made.drop_node("late")
    made.set_node(node("late"))
    assert made.view().by_name["late"].requested.millicores == 1000


def test_changes_one_by_one_give_the_view_of_reading_all_at_once():
    rng = random.Random(4)
    grown, there = Snapshot(), {}
    names = [f"n{number}" for number in range(6)]
    alive = set()
    for step in range(600):
        name, uid = rng.choice(names), rng.randrange(40)
        match rng.randrange(5):
            case 0:
                grown.set_node(node(name, cpu=str(1 + step % 9)))
                alive.add((name, str(1 + step % 9)))
                alive = {each for each in alive if each[0] != name} | {(name, str(1 + step % 9))}
            case 1:
                grown.drop_node(name)
                alive = {each for each in alive if each[0] != name}
            case 2:
                grown.drop(f"uid-p{uid}")
                there.pop(uid, None)
            case _:
                grown.put(pod(f"p{uid}"), name)
                there[uid] = name

        if step % 20 == 0:
            whole = Snapshot()
            for alive_name, cpu in alive:
                whole.set_node(node(alive_name, cpu=cpu))
            for each, place in there.items():
                whole.put(pod(f"p{each}"), place)
            assert described(grown) == described(whole)
    assert there and alive


def described(made):
    return [
        (each.name, each.allocatable, each.slots, sorted(job.id for job in each.jobs))
        for each in made.view().nodes
    ]


def test_where_a_pod_may_go_follows_the_nodes():
    made = snapshot("a")
    wishing = pod("p", nodeSelector={"site": "north"})
    assert made.allowed(wishing).nodes == set()

    made.set_node(node("b", labels={"site": "north"}))
    assert made.allowed(wishing).nodes == {"b"}
    made.set_node(node("a", labels={"site": "north"}))
    assert made.allowed(wishing).nodes is None
    made.set_node(node("a", unschedulable=True))
    assert made.allowed(wishing).nodes == {"b"}
    made.drop_node("b")
    assert made.allowed(wishing).nodes == set()


def scarce(name, count="1", port=None):
    asked = container("1", ports=[{"hostPort": port}] if port else [])
    asked["resources"]["requests"]["lab/thing"] = count
    return pods.read(raw_pod(name, asked))


def test_scarce_resources_are_counted_with_who_has_them():
    made = Snapshot()
    made.set_node(node("a", **{"lab/thing": "3"}))
    made.set_node(node("b", **{"lab/thing": "1"}))
    made.set_node(node("c"))

    assert made.allowed(scarce("p", "2")).nodes == {"a"}
    made.put(scarce("q", "2"), "a")
    assert made.allowed(scarce("p")).nodes == {"a", "b"}
    assert dict(made.allowed(scarce("p", "2")).why) == {"lack lab/thing": 3}


def asking(name, millicores):
    asked = container("100m")
    asked["resources"]["requests"][nodes.MILLICORES] = millicores
    return pods.read(raw_pod(name, asked))


def test_what_a_layer_leaves_is_had_by_who_asks_for_it_as_far_as_the_node_publishes_it():
    made = Snapshot()
    made.set_node(node("a", **{nodes.MILLICORES: "1k", nodes.MEMORY: "1Gi"}))
    made.set_node(node("b"))

    assert made.allowed(asking("p", "600")).nodes == {"a"}
    made.put(asking("q", "600"), "a")
    assert made.allowed(asking("p", "400")).nodes == {"a"}
    assert dict(made.allowed(asking("p", "401")).why) == {f"lack {nodes.MILLICORES}": 2}

    made.set_node(node("a", **{nodes.MILLICORES: "900", nodes.MEMORY: "1Gi"}))
    assert made.allowed(asking("p", "400")).nodes == set()


def test_a_port_is_free_where_nobody_has_it_on_that_address():
    def listening(name, **port):
        return pods.read(raw_pod(name, container("1", ports=[{"hostPort": 80, **port}])))

    made = snapshot("a", "b")
    made.put(listening("p", hostIP="10.0.0.1"), "a")

    assert made.allowed(listening("q")).nodes == {"b"}
    assert made.allowed(listening("q", hostIP="10.0.0.1")).nodes == {"b"}
    assert made.allowed(listening("q", hostIP="10.0.0.2")).nodes == {"a", "b"}
    assert made.allowed(listening("q", protocol="UDP")).nodes == {"a", "b"}
