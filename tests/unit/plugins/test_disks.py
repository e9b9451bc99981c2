# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest

from ansible_collections.pkgctl.testbed.plugins.module_utils import disks, layers
from ansible_collections.pkgctl.testbed.plugins.module_utils.errors import DisturbanceError
from ansible_collections.pkgctl.testbed.plugins.module_utils.identity import Disk

from .agents import node

DATA = Disk("/images/data.img", "/data", 1 << 26)
TWO = {"data": DATA, "logs": Disk("/images/logs.img", "/logs", 1)}


@pytest.fixture
def here(tmp_path):
    """A node whose disk is not mounted."""
    return node(tmp_path, disks={"data": Disk("/images/data.img", str(tmp_path / "disk"), 1)})


def asked(here, **data):
    return disks.change(here, layer="test", body={"data": data}, dry_run=True)


def test_a_node_without_a_disk_says_so(tmp_path):
    with pytest.raises(DisturbanceError, match="edge-1 has no data disk"):
        asked(node(tmp_path, disks={}), condition="unmounted")


def test_the_only_disk_needs_no_name(here):
    assert disks.choose(here, None) == "data"


def test_of_several_disks_one_must_be_named(tmp_path):
    here = node(tmp_path, disks=TWO)

    with pytest.raises(DisturbanceError, match="has the disks data, logs; name one of them"):
        disks.choose(here, None)
    with pytest.raises(DisturbanceError, match="there is no disk 'swap'"):
        disks.change(here, layer="test", body={"swap": {}}, dry_run=True)


def test_what_no_disk_can_be_is_refused_before_anything_is_stored(here, tmp_path):
    with pytest.raises(DisturbanceError, match="known are mounted, readonly, unmounted, detached"):
        disks.change(here, layer="test", body={"data": {"condition": "gone"}})

    assert layers.load(tmp_path / disks.STORE) == {}


def test_a_prediction_tells_the_change_and_stores_nothing(here, tmp_path):
    predicted = asked(here, condition="readonly", fill=0.5)

    assert (predicted.changed, predicted.actions) == (True, ["data: readonly"])
    assert predicted.before == "data: unmounted\n"
    assert predicted.after == "data: readonly, fill to 50%\n"
    assert layers.load(tmp_path / disks.STORE) == {}


def test_what_is_not_as_stored_is_told(here, tmp_path):
    stored = {"base": {}, "test": {"data": {"condition": "unmounted"}}}
    layers.save(tmp_path / disks.STORE, stored)
    assert disks.converge(here, dry_run=True).actions == []

    layers.save(tmp_path / disks.STORE, {"base": {}})
    assert disks.converge(here, dry_run=True).actions == ["data: mounted"]


def test_a_node_that_is_off_is_asked_for_no_mount(here, tmp_path):
    layers.save(tmp_path / "health.json", {"base": {}, "test": {"health": "crashed"}})

    assert disks.converge(here, dry_run=True).actions == []


def test_a_layer_can_be_set_on_a_disk_that_is_away_already(here, tmp_path):
    body = {"data": {"condition": "unmounted", "fill": 0.5}}

    done = disks.change(here, layer="test", body=body)
    assert (done.changed, done.actions) == (True, [])
    assert layers.load(tmp_path / disks.STORE) == {"test": body}

    again = disks.change(here, layer="test", body=body)
    assert (again.changed, again.before) == (False, again.after)
    assert again.after == "data: unmounted, fill to 50%\n"
