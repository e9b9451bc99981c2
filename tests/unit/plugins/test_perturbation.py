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

    assert (everything.name, everything.hosts(NODES)) == (None, [*NAMES])
    assert (some.name, some.hosts(NODES)) == ("slow", ["edge-1", "edge-2"])


def test_healing_knows_no_settings():
    with pytest.raises(ValueError, match="bw: unknown word; known are name, node, site"):
        perturbation.read_healing({"bw": "5mbit"})


def test_a_hundred_nodes_are_planned_with_a_star_each():
    nodes = tuple(Node(f"node-{number}", "campus") for number in range(100))

    plan = perturbation.read({"delay": "1ms"}).plan(nodes)

    assert len(plan) == 100
    assert all([*parts["link"]["egress"]] == ["*"] for parts in plan.values())
