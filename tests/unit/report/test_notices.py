# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import polars as pl

from pkgctl.measure.results import EVENTS
from pkgctl.report import notices


def events(*rows: tuple[str, str, str, float]) -> pl.DataFrame:
    found = [{"cell": c, "kind": k, "target": n, "t": t} for c, k, n, t in rows]
    return pl.DataFrame(found, schema=dict(EVENTS))


def test_what_kubernetes_noticed_first_of_each_node_is_marked():
    found = notices.marks(
        events(
            ("one", "kubernetes-ready", "edge-1", 71.0),
            ("one", "kubernetes-notready", "edge-1", 55.0),
            ("one", "kubernetes-notready", "edge-1", 57.0),
            ("two", "kubernetes-notready", "edge-1", 50.0),
            ("one", "node-lost", "edge-1", 10.0),
            ("one", "kubernetes-notready", "edge-2", 500.0),
        ),
        ["one"],
        120.0,
    )

    assert [(mark.time, mark.text) for mark in found] == [
        (55.0, "Kubernetes: edge-1 not ready"),
        (71.0, "Kubernetes: edge-1 ready"),
    ]
    assert [line["x0"] for line in notices.lines(found)] == [55.0, 71.0]
    assert "Kubernetes noticed" in notices.sentence([found])


def test_what_kubernetes_was_told_of_capacity_and_disks_is_marked_too():
    kinds = ("capacity-lowered", "disk-problem", "disk-well", "capacity-raised")
    found = notices.marks(
        events(*(("one", f"kubernetes-{kind}", "a", 1.0 + n) for n, kind in enumerate(kinds))),
        ["one"],
        60.0,
    )

    assert [mark.text for mark in found] == [
        "Kubernetes: a capacity lowered",
        "Kubernetes: a data disk problem",
        "Kubernetes: a data disk well",
        "Kubernetes: a capacity raised",
    ]


def test_no_more_is_marked_than_can_be_told_apart():
    rows = (("one", "kubernetes-disk-problem", f"node-{n}", 1.0 + n) for n in range(50))

    found = notices.marks(events(*rows), ["one"], 60.0)

    assert [mark.time for mark in found] == [1.0 + n for n in range(notices.MOST)]


def test_without_kubernetes_a_figure_says_nothing_of_it():
    assert notices.marks(events(), ["one"], 10.0) == []
    assert notices.sentence([[], []]) == ""
