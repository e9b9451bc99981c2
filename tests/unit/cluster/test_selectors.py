# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest

from pkgctl.cluster import nodes, pods, selectors
from pkgctl.cluster.nodes import Taint
from tests.unit.cluster.objects import raw_node, raw_pod

TAINT = Taint("only", "some", "NoSchedule")
LABELS = {"site": "north", "size": "4", "empty": ""}


def node(name="n", labels=None, **more):
    return nodes.read(raw_node(name, labels=LABELS if labels is None else labels, **more))


@pytest.mark.parametrize(
    ("expression", "holds"),
    [
        (("site", "In", ["north", "south"]), True),
        (("site", "In", ["south"]), False),
        (("none", "In", ["north"]), False),
        (("site", "NotIn", ["south"]), True),
        (("site", "NotIn", ["north"]), False),
        (("none", "NotIn", ["north"]), True),
        (("empty", "Exists", None), True),
        (("none", "Exists", None), False),
        (("none", "DoesNotExist", None), True),
        (("empty", "DoesNotExist", None), False),
        (("size", "Gt", ["3"]), True),
        (("size", "Gt", ["4"]), False),
        (("size", "Lt", ["5"]), True),
        (("size", "Lt", ["4"]), False),
        (("site", "Gt", ["3"]), False),
        (("none", "Lt", ["3"]), False),
        (("size", "About", ["4"]), False),
    ],
)
def test_each_operator_holds_as_in_kubernetes(expression, holds):
    requirement = dict(zip(("key", "operator", "values"), expression, strict=True))

    assert selectors.matches({"matchExpressions": [requirement]}, node()) is holds


def test_all_of_a_term_must_hold_and_one_of_the_terms():
    north = {"key": "site", "operator": "In", "values": ["north"]}
    large = {"key": "size", "operator": "Gt", "values": ["9"]}
    named = {"key": "metadata.name", "operator": "In", "values": ["n"]}

    assert not selectors.matches({"matchExpressions": [north, large]}, node())
    assert selectors.matches({"matchFields": [named]}, node())
    assert not selectors.matches({"matchFields": [named]}, node("other"))
    assert not selectors.matches({}, node())
    assert places(terms=[{"matchExpressions": [large]}, {"matchExpressions": [north]}]) == {"n"}


def places(*, terms=None, found=None, **spec):
    if terms is not None:
        needed = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}
        spec["affinity"] = {"nodeAffinity": needed}
    there = found or [node(), node("m", labels={})]
    return selectors.allowed(pods.read(raw_pod("p", **spec)).wish, there).nodes


def test_a_selector_and_an_affinity_must_both_hold():
    large = [{"matchExpressions": [{"key": "size", "operator": "Gt", "values": ["9"]}]}]

    assert places(nodeSelector={"site": "north"}) == {"n"}
    assert places(nodeSelector={"site": "north"}, terms=large) == set()


def test_no_wish_allows_every_node_and_says_so_without_naming_them():
    assert places() is None


@pytest.mark.parametrize(
    ("toleration", "bears"),
    [
        ({"key": "only", "operator": "Equal", "value": "some", "effect": "NoSchedule"}, True),
        ({"key": "only", "value": "some"}, True),
        ({"key": "only", "value": "other"}, False),
        ({"key": "only", "operator": "Exists"}, True),
        ({"key": "other", "operator": "Exists"}, False),
        ({"operator": "Exists"}, True),
        ({"operator": "Exists", "effect": "NoExecute"}, False),
        ({"key": "only", "operator": "Exists", "effect": "NoExecute"}, False),
        ({"value": "some"}, False),
    ],
)
def test_each_toleration_bears_what_it_says(toleration, bears):
    assert selectors.tolerates(toleration, TAINT) is bears


def test_the_reasons_are_counted():
    taint = {"key": "only", "value": "some", "effect": "NoExecute"}
    found = [node("a", taints=[taint]), node("b", unschedulable=True), node("c", labels={}), node()]

    allowed = selectors.allowed(pods.read(raw_pod("p", nodeSelector={"site": "north"})).wish, found)

    assert allowed.nodes == {"n"}
    assert str(allowed) == (
        "1 does not match its node selector or affinity, "
        "1 tainted node.kubernetes.io/unschedulable:NoSchedule, 1 tainted only=some:NoExecute"
    )
