# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
from pathlib import Path

import pytest

from pkgctl import topology
from pkgctl.errors import SpecError
from pkgctl.local import declared, edits
from pkgctl.local.edits import Edit

TEXT = """\
name: small
sites:
  cloud: {location: {latitude: 50.11, longitude: 8.68}, access: lan}
  edge: {location: {latitude: 48, longitude: 16}, access: {type: dsl, loss: 1%%}}
kinds:
  node: {cpu: 250m, memory: 64Mi, pids: 64, disks: {data: {size: 16Mi, mount: /data}}}
nodes:
  - {name: cloud-1, site: cloud, kind: node, role: cloud, labels: {rack: "3"}}
  - {name: "edge-[1-3]", site: edge, kind: node, access: lan}
  - {name: phone, site: edge, kind: node, access: {up: 5mbit}, disks: {}}
links:
%s
registry: cloud-1
"""
PLAIN = "  - {from: edge, to: cloud, rate: 20mbit, loss: 0%, symmetric: true}"


def small(links: str = PLAIN) -> topology.Topology:
    return topology.loads(TEXT % links)


def through_json(pieces: declared.Pieces) -> declared.Pieces:
    return json.loads(json.dumps(pieces))


@pytest.mark.parametrize("name", ["duo", "three-sites", "hundred"])
def test_a_topology_made_of_its_pieces_is_the_same(name):
    known = topology.load(name)

    made = declared.topology(through_json(declared.pieces(known)))

    assert made.is_like(known)
    assert made.nodes == known.nodes
    assert made.description == known.description


def test_what_is_unusual_comes_back_too():
    known = small()

    made = declared.topology(through_json(declared.pieces(known)))

    assert made.is_like(known)
    assert made.sites == known.sites
    assert made.nodes == known.nodes


def test_values_are_what_somebody_would_write():
    pieces = declared.pieces(small())

    assert pieces["link"]["edge->cloud"] == {
        "from": "edge",
        "to": "cloud",
        "rate": "20mbit",
        "loss": "0%",
    }
    assert pieces["node"]["phone"] == {
        "number": 5,
        "site": "edge",
        "kind": "node",
        "role": "node",
        "labels": {},
        "cpu": "250m",
        "memory": "64Mi",
        "pids": 64,
        "disks": {},
        "access": {"up": "5mbit"},
    }
    assert pieces["site"]["cloud"] == {"access": {}, "latitude": 50.11, "longitude": 8.68}


def test_one_edited_rate_is_one_other_piece():
    before, after = (
        declared.pieces(small(PLAIN.replace("20mbit, loss: 0%, symmetric: true", r)))
        for r in ("20mbit", "5mbit")
    )

    differ = [
        (kind, name)
        for kind in declared.KINDS
        for name in before[kind]
        if before[kind][name] != after[kind][name]
    ]

    assert differ == [("link", "edge->cloud")]


OVERLAPPING = """\
  - {from: cloud, to: "*", rate: 50mbit}
  - {from: edge, to: cloud, rate: 20mbit, delay: 5ms}
  - {from: edge-1, to: cloud, delay: 9ms}
  - {from: "*", to: cloud, rate: 7mbit}
  - {from: edge-1, to: cloud, unshaped: true}
  - {from: cloud, to: edge-2, down: true}
"""


def test_entries_that_share_a_pair_keep_their_order_whatever_their_names():
    known = small(OVERLAPPING)
    pieces = declared.pieces(known)

    assert declared.topology(through_json(pieces)).matrix() == known.matrix()
    assert {name: values.get("order", 0) for name, values in pieces["link"].items()} == {
        "cloud->*": 0,
        "edge->cloud": 0,
        "edge-1->cloud": 1,
        "*->cloud": 2,
        "edge-1->cloud#2": 3,
        "cloud->edge-2": 1,
    }


def test_a_new_entry_leaves_those_alone_with_which_it_shares_nothing():
    first = "  - {from: cloud, to: edge, rate: 3mbit}\n"

    before, after = declared.pieces(small()), declared.pieces(small(first + PLAIN))

    assert after["link"]["edge->cloud"] == before["link"]["edge->cloud"]


def test_an_entry_about_nodes_that_are_not_there_does_nothing():
    pieces = declared.pieces(small())
    del pieces["node"]["edge-1"]
    pieces["link"]["edge-1->cloud"] = {"from": "edge-1", "to": "cloud", "rate": "1mbit"}

    made = declared.topology(pieces)

    assert all(link.rate != 1_000_000 for _, _, link in made.pairs())


def test_edits_give_other_pieces_and_leave_the_old_ones():
    pieces = declared.pieces(small())
    link = {"from": "edge", "to": "cloud", "rate": "5mbit"}

    fresh = edits.edited(pieces, [Edit("link", "edge->cloud", link), Edit("node", "phone", None)])

    assert fresh["link"]["edge->cloud"] == link
    assert "phone" not in fresh["node"]
    assert pieces == declared.pieces(small())


def test_a_node_without_its_site_is_refused_with_the_nearest():
    pieces = declared.pieces(small())
    node = {**pieces["node"]["phone"], "site": "edgy"}

    with pytest.raises(SpecError, match=r"node phone is at 'edgy'.*edge"):
        edits.edited(pieces, [Edit("node", "phone", node)])


def test_a_topology_is_like_another_however_it_is_written():
    known = small()
    mirrored = small(
        "  - {from: cloud, to: edge, rate: 20mbit, loss: 0%}\n"
        "  - {from: edge, to: cloud, rate: 20mbit, loss: 0%}"
    )

    assert known.is_like(mirrored)
    assert not known.is_like(small(PLAIN.replace("20mbit", "21mbit")))
    assert not known.is_like(topology.load("duo"))


class Machine:
    """A testbed of files: a state and the stores of two nodes."""

    def __init__(self, folder: Path, known: topology.Topology) -> None:
        from pkgctl.local import planning
        from pkgctl.local.paths import Paths
        from pkgctl.nodeside import layers, links, quotas

        self.paths = Paths("lab")
        self.state = planning.plan(known, self.paths)
        for name, node in self.state.nodes.items():
            place = self.paths.node(name)
            place.mkdir(parents=True)
            body = links.body(self.state.egress(name), self.state.ingress(name))
            layers.save(place / links.STORE, {"base": body})
            limits = {"cpu": node.cpu, "memory": node.memory, "pids": node.pids}
            layers.save(place / quotas.STORE, {"base": limits})
            (place / "node.json").touch()
            pins = self.paths.namespaces(name)
            pins.mkdir(parents=True)
            for kind in ("net", "uts", "ipc", "mnt"):
                (pins / kind).touch()

    def picture(self) -> edits.Picture:
        return edits.Picture(self.paths, through_json(self.state.state(self.paths)))

    def store(self, node: str, store: str, change) -> None:
        path = self.paths.node(node) / store
        layers = json.loads(path.read_text())
        change(layers["base"])
        path.write_text(json.dumps(layers))


@pytest.fixture
def machine(tmp_path, monkeypatch):
    from pkgctl.local import paths

    monkeypatch.setattr(paths, "RUN", tmp_path)
    return Machine(tmp_path, small())


def test_what_is_as_declared_reads_as_declared(machine):
    pieces, picture = declared.pieces(small()), machine.picture()

    for kind in ("site", "link"):
        assert {name: picture.look(kind, name) for name in pieces[kind]} == pieces[kind]
    assert picture.look("node", "phone") == {
        **pieces["node"]["phone"],
        "address": "10.77.0.5",
        "address6": "fd77:7067::5",
    }
    assert picture.look("node", "nobody") is None


def test_another_base_layer_is_read_as_the_link_it_is(machine):
    def slower(base):
        base["egress"]["cloud-1"] = {**base["egress"]["cloud-1"], "rate": 1_000_000}

    machine.store("edge-2", "links.json", slower)

    found = machine.picture().look("link", "edge->cloud")

    assert (found["rate"], found["loss"]) == ("1mbit", "0%")
    assert (
        machine.picture().look("link", "cloud->edge")
        == declared.pieces(small())["link"]["cloud->edge"]
    )


def test_what_no_entry_is_about_is_told_by_its_nodes(machine):
    machine.store("phone", "links.json", lambda base: base["egress"].pop("edge-1"))

    found = machine.picture().look("node", "phone")

    assert found["drift"] == ["phone -> edge-1: unshaped, not 5mbit"]
    assert "drift" not in machine.picture().look("node", "edge-2")


def test_other_limits_are_read_in_words(machine):
    machine.store("phone", "quota.json", lambda base: base.update(cpu=0.1))

    found = machine.picture().look("node", "phone")

    assert (found["cpu"], found["memory"]) == ("0.1", "64Mi")


def test_a_node_without_its_namespaces_is_not_there(machine):
    (machine.paths.namespaces("phone") / "net").unlink()

    assert machine.picture().look("node", "phone") is None
