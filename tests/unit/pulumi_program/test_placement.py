# SPDX-License-Identifier: GPL-3.0-or-later
"""Which host runs which node."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pkgctl.errors import SpecError
from pkgctl.network import Node
from testbed.placement import place
from testbed.settings import Host

GI = 2**30


def host(name: str, cpu: float | None = None, memory: int | None = None) -> Host:
    network = ipaddress.IPv4Network("192.168.0.0/24")
    return Host(name=name, uri=f"qemu+ssh://{name}/system", network=network, cpu=cpu, memory=memory)


def node(name: str, memory: int = GI, cpu: float = 1.0, label: str = "") -> Node:
    labels = {"host": label} if label else {}
    return Node(name, "site", "kind", "edge", cpu, memory, 100, labels)


def test_a_label_decides():
    nodes = [node("a", label="two"), node("b", label="two")]

    assert place(nodes, [host("one"), host("two")]) == {"a": "two", "b": "two"}


def test_a_label_of_no_host_is_refused():
    with pytest.raises(SpecError, match="labelled host: three, which is none of the hosts"):
        place([node("a", label="three")], [host("one")])


def test_nodes_spread_by_how_full_hosts_are():
    hosts = [host("big", memory=6 * GI), host("small", memory=2 * GI)]

    placed = place([node(str(number)) for number in range(6)], hosts)

    assert [list(placed.values()).count(name) for name in ("big", "small")] == [4, 2]


def test_without_room_the_node_is_named():
    with pytest.raises(SpecError, match="no host has 1 cores and 1Gi of memory left for node b"):
        place([node("a"), node("b")], [host("one", memory=GI)])


def test_nodes_bound_to_a_host_that_is_too_small_are_named():
    with pytest.raises(SpecError, match=r"one is too small for its nodes \(a, b\)"):
        place([node("a", label="one"), node("b", label="one")], [host("one", cpu=1)])


def test_a_machine_needs_room_for_its_own_system():
    with pytest.raises(SpecError, match="no host"):
        place([node("a")], [host("one", memory=GI)], system=1)


@given(st.lists(st.integers(1, 4), min_size=1, max_size=8), st.integers(1, 4), st.integers(0, 8))
def test_a_node_that_is_added_moves_no_other(sizes, more, where):
    hosts = [host("one", memory=64 * GI), host("two", memory=48 * GI), host("three")]
    before = [node(f"n{number}", size * GI) for number, size in enumerate(sizes)]
    known = place(before, hosts)

    after = place([*before[:where], node("new", more * GI), *before[where:]], hosts, known)

    assert {name: after[name] for name in known} == known


def test_a_node_whose_host_is_no_more_is_placed_anew():
    assert place([node("a")], [host("two")], {"a": "one"}) == {"a": "two"}
