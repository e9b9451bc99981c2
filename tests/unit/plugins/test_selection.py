# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest

from ansible_collections.pkgctl.testbed.plugins.module_utils import selection
from ansible_collections.pkgctl.testbed.plugins.module_utils.selection import Node

NODES = (
    Node("cloud-1", "cloud", "cloud", "server", {"gpu": "yes"}, ("data",)),
    Node("edge-1", "edge-a", "edge", "server"),
    Node("edge-2", "edge-a", "edge", "tiny", {"gpu": "no"}),
    Node("edge-3", "edge-b", "edge", "tiny"),
)


def chosen(value: object) -> set[str]:
    return set(selection.read("src", value).choose(NODES))


@pytest.mark.parametrize(
    ("value", "names"),
    [
        ("edge-1", {"edge-1"}),
        ("edge-a", {"edge-1", "edge-2"}),
        ("edge", {"edge-1", "edge-2", "edge-3"}),
        ("tiny", {"edge-2", "edge-3"}),
        ("*", {"cloud-1", "edge-1", "edge-2", "edge-3"}),
        ("all", {"cloud-1", "edge-1", "edge-2", "edge-3"}),
        ("edge-1,edge-3", {"edge-1", "edge-3"}),
        ("edge-1, edge-b", {"edge-1", "edge-3"}),
        ("edge-[12]", {"edge-1", "edge-2"}),
        ("edge-*", {"edge-1", "edge-2", "edge-3"}),
        ("site:edge-*", {"edge-1", "edge-2", "edge-3"}),
        ("label:gpu=yes", {"cloud-1"}),
        (["edge-1", "cloud"], {"edge-1", "cloud-1"}),
        ({"site": "edge-a"}, {"edge-1", "edge-2"}),
        ({"site": ["edge-a", "edge-b"], "kind": "tiny"}, {"edge-2", "edge-3"}),
        ({"labels": {"gpu": "no"}}, {"edge-2"}),
        ([{"site": "edge-b"}, "cloud-1"], {"edge-3", "cloud-1"}),
        ({"role": "*"}, {"cloud-1", "edge-1", "edge-2", "edge-3"}),
    ],
)
def test_a_selector_names_nodes_by_name_site_role_kind_label_pattern_or_list(value, names):
    assert chosen(value) == names


def test_the_same_name_for_a_site_and_a_role_is_fine_while_both_mean_the_same_nodes():
    assert chosen("cloud") == {"cloud-1"}


def test_a_node_goes_before_a_site_of_the_same_name():
    nodes = (*NODES, Node("edge-b", "cloud"))

    assert selection.read("dst", "edge-b").choose(nodes) == {"edge-b"}


def test_a_name_with_several_meanings_is_refused_with_the_ways_to_write_it():
    nodes = (*NODES, Node("relay", "cloud", "edge"))

    with pytest.raises(ValueError, match="several meanings here; write site:cloud or role:cloud"):
        selection.read("dst", "cloud").choose(nodes)


@pytest.mark.parametrize(
    ("value", "error"),
    [
        ("edge-11", "src: no node, site, role or kind is called 'edge-11'; did you mean edge-1?"),
        ("site:edge-c", "src: no node has the site 'edge-c'; did you mean edge-b?"),
        ("label:gpu=maybe", "src: no node has the label 'gpu=maybe'; did you mean gpu="),
        ({"site": "edge-b", "kind": "server"}, "src: no node is site:edge-b and kind:server"),
    ],
)
def test_a_selector_that_names_nothing_here_says_what_is_near(value, error):
    with pytest.raises(ValueError) as caught:
        chosen(value)

    assert str(caught.value).startswith(error)


def test_where_no_node_has_a_label_that_is_said():
    with pytest.raises(ValueError, match=r"no node has the label 'gpu=yes'; there are none$"):
        selection.read("src", "label:gpu=yes").choose(NODES[3:])


@pytest.mark.parametrize(
    "value",
    [
        *("", "edge-1,,edge-2", "colour:red", "site:"),
        *({}, {"sight": "a"}, {"site": []}, {"site": 3}),
        *([], 7, None, [3]),
    ],
)
def test_what_is_no_selector_is_refused_with_the_word_in_front(value):
    with pytest.raises(ValueError, match=r"^src[.:]"):
        selection.read("src", value)


MANY = tuple(Node(f"node-{number}", "campus", "edge") for number in range(100))


@pytest.mark.parametrize(
    ("value", "count"),
    [
        ("random 2 of *", 2),
        ("random  30%  of  edge", 30),
        ("random 0.5% of *", 1),
        ("random 100% of *", 100),
        ("random 2 of node-1,node-2,node-3", 2),
        ({"random": 3, "of": {"role": "edge"}}, 3),
        ({"random": "5%", "of": ["node-1*", "node-2*"]}, 1),
        (["random 2 of node-1*", "random 2 of node-2*"], 4),
    ],
)
def test_some_of_the_nodes_are_drawn(value, count):
    selector = selection.read("node", value)

    assert selector.is_random
    assert len(selector.choose(MANY, 7)) == count


def test_a_draw_is_the_same_whatever_the_order_of_the_nodes():
    selector = selection.read("node", "random 5 of *")

    drawn = selector.choose(MANY, 7)

    assert selector.choose(tuple(reversed(MANY)), 7) == drawn
    assert selector.choose(MANY, 8) != drawn
    assert selection.read("dst", "random 5 of *").choose(MANY, 7) != drawn


def test_a_larger_draw_holds_the_smaller_one():
    few, more = (selection.read("node", f"random {count} of *") for count in (3, 10))

    assert few.choose(MANY, 7) < more.choose(MANY, 7)


def test_nodes_are_drawn_about_equally_often():
    selector = selection.read("node", "random 10 of *")

    counts = {node.name: 0 for node in MANY}
    for seed in range(500):
        for name in selector.choose(MANY, seed):
            counts[name] += 1

    assert 20 < min(counts.values()) <= max(counts.values()) < 90


@pytest.mark.parametrize(
    "value",
    [
        *("random 2", "random of edge", "random 0 of edge", "random 0% of *", "random x of *"),
        *("random 2 of random 3 of *", "random 120% of *", "edge-1,random 2 of edge-2"),
        *({"random": 2}, {"random": 2, "of": "*", "site": "a"}, {"random": True, "of": "*"}),
        *({"random": {}, "of": "*"}, {"random": "9" * 30, "of": "*"}, "x" * 201),
    ],
)
def test_what_is_no_draw_is_refused(value):
    with pytest.raises(ValueError, match=r"^src[.:]"):
        selection.read("src", value)


def test_more_than_there_are_cannot_be_drawn():
    with pytest.raises(ValueError, match="src: 5 cannot be drawn from 3 nodes"):
        chosen("random 5 of edge")


def test_a_pattern_is_not_kept_beyond_its_use():
    for number in range(1000):
        with pytest.raises(ValueError, match="is called"):
            chosen(f"none-{number}-[ab]*")
