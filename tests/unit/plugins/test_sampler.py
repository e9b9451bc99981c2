# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest

from ansible_collections.pkgctl.testbed.plugins.module_utils import sampler
from ansible_collections.pkgctl.testbed.plugins.module_utils.sampler import Traffic

from . import trees
from .agents import node


@pytest.fixture
def here(tmp_path):
    return node(tmp_path, address="10.77.3.4", interface="data")


def traffic(has_switch, monkeypatch, **links):
    made = Traffic.__new__(Traffic)
    made._has_switch = has_switch
    monkeypatch.setattr(Traffic, "_links", lambda _: links)
    return made


def test_what_a_port_sends_is_what_its_node_receives(here, monkeypatch):
    counted = traffic(True, monkeypatch, **{"p3-4": (10, 700), "data": (1, 1)})

    assert counted.read([here]) == {"edge-1": (700, 10)}


def test_without_a_switch_the_nodes_own_interface_counts(here, monkeypatch):
    counted = traffic(False, monkeypatch, **{"mgmt": (9, 9), "data": (700, 10)})

    assert counted.read([here]) == {"edge-1": (700, 10)}


def test_of_a_node_whose_link_is_gone_nothing_is_known(here, tmp_path, monkeypatch):
    counted = traffic(True, monkeypatch, mgmt=(9, 9)).read([here])
    group = trees.node(trees.v2(tmp_path / "tree"))

    assert counted == {}
    (row,) = sampler.sample([("edge-1", group)], [], counted)
    assert (row["node"], row["rx_bytes"], row["tx_bytes"]) == ("edge-1", None, None)


def test_this_machines_own_links_are_read_where_there_is_no_switch(here, tmp_path):
    counted = Traffic(tmp_path / "no" / "switch")
    try:
        (received, sent) = counted._links()["lo"]
    finally:
        counted.close()

    assert received == sent
