# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest

from ansible_collections.pkgctl.testbed.plugins.module_utils import perturbation
from ansible_collections.pkgctl.testbed.plugins.module_utils.selection import Node

NODES = (
    Node("cloud-1", "cloud", "cloud", "server", {}, ("data",)),
    Node("edge-1", "edge-a", "edge", "tiny", {}, ("data", "logs")),
    Node("edge-2", "edge-a", "edge", "tiny"),
    Node("edge-3", "edge-b", "edge", "tiny"),
)
NAMES = tuple(node.name for node in NODES)


def pairs(**given: object) -> set[tuple[str, str]]:
    """Return the directed pairs that a plan disturbs, having checked that both ends are told."""
    plan = perturbation.read({"bw": "5mbit", **given}).plan(NODES)
    sent = {(host, peer) for host in plan for peer in peers(plan, host, "egress")}
    received = {(peer, host) for host in plan for peer in peers(plan, host, "ingress")}
    assert sent == received
    return sent


def peers(plan: dict, host: str, way: str) -> list[str]:
    named = [*plan[host].get("link", {}).get(way, {})]
    return [name for name in NAMES if name != host] if named == ["*"] else named


def both(*ends: tuple[str, str]) -> set[tuple[str, str]]:
    return {*ends, *((far, near) for near, far in ends)}


def test_a_link_between_two_nodes_is_disturbed_both_ways():
    assert pairs(src="edge-1", dst="cloud-1") == both(("edge-1", "cloud-1"))


def test_a_direction_counts_from_src():
    assert pairs(src="edge-1", dst="cloud-1", direction="to") == {("edge-1", "cloud-1")}
    assert pairs(src="edge-1", dst="cloud-1", direction="from") == {("cloud-1", "edge-1")}


def test_an_end_that_is_left_out_is_everything_beyond_the_other():
    assert pairs(src="edge-a", direction="to") == {
        (near, far) for near in ("edge-1", "edge-2") for far in ("cloud-1", "edge-3")
    }
    assert pairs(dst="cloud-1", direction="to") == {(name, "cloud-1") for name in NAMES[1:]}


def test_no_end_at_all_means_every_link():
    assert pairs() == {(near, far) for near in NAMES for far in NAMES if near != far}


def test_a_site_is_cut_at_its_border_and_a_node_at_each_of_its_links():
    outside = ("cloud-1", "edge-3")

    assert pairs(site="edge-a") == both(*((n, f) for n in ("edge-1", "edge-2") for f in outside))
    assert ("edge-1", "edge-2") in pairs(node="edge-1,edge-2")


def test_one_site_that_is_all_there_is_has_its_own_links_disturbed():
    nodes = (Node("a", "here"), Node("b", "here"))

    plan = perturbation.read({"site": "here", "delay": "1ms"}).plan(nodes)

    assert [*plan] == ["a", "b"]


def test_links_inside_a_site_are_named_by_the_site_at_both_ends():
    assert pairs(src="edge-a", dst="edge-a") == both(("edge-1", "edge-2"))


def test_the_texts_are_handed_on_under_the_names_of_the_modules():
    given = {"bw": "5mbit", "delay": "40ms", "jitter": "1ms", "loss": "1%"}
    wanted = {"rate": "5mbit", "delay": "40ms", "jitter": "1ms", "loss": "1%"}

    plan = perturbation.read({**given, "src": "edge-1", "dst": "edge-2"}).plan(NODES)

    assert plan == {
        "edge-1": {"link": {"egress": {"edge-2": wanted}, "ingress": {"edge-2": wanted}}},
        "edge-2": {"link": {"egress": {"edge-1": wanted}, "ingress": {"edge-1": wanted}}},
    }


def test_all_peers_are_written_as_a_star_so_that_plans_stay_small():
    plan = perturbation.read({"bw": "5mbit"}).plan(NODES)

    assert plan["edge-1"]["link"]["egress"] == {"*": {"rate": "5mbit"}}


def test_capacity_and_disks_concern_the_named_nodes_only():
    words = {"node": "edge-1", "cpu": "0.2", "mem": "128Mi", "disk": "data:unmounted"}

    assert perturbation.read(words).plan(NODES) == {
        "edge-1": {
            "quota": {"cpu": "0.2", "memory": "128Mi"},
            "disk": {"condition": "unmounted", "disk": "data"},
        }
    }


def test_capacity_without_a_node_concerns_all_nodes():
    assert [*perturbation.read({"cpu": 0.2}).plan(NODES)] == [*NAMES]


def test_node_and_site_together_mean_the_nodes_of_the_site():
    asked = perturbation.read({"node": "tiny", "site": "edge-b", "pids": 64})

    assert [*asked.plan(NODES)] == ["edge-3"]
    with pytest.raises(ValueError, match="node: names no node of the site"):
        perturbation.read({"node": "cloud-1", "site": "edge-b", "pids": 64}).plan(NODES)


def test_a_disk_of_all_nodes_is_that_of_those_that_have_one():
    assert [*perturbation.read({"disk": "unmounted"}).plan(NODES)] == ["cloud-1", "edge-1"]


def test_a_disk_of_a_named_node_must_be_there():
    with pytest.raises(ValueError, match=r"disk: edge-2 has no disk$"):
        perturbation.read({"node": "edge-2", "disk": "unmounted"}).plan(NODES)
    with pytest.raises(ValueError, match="disk: cloud-1 has no disk 'logs', only data"):
        perturbation.read({"node": "cloud-1", "disk": "logs:readonly"}).plan(NODES)
    with pytest.raises(ValueError, match="disk: no node of this testbed has a disk"):
        perturbation.read({"disk": "unmounted"}).plan(NODES[2:])


def test_links_and_capacity_can_be_disturbed_together_at_different_places():
    words = {"src": "edge-1", "dst": "cloud-1", "bw": "1mbit", "node": "edge-3", "cpu": "0.1"}

    plan = perturbation.read(words).plan(NODES)

    assert {host: [*parts] for host, parts in plan.items()} == {
        "cloud-1": ["link"],
        "edge-1": ["link"],
        "edge-3": ["quota"],
    }


def test_start_and_duration_arm_a_timeline_named_like_the_perturbation():
    asked = perturbation.read({"bw": "5mbit", "name": "slow", "start": "2s", "duration": "1m"})

    assert (asked.timeline, asked.start, asked.duration) == ("slow", 2.0, 60.0)
    assert perturbation.read({"bw": "5mbit"}).timeline is None
    assert perturbation.read({"bw": "5mbit", "timeline": "storm"}).timeline == "storm"


def test_words_without_a_value_count_as_not_given():
    assert perturbation.read({"bw": "5mbit", "src": None, "loss": None}).ends == {}


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ({}, "nothing to do: give one of bw, delay"),
        ({"node": "edge-1"}, "nothing to do: give one of"),
        ({"partition": "no"}, "nothing to do: give one of"),
        ({"src": "edge-1", "cpu": 1, "node": "edge-1"}, "src: chooses links; give one of bw"),
        ({"direction": "to", "cpu": 1}, "direction: chooses links; give one of bw"),
        ({"direction": "to", "bw": "1mbit"}, "direction: leads to or from an end, and none is"),
        ({"dst": "edge-1", "bw": "1mbit", "cpu": 1}, "cpu: dst chooses links; say which nodes"),
        ({"src": "edge-1", "bw": "1mbit", "node": "edge-2"}, "node: contradicts src"),
        ({"bw": "1mbit", "direction": "up"}, "direction: 'up' is none of to, from, both"),
        ({"bandwidht": "1mbit"}, "bandwidht: unknown word; did you mean bw?"),
        ({"bw": ""}, "bw: rate '' is no quantity"),
        ({"bw": "1mbit", "name": "base"}, "name: 'base' is the testbed's own layer"),
        ({"bw": "1mbit", "timeline": "A B"}, "timeline: 'A B' is no name"),
    ],
)
def test_words_that_make_no_sense_are_refused_without_a_testbed(given, error):
    with pytest.raises(ValueError) as caught:
        perturbation.read(given)

    assert str(caught.value).startswith(error)


def test_a_link_of_a_node_with_itself_is_refused():
    with pytest.raises(ValueError, match="src and dst: no link lies between these nodes"):
        perturbation.read({"src": "edge-1", "dst": "edge-1", "bw": "1mbit"}).plan(NODES)


def test_a_testbed_without_nodes_has_nothing_to_disturb():
    with pytest.raises(ValueError, match="the testbed has no nodes"):
        perturbation.read({"bw": "1mbit"}).plan(())


def test_healing_names_a_layer_and_places_or_means_everything():
    everything = perturbation.read_healing({})
    some = perturbation.read_healing({"name": "slow", "site": "edge-a"})

    assert (everything.names, everything.hosts(NODES)) == ((), [*NAMES])
    assert (some.names, some.hosts(NODES)) == (("slow",), ["edge-1", "edge-2"])
    assert perturbation.read_healing({"name": "slow,cut"}).names == ("slow", "cut")


def test_healing_draws_nothing():
    with pytest.raises(ValueError, match="select: draws nodes at random; name the node to heal"):
        perturbation.read_healing({"select": "random 2 of edge"})


def test_healing_knows_no_settings():
    with pytest.raises(ValueError, match="bw: unknown word; known are name, node, site"):
        perturbation.read_healing({"bw": "5mbit"})


def test_a_hundred_nodes_are_planned_with_a_star_each():
    nodes = tuple(Node(f"node-{number}", "campus") for number in range(100))

    plan = perturbation.read({"delay": "1ms"}).plan(nodes)

    assert len(plan) == 100
    assert all([*parts["link"]["egress"]] == ["*"] for parts in plan.values())


def test_select_chooses_nodes_as_node_does():
    drawn = perturbation.read({"select": "random 1 of edge-a", "health": "crashed"})

    assert [*drawn.plan(NODES)] in (["edge-1"], ["edge-2"])
    assert drawn.plan(NODES) == drawn.plan(tuple(reversed(NODES)))
    assert pairs(select="edge-1") == pairs(node="edge-1")
    with pytest.raises(ValueError, match="select: chooses nodes as node does; give one of them"):
        perturbation.read({"select": "edge", "node": "edge", "cpu": 1})


def test_the_seed_is_that_of_the_name_unless_it_is_given():
    many = tuple(Node(f"node-{number}", "campus") for number in range(100))
    words = {"node": "random 3 of *", "cpu": 0.5}

    default, again, named, seeded = (
        [*perturbation.read({**words, **more}).plan(many)]
        for more in ({}, {}, {"name": "other"}, {"seed": 7})
    )

    assert default == again
    assert len({tuple(default), tuple(named), tuple(seeded)}) == 3


def test_an_isolated_node_is_cut_off_from_all_others():
    asked = perturbation.read({"node": "edge-1,edge-2", "health": "isolated"})
    cut = {"*": {"loss": "100%"}}

    plan = asked.plan(NODES)

    assert plan["edge-1"] == {"link": {"egress": cut, "ingress": cut}}
    assert [*plan["cloud-1"]["link"]["ingress"]] == ["edge-1", "edge-2"]


def test_health_and_stress_concern_the_named_nodes_beside_disturbed_links():
    words = {"node": "edge-2", "delay": "1ms", "health": "paused", "stress_cpu": "0.5"}

    plan = perturbation.read({**words, "cpu": 1}).plan(NODES)

    assert {kind for kind in plan["edge-2"]} == {"link", "quota", "health", "stress"}
    assert plan["edge-2"]["health"] == {"health": "paused"}
    assert plan["edge-2"]["stress"] == {"cpu": "0.5"}
    assert [*plan["cloud-1"]] == ["link"]


def test_a_trace_shapes_links_and_is_told_as_rows():
    words = {"src": "edge-1", "dst": "cloud-1", "trace": "drive.csv"}

    asked = perturbation.read(words, lambda _: "time,rate\n0,1mbit\n5,2mbit\n")

    assert asked.timeline == "perturb"
    assert asked.times()["trace"] == [[0.0, {"rate": 10**6}], [5.0, {"rate": 2 * 10**6}]]
    assert asked.plan(NODES)["edge-1"]["link"]["egress"] == {"cloud-1": {"loss": "0%"}}


def test_only_what_has_times_is_armed():
    acts_now = perturbation.read({"bw": "5mbit", "lease": "5m", "seed": 3, "force": "yes"})
    armed = perturbation.read({"bw": "5mbit", "name": "slow", "when": "node edge-2 ready"})

    assert (acts_now.timeline, acts_now.times(), acts_now.timing.lease) == (None, None, 300.0)
    assert acts_now.force
    assert (armed.timeline, armed.times()["when"]) == ("slow", "node edge-2 ready")


def test_a_node_that_is_waited_for_must_be_there():
    asked = perturbation.read({"bw": "5mbit", "when": "node edge-22 ready"})

    with pytest.raises(
        ValueError, match=r"when: no node is called 'edge-22'; did you mean edge-2\?"
    ):
        asked.plan(NODES)


def test_a_repeated_layer_is_over_after_its_last_time():
    asked = perturbation.read({"cpu": 1, "start": "5s", "duration": "2s", "repeat": "3/10s"})

    assert (asked.start, asked.duration) == (5.0, 22.0)


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ({"health": "isolated", "bw": "1mbit"}, "health: isolated cuts all links"),
        ({"health": "isolated", "src": "edge-1"}, "src: chooses links; give one of bw"),
        ({"partition": "yes", "trace": "x"}, "trace: 'x' cannot be read"),
        ({"partition": "yes", "ramp": "5s"}, "ramp: a link is cut or not; ramp loss instead"),
        ({"health": "isolated", "ramp": "5s"}, "ramp: a link is cut or not"),
        ({"health": "paused", "ramp": "5s"}, "ramp: nothing here has a value that could grow"),
        ({"disk": "unmounted", "ramp": "5s"}, "ramp: nothing here has a value that could grow"),
        ({"cpu": 1, "lease": "5s", "duration": "2s"}, "lease: contradicts duration"),
        ({"cpu": 1, "after": "perturb"}, "after: a perturbation cannot wait for itself"),
        ({"cpu": 1, "name": "a", "after": "a + 5s"}, "after: a perturbation cannot wait"),
        ({"cpu": 1, "seed": "x"}, "seed: 'x' is no whole number"),
        ({"cpu": 1, "force": "perhaps"}, "force: 'perhaps' is neither true nor false"),
        ({"cpu": 1, 3: 4}, "3: unknown word; known are name"),
        ({"cpu": 10**400}, "cpu: "),
        ({"start": "2s"}, "nothing to do: give one of bw"),
    ],
)
def test_words_that_cannot_go_together_are_refused(given, error):
    with pytest.raises(ValueError) as caught:
        perturbation.read(given)

    assert str(caught.value).startswith(error)
    assert "\n" not in str(caught.value)


def test_health_beside_capacity_is_fine_and_so_is_a_ramp_of_a_fill():
    assert perturbation.read({"health": "paused", "cpu": 0.5, "ramp": "5s"}).health == "paused"
    assert perturbation.read({"fill": "90%", "ramp": "5s/4"}).times()["ramp"]["steps"] == 4


def test_files_are_named_by_whole_paths_if_they_are_there(tmp_path):
    (tmp_path / "drive.csv").write_text("")
    words = {"trace": "drive.csv", "distribution": "normal", "bw": "5mbit"}

    found = perturbation.located(words, tmp_path)

    assert found == {**words, "trace": str(tmp_path / "drive.csv")}
