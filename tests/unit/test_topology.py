# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest

from pkgctl import topology
from pkgctl.errors import SpecError
from pkgctl.network import Disk

HEAD = """name: small
sites:
  cloud: {location: {latitude: 50.11, longitude: 8.68}}
  edge: {location: {latitude: 48.21, longitude: 16.37}, access: 4g}
kinds:
  box: {cpu: 500m, memory: 64Mi, labels: {tier: low}, disks: {data: {size: 8Mi, mount: /data}}}
nodes:
  - {name: cloud-1, site: cloud, kind: box}
"""
GOOD = HEAD + "  - {name: edge-1, site: edge, kind: box}\n"


def refuse(text):
    with pytest.raises(SpecError) as caught:
        topology.loads(text, "small.yaml")
    message = str(caught.value)
    assert "\n" not in message and message.startswith("small.yaml") and len(message) < 600
    assert caught.value.exit_code == 2
    return message


def test_a_kind_is_filled_into_its_nodes_and_a_node_overrides_it():
    text = (
        GOOD + "  - {name: big, site: edge, kind: box, memory: 1Gi, labels: {zone: 2}, disks: {}}\n"
    )

    edge, big = topology.loads(text).nodes[1:]

    assert (edge.cpu, edge.memory, edge.pids) == (0.5, 64 * 2**20, topology.DEFAULT_PIDS)
    assert edge.disks == {"data": Disk(8 * 2**20, "/data")}
    assert big.memory == 2**30 and big.disks == {}
    assert big.labels == {"tier": "low", "zone": "2"}


def test_a_count_and_a_range_are_written_out():
    text = HEAD + "  - {name: edge, count: 2, site: edge, kind: box}\n"
    text += "  - {name: 'box-[08-10]', site: edge, kind: box}\n"

    names = [node.name for node in topology.loads(text).nodes]

    assert names == ["cloud-1", "edge-1", "edge-2", "box-08", "box-09", "box-10"]


def test_the_registry_is_the_first_cloud_node_then_the_first_node():
    assert topology.loads(GOOD).registry == "cloud-1"
    text = GOOD + "  - {name: far, site: edge, kind: box, role: cloud}\n"
    assert topology.loads(text).registry == "far"
    assert topology.loads(text + "registry: edge-1").registry == "edge-1"


@pytest.mark.parametrize(
    ("change", "place", "hint"),
    [
        (("access: 4g", "access: 6g"), "small.yaml:4: sites.edge.access: ", "known are 4g, 5g"),
        (("access: 4g", "acces: 4g"), "small.yaml:4: sites.edge.acces: ", "did you mean access?"),
        (("500m", "5 cores"), "small.yaml:6: kinds.box.cpu: ", "0.5 or 500m"),
        (("500m", "0"), "small.yaml:6: kinds.box.cpu: ", "too little"),
        (("500m", "9" * 29), "small.yaml:6: kinds.box.cpu: ", "more than any machine"),
        (("500m", "-1"), "small.yaml:6: kinds.box.cpu: ", "negative"),
        (("64Mi", "64MB"), "small.yaml:6: kinds.box.memory: ", "did you mean 64Mi"),
        (("64Mi", "0"), "small.yaml:6: kinds.box.memory: ", "above zero"),
        (("8Mi", "8Ki"), "small.yaml:6: kinds.box.disks.data.size: ", "at least 1Mi"),
        (("/data}", "data}"), "small.yaml:6: kinds.box.disks.data.mount: ", "absolute path"),
        (("/data}", "/etc/x}"), "small.yaml:6: kinds.box.disks.data.mount: ", "system"),
        (("/data}", "/a/../etc}"), "small.yaml:6: kinds.box.disks.data.mount: ", "absolute"),
        (
            ("latitude: 48.21", "latitude: 148"),
            "small.yaml:4: sites.edge.location.latitude: ",
            "90",
        ),
        (("site: edge", "site: egde"), "small.yaml:9: nodes[1].site: ", "did you mean edge?"),
        (("edge, kind: box", "edge, kind: bix"), "small.yaml:9: nodes[1].kind: ", "mean box?"),
        (
            ("name: edge-1", "name: cloud-1"),
            "small.yaml:9: nodes[1].name: ",
            "the first is nodes[0]",
        ),
        (("name: edge-1", f"name: {'x' * 9999}"), "small.yaml:9: nodes[1].name: ", "lower-case"),
        (("name: edge-1", "name: Edge_1"), "small.yaml:9: nodes[1].name: ", "lower-case"),
        (("name: edge-1", "name: localhost"), "small.yaml:9: nodes[1].name: ", "another"),
        (("name: edge-1", "name: 'e-[3-1]'"), "small.yaml:9: nodes[1].name: ", "[1-3]"),
        (("name: edge-1", "name: 'e-[1-9999]'"), "small.yaml:9: nodes[1].name: ", "more than 1000"),
        (("name: edge-1", "name: edge"), "small.yaml:4: sites.edge: ", "a node as well"),
        (("{cpu: 500m, ", "{"), "small.yaml:8: nodes[0]: ", "has no cpu"),
        (("name: small", "description: x"), "small.yaml:1: ", "the key name is missing"),
        (("nodes:", "nods:"), "small.yaml:7: nods: ", "did you mean nodes?"),
    ],
)
def test_a_mistake_is_named_by_line_and_key_with_what_would_be_right(change, place, hint):
    assert change[0] in GOOD

    message = refuse(GOOD.replace(*change))

    assert message.startswith(place)
    assert hint in message


@pytest.mark.parametrize(
    ("link", "hint"),
    [
        (
            "{from: edge-9, to: cloud, rate: 5mbit}",
            "links[0].from: no node or site 'edge-9'; did you",
        ),
        ("{from: edge, to: cloud, rate: 5mbps}", "links[0].rate: rate '5mbps' has the unit 'mbps'"),
        ("{from: edge, to: cloud, delay: 5}", "links[0].delay: duration 5 has no unit"),
        ("{from: edge, to: cloud, loss: 5}", "links[0].loss: ratio 5 needs a percent sign"),
        ("{from: edge, to: cloud, rate: 999999gbit}", "links[0].rate: rate '999999gbit' is above"),
        ("{from: edge, to: cloud, jitter: 2h}", "links[0].jitter: '2h' is above 1m"),
        ("{from: edge, to: cloud}", "links[0]: says too much or too little"),
        ("{from: edge, to: cloud, down: true, rate: 1mbit}", "links[0]: says too much"),
        ("{from: edge, to: edge, rate: 1mbit, symmetric: true}", "leave symmetric out"),
        ("{from: edge, to: '*', down: true, symmetric: true}", "sites.cloud: the site is disc"),
        ("{to: cloud, rate: 5mbit}", "links[0]: the key from is missing"),
    ],
)
def test_a_wrong_link_is_refused(link, hint):
    message = refuse(f"{GOOD}links:\n  - {link}\n")

    assert hint in message


def test_a_site_of_unknown_place_needs_its_links_listed():
    text = GOOD.replace("edge: {location: {latitude: 48.21, longitude: 16.37}, ", "edge: {")

    assert "give both sites a location, or list the link" in refuse(text)
    listed = text + "links:\n  - {from: edge, to: cloud, delay: 1ms, symmetric: true}\n"
    assert topology.loads(listed).matrix()["edge-1"]["cloud-1"].delay == 0.001


def test_a_site_without_nodes_is_refused():
    assert "sites.edge: the site has no node" in refuse(HEAD)


def test_two_disks_in_one_place_are_refused():
    disks = "disks: {a: {size: 8Mi, mount: /x}, b: {size: 8Mi, mount: /x/}}"

    message = refuse(GOOD + f"  - {{name: e, site: edge, kind: box, {disks}}}\n")

    assert "disks a and b of node e share /x" in message


def test_more_nodes_than_the_limit_are_refused():
    entry = "  - {{name: {}, count: 600, site: edge, kind: box}}\n"

    message = refuse(HEAD + entry.format("a") + entry.format("b"))

    assert "more than 1000 nodes" in message


def test_an_included_file_is_merged_under(tmp_path):
    (tmp_path / "base.yaml").write_text(GOOD)
    mine = tmp_path / "mine.yaml"
    mine.write_text("name: mine\ninclude: base.yaml\nkinds: {box: {cpu: 2}}\n")

    found = topology.load(mine)

    assert found.name == "mine"
    assert [node.cpu for node in found.nodes] == [2.0, 2.0]
    assert found.nodes[0].memory == 64 * 2**20


def test_files_that_include_one_another_are_refused(tmp_path):
    for one, other in (("a", "b"), ("b", "a")):
        (tmp_path / f"{one}.yaml").write_text(f"include: {other}.yaml\n")

    with pytest.raises(SpecError, match=r"a\.yaml includes b\.yaml includes a\.yaml"):
        topology.load(tmp_path / "a.yaml")


def test_a_missing_include_names_the_nearest_file(tmp_path):
    (tmp_path / "base.yaml").write_text(GOOD)
    (tmp_path / "mine.yaml").write_text("name: mine\ninclude: ./bse.yaml\n")

    with pytest.raises(SpecError, match=r"mine.yaml:2: include: .* did you mean base.yaml\?"):
        topology.load(tmp_path / "mine.yaml")


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("three-site", "did you mean three-sites?"),
        ("nowhere/x.yaml", "there is no folder nowhere"),
        ("", "no file name"),
        ("x" * 5000, "known are"),
        ("no\0pe", "no file name"),
    ],
)
def test_a_topology_that_is_not_there_is_named_with_the_nearest(name, hint):
    with pytest.raises(SpecError) as caught:
        topology.load(name)

    assert hint in str(caught.value)


def test_a_relative_path_is_seen_from_the_file_that_mentions_it(tmp_path):
    (tmp_path / "mine.yaml").write_text(GOOD)

    assert topology.load("mine.yaml", beside=tmp_path).name == "small"


def test_more_memory_than_the_machine_has_is_refused_with_both_numbers():
    small = topology.loads(GOOD, "small.yaml")

    topology.check_machine(small, 128 * 2**20)
    with pytest.raises(SpecError) as caught:
        topology.check_machine(small, 100 * 2**20)

    assert "small.yaml: nodes: the 2 nodes ask for 128Mi" in str(caught.value)
    assert "this machine has 100Mi" in str(caught.value)
