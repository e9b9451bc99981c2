# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json

import pytest

from ansible_collections.pkgctl.testbed.plugins.module_utils import identity
from ansible_collections.pkgctl.testbed.plugins.module_utils.errors import NodeError

from .agents import node


def test_a_description_comes_back_as_it_was_saved(tmp_path):
    here = node(tmp_path, access=5_000_000)

    assert identity.load(tmp_path / "node.json") == here


def test_a_description_that_moved_knows_its_new_folder(tmp_path):
    here = node(tmp_path)
    moved = tmp_path / "moved"
    moved.mkdir()
    (moved / "node.json").write_bytes((tmp_path / "node.json").read_bytes())

    assert identity.load(moved / "node.json").directory == str(moved)
    assert here.directory == str(tmp_path)


def test_a_host_that_is_no_node_is_told_so(tmp_path):
    with pytest.raises(NodeError, match=r"not a node of a testbed: there is no .*node\.json"):
        identity.load(tmp_path / "node.json")


@pytest.mark.parametrize(
    "change",
    [
        lambda known: "{",
        lambda known: "[]",
        lambda known: json.dumps({**known, "disks": 5}),
        lambda known: json.dumps({**known, "disks": {"data": {"image": "x"}}}),
        lambda known: json.dumps({**known, "surprise": 1}),
        lambda known: json.dumps({key: known[key] for key in known if key != "address"}),
        lambda known: json.dumps({key: known[key] for key in known if key != "disks"}),
    ],
)
def test_a_broken_description_is_refused_in_one_line_with_its_path(tmp_path, change):
    path = tmp_path / "node.json"
    node(tmp_path)
    path.write_text(change(json.loads(path.read_text())))

    with pytest.raises(NodeError, match=r"node\.json is not a node's description") as caught:
        identity.load(path)

    assert "\n" not in str(caught.value)


def test_a_peers_number_is_its_place_in_the_network(tmp_path):
    here = node(tmp_path, peers={"near": "10.77.0.3", "far": "10.77.2.1"})

    assert (here.number("near"), here.number("far")) == (3, 513)


def test_an_unknown_peer_is_named_with_those_that_are_there(tmp_path):
    here = node(tmp_path)

    here.check_peers({"cloud-1": 1})
    with pytest.raises(
        NodeError, match="edge-1 has no peer 'cloud-9'; its peers are cloud-1, edge-2"
    ):
        here.check_peers({"cloud-1": 1, "cloud-9": 1})
