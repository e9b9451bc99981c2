# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
import os

import pytest

from ansible_collections.pkgctl.testbed.plugins.module_utils import looking
from ansible_collections.pkgctl.testbed.plugins.module_utils.errors import AgentError

from . import agents


@pytest.fixture
def here(tmp_path):
    """A node in a testbed's folder."""
    folder = tmp_path / "nodes" / "edge-1"
    folder.mkdir(parents=True)
    return agents.node(folder, cgroup="pkgctl/no-such-group", disks={})


@pytest.fixture
def looks(here, tmp_path):
    def nodes(name):
        if name != here.name:
            raise AgentError(f"there is no node {name!r}")
        return here

    return looking.Looking(tmp_path, nodes, lambda: [here.name])


def write(here, **layers):
    path = looking.Path(here.directory, "links.json")
    fresh = path.with_suffix(".new")
    fresh.write_text(json.dumps(layers))
    fresh.replace(path)


def test_a_node_tells_its_layers_of_all_kinds(looks, here):
    write(here, base={"egress": {}})
    found = looks.look({})["nodes"]["edge-1"]

    assert found["stores"]["link"]["layers"] == {"base": {"egress": {}}}
    assert found["stores"]["quota"]["layers"] == {}
    assert (found["cpu"], found["memory"], found["impairment"]) == (None, None, here.impairment)
    assert "disk" not in found


def test_what_the_caller_knows_is_left_out_until_it_changes(looks, here):
    write(here, base={})
    stores = looks.look({})["nodes"]["edge-1"]["stores"]
    known = {"edge-1": {kind: store["stamp"] for kind, store in stores.items()}}

    assert looks.look({"known": known})["nodes"]["edge-1"]["stores"] == {}
    write(here, base={}, slow={})
    fresh = looks.look({"known": known})["nodes"]["edge-1"]["stores"]
    assert list(fresh) == ["link"]
    assert list(fresh["link"]["layers"]) == ["base", "slow"]


def test_an_answer_is_what_json_can_carry(looks):
    found = looks.look({"disks": True})

    assert json.loads(json.dumps(found)) == found
    assert found["nodes"]["edge-1"]["disk"] is None


def test_only_the_nodes_that_are_named_are_looked_at(looks):
    assert looks.look({"nodes": []})["nodes"] == {}
    with pytest.raises(AgentError, match="no node 'x'"):
        looks.look({"nodes": ["x"]})


def test_disks_that_are_mounted_are_added_up():
    (size,) = {os.statvfs("/").f_blocks * os.statvfs("/").f_frsize}
    found = looking.used(["/", "/no/such/place"])

    assert found is not None and found[1] == size and 0 < found[0] <= size
    assert looking.used(["/no/such/place"]) is None
