# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import ipaddress
import json

import pytest

from pkgctl import nodeplan, topology
from pkgctl.errors import SpecError
from pkgctl.local import paths, planning
from pkgctl.local.paths import Paths

PLACE = Paths("lab")
TEXT = """\
name: small
sites:
  cloud: {access: lan}
  edge: {access: lan}
kinds:
  node: {cpu: 1, memory: 64Mi, pids: 64, disks: {data: {size: 16Mi, mount: /data}}}
nodes:
  - {name: cloud-1, site: cloud, kind: node, role: cloud}
  - {name: edge-1, site: edge, kind: node}
  - {name: edge-2, site: edge, kind: node}
links:
  - {from: cloud, to: edge, rate: 20mbit, delay: 5ms, symmetric: true}
"""


@pytest.fixture
def planned(tmp_path):
    """Plan the topology of a text, with some words replaced by others."""

    def make(known=None, **changes):
        text = TEXT
        for old, new in changes.get("replace", {}).items():
            assert old in text
            text = text.replace(old, new)
        path = tmp_path / "small.yaml"
        path.write_text(text)
        return planning.plan(topology.load(str(path)), PLACE, known)

    return make


def described(plan):
    """Return a plan's description as it comes back from its file."""
    return json.loads(json.dumps(plan.state(PLACE)))


def compare(before, after):
    return planning.difference(described(before), after, PLACE)


def test_addresses_are_given_in_order():
    assert nodeplan.allocate(["a", "b"], {}) == {"a": "10.77.0.1", "b": "10.77.0.2"}


def test_known_addresses_are_kept_and_freed_ones_given_again():
    known = {"b": "10.77.0.2", "gone": "10.77.0.1", "c": "10.77.0.9"}

    assert nodeplan.allocate(["c", "b", "new", "newer"], known) == {
        "c": "10.77.0.9",
        "b": "10.77.0.2",
        "new": "10.77.0.1",
        "newer": "10.77.0.3",
    }


def test_no_address_is_given_twice_nor_is_the_gateways():
    found = nodeplan.allocate(map(str, range(nodeplan.MOST_NODES)), {})

    assert len(set(found.values())) == nodeplan.MOST_NODES
    assert nodeplan.GATEWAY not in found.values()
    assert all(ipaddress.ip_address(each) in nodeplan.NETWORK for each in found.values())


def test_more_nodes_than_classes_are_refused():
    with pytest.raises(SpecError, match="24577 nodes are too many for one testbed: 24576"):
        nodeplan.allocate(map(str, range(nodeplan.MOST_NODES + 1)), {})


def test_a_node_knows_itself_and_its_peers(planned):
    here = planned().nodes["edge-1"]

    assert (here.name, here.testbed, here.address) == ("edge-1", "lab", "10.77.0.2")
    assert here.peers == {"cloud-1": "10.77.0.1", "edge-2": "10.77.0.3"}
    assert here.cgroup == f"{paths.GROUPS}/lab/nodes/edge-1"
    assert here.directory == "/run/pkgctl/lab/nodes/edge-1"
    assert here.disks["data"].image == "/run/pkgctl/disks/data.img"
    assert here.access is None


def test_access_rates_bound_what_leaves_at_the_node_and_what_arrives_at_the_switch(planned):
    slow = {
        "site: edge, kind: node}\n  - {name: edge-2": "site: edge, kind: node,"
        " access: {up: 5mbit, down: 10mbit}}\n  - {name: edge-2"
    }

    plan = planned(replace=slow)

    assert {name: node.access for name, node in plan.nodes.items()} == {
        "cloud-1": None,
        "edge-1": 5_000_000,
        "edge-2": None,
    }
    assert {name: node.access_down for name, node in plan.nodes.items()} == {
        "cloud-1": None,
        "edge-1": 10_000_000,
        "edge-2": None,
    }


def test_each_directed_pair_is_given_to_both_its_ends(planned):
    plan = planned()

    assert plan.egress("edge-1")["cloud-1"] == plan.ingress("cloud-1")["edge-1"]
    assert plan.egress("edge-1").keys() == plan.ingress("edge-1").keys() == {"cloud-1", "edge-2"}
    assert plan.egress("edge-1")["cloud-1"].rate == 20_000_000


def test_the_description_says_where_each_node_is(planned):
    state = described(planned())

    assert (state["testbed"], state["registry"]) == ("lab", "cloud-1")
    assert state["nodes"]["edge-2"]["namespaces"] == "/run/pkgctl/lab/ns/edge-2"
    assert state["links"]["edge-1"]["cloud-1"]["delay"] == 0.005


def test_a_matrix_comes_back_from_plain_numbers(planned):
    matrix = planned().matrix

    plain = json.loads(json.dumps(nodeplan.matrix_to_dict(matrix)))

    assert nodeplan.matrix_from_dict(plain) == {name: dict(row) for name, row in matrix.items()}


def test_equal_links_share_one_dictionary(planned):
    plain = nodeplan.matrix_to_dict(planned().matrix)

    assert plain["cloud-1"]["edge-1"] is plain["cloud-1"]["edge-2"]


def test_all_nodes_are_found_by_name(planned):
    assert nodeplan.hosts_file(planned().nodes) == (
        "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n"
        "10.77.0.1 cloud-1\n10.77.0.2 edge-1\n10.77.0.3 edge-2\n"
        "fd77:7067::1 cloud-1\nfd77:7067::2 edge-1\nfd77:7067::3 edge-2\n"
    )


def test_the_same_topology_again_is_no_difference(planned):
    assert compare(planned(), planned()) == planning.Difference()


def test_a_changed_limit_touches_its_nodes_only(planned):
    found = compare(planned(), planned(replace={"role: cloud": "role: cloud, cpu: 2"}))

    assert (found.made, found.removed, found.shaped) == ([], [], [])
    assert found.limited == ["cloud-1"]
    assert found.lines == ["~ node cloud-1: cpu 1.0 → 2.0"]


def test_a_changed_link_touches_both_its_ends(planned):
    link = "symmetric: true}\n"
    more = f"{link}  - {{from: edge-1, to: cloud-1, rate: 1mbit}}\n"

    found = compare(planned(), planned(replace={link: more}))

    assert found.shaped == ["cloud-1", "edge-1"]
    assert found.lines == ["~ link edge-1 → cloud-1: 20mbit 5ms → 1mbit 5ms"]


@pytest.mark.parametrize("change", ["16Mi", "pids: 64, access: {up: 1mbit, down: 1mbit}"])
def test_what_cannot_change_in_place_is_made_anew(planned, change):
    old = "16Mi" if change == "16Mi" else "pids: 64"
    new = "32Mi" if change == "16Mi" else change

    found = compare(planned(), planned(replace={old: new}))

    assert found.made == found.removed == ["cloud-1", "edge-1", "edge-2"]
    assert found.limited == found.shaped == []


NEW_NODE = {"links:\n": "  - {name: edge-3, site: edge, kind: node}\nlinks:\n"}
LESS = {"  - {name: edge-2, site: edge, kind: node}\n": ""}


def test_a_new_node_touches_those_with_a_shaped_link_to_it(planned):
    found = compare(planned(), planned(replace=NEW_NODE))

    assert (found.made, found.removed) == (["edge-3"], [])
    assert found.shaped == ["cloud-1"]
    assert found.lines == ["+ node edge-3"]


def test_a_node_that_goes_touches_those_with_a_shaped_link_to_it(planned):
    found = compare(planned(), planned(replace=LESS))

    assert (found.made, found.removed) == ([], ["edge-2"])
    assert found.shaped == ["cloud-1"]


def test_a_changed_label_is_told_and_touches_nothing(planned):
    found = compare(planned(), planned(replace={"role: cloud": "role: core"}))

    assert (found.made, found.limited, found.shaped) == ([], [], [])
    assert found.lines == ["~ node cloud-1: role cloud → core"]


def test_many_changed_links_are_told_in_twenty_lines(tmp_path):
    text = (
        "name: many\nsites: {one: {access: lan}}\nkinds: {n: {cpu: 1, memory: 64Mi}}\n"
        "nodes: [{name: n, count: 6, site: one, kind: n}]\n"
    )
    path = tmp_path / "many.yaml"
    path.write_text(text)
    before = planning.plan(topology.load(str(path)), PLACE)
    path.write_text(text + 'links: [{from: "*", to: "*", delay: 1ms}]\n')

    found = compare(before, planning.plan(topology.load(str(path)), PLACE))

    assert len(found.lines) == 21
    assert found.lines[-1] == "~ and 10 more links"
