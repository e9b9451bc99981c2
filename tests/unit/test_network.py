# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json

import pytest

from pkgctl import network, topology
from pkgctl.network import Topology
from pkgctl.nodeside import Quality, quality

TEXT = """
name: small
sites:
  cloud: {location: {latitude: 50.11, longitude: 8.68}, access: fibre}
  edge: {location: {latitude: 48.21, longitude: 16.37}, access: dsl}
kinds:
  box: {cpu: 1, memory: 64Mi}
nodes:
  - {name: cloud-1, site: cloud, kind: box}
  - {name: "edge-[1-2]", site: edge, kind: box}
  - {name: edge-3, site: edge, kind: box, access: {up: 2mbit, down: 8mbit, delay: 3ms}}
"""


@pytest.fixture(scope="module")
def small():
    return topology.loads(TEXT)


def with_links(*links):
    return topology.loads(TEXT + "links:\n" + "".join(f"  - {link}\n" for link in links))


def test_every_ordered_pair_has_a_link_and_no_node_one_to_itself(small):
    matrix = small.matrix()

    names = [node.name for node in small.nodes]
    assert list(matrix) == names
    assert all(sorted(row) == sorted(set(names) - {name}) for name, row in matrix.items())
    assert len(list(small.pairs())) == 12


def test_a_link_between_sites_composes_both_accesses_and_the_distance(small):
    there, back = small.matrix()["cloud-1"]["edge-1"], small.matrix()["edge-1"]["cloud-1"]

    assert (there.rate, back.rate) == (50_000_000, 10_000_000)
    assert there.delay == back.delay == pytest.approx(0.001 + 0.004481 + 0.010)
    assert there.loss == 0.0005


def test_a_link_inside_a_site_is_that_of_the_nodes_alone(small):
    assert small.matrix()["edge-1"]["edge-2"].is_unshaped
    assert small.matrix()["edge-1"]["edge-3"] == Quality(rate=8_000_000, delay=0.003)
    assert small.matrix()["edge-3"]["edge-1"] == Quality(rate=2_000_000, delay=0.003)


def test_a_nodes_own_access_adds_to_that_of_its_site(small):
    plain, own = small.matrix()["cloud-1"]["edge-1"], small.matrix()["cloud-1"]["edge-3"]

    assert own == quality.compose(plain, Quality(rate=8_000_000, delay=0.003))


def test_a_nodes_own_limits_are_known_and_absent_without_an_access(small):
    node = small.node("edge-3")

    assert (node.access_up, node.access_down) == (2_000_000, 8_000_000)
    assert (small.node("edge-1").access_up, small.node("edge-1").access_down) == (None, None)


def test_a_listed_link_changes_only_what_it_names():
    small = with_links("{from: edge, to: cloud, rate: 3mbit}")

    link = small.matrix()["edge-1"]["cloud-1"]

    assert link.rate == 3_000_000
    assert link.delay == small.matrix()["cloud-1"]["edge-1"].delay
    assert small.matrix()["cloud-1"]["edge-1"].rate == 50_000_000


def test_a_symmetric_link_holds_in_both_directions():
    small = with_links("{from: edge-1, to: cloud-1, delay: 7ms, symmetric: true}")

    assert small.matrix()["edge-1"]["cloud-1"].delay == 0.007
    assert small.matrix()["cloud-1"]["edge-1"].delay == 0.007
    assert small.matrix()["edge-2"]["cloud-1"].delay != 0.007


def test_of_two_links_for_one_pair_the_later_wins():
    small = with_links(
        "{from: '*', to: '*', delay: 9ms}",
        "{from: edge-1, to: '*', unshaped: true}",
        "{from: edge-1, to: edge-2, down: true}",
    )

    assert small.matrix()["cloud-1"]["edge-2"].delay == 0.009
    assert small.matrix()["edge-1"]["cloud-1"].is_unshaped
    assert small.matrix()["edge-1"]["edge-2"].is_down


def test_a_topology_survives_the_way_through_json():
    small = with_links(
        "{from: edge, to: cloud, rate: 3mbit}", "{from: edge-1, to: edge-2, down: true}"
    )

    back = Topology.from_dict(json.loads(json.dumps(small.to_dict())))

    assert back == small
    assert back.matrix() == small.matrix()


def test_a_topology_survives_the_way_through_its_own_text():
    small = with_links(
        "{from: edge, to: cloud, rate: 3mbit, jitter: 1ms}",
        "{from: edge-1, to: edge-2, unshaped: true}",
    )

    assert topology.loads(topology.dumps(small)) == small


def test_nodes_that_share_all_their_links_are_twins(small):
    assert network.twins(small.matrix()) == [["cloud-1"], ["edge-1", "edge-2"], ["edge-3"]]


def test_equal_pairs_of_a_large_topology_share_one_value():
    hundred = topology.load("hundred")

    links = [link for _, _, link in hundred.pairs()]

    assert len(links) == 9900
    assert len({id(link) for link in links}) == 1
    assert links[0] == Quality(rate=10_000_000)


def test_an_end_means_a_node_a_site_or_all(small):
    assert small.select("edge-1") == {"edge-1"}
    assert small.select("edge") == {"edge-1", "edge-2", "edge-3"}
    assert len(small.select("*")) == 4
