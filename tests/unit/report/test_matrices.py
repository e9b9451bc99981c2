# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from dataclasses import replace

import polars as pl

from pkgctl.measure.record import Node
from pkgctl.measure.results import LINKS
from pkgctl.report.matrices import link_listing, link_matrix, node_matrix
from tests.unit.report.made import evaluation
from tests.unit.report.synthetic import links_of


def with_links(names, sites=(), **more):
    made = evaluation({}, {})
    rows = [dict.fromkeys(LINKS) | row for row in links_of(names, **more)]
    nodes = tuple(Node(name, site) for name, site in zip(names, sites, strict=False))
    record = replace(made.results.record, nodes=nodes)
    links = pl.DataFrame(rows, schema=dict(LINKS), strict=False)
    return replace(made, results=replace(made.results, record=record, links=links))


def test_the_matrix_shows_each_directed_pair_in_the_topologys_order(found):
    matrix = link_matrix(found)

    assert matrix.columns == ["cloud-1", "edge-a-1", "edge-a-2", "edge-b-1", "user-1"]
    kinds = [square.kind for _, row in matrix.rows for square in row]
    assert {kind: kinds.count(kind) for kind in set(kinds)} == {
        "self": 5,
        "pass": 18,
        "fail": 1,
        "unmeasured": 1,
    }


def test_pointing_at_a_link_tells_what_was_asked_and_what_was_measured(found):
    tip = link_matrix(found).rows[0][1][1].tip.replace("\xa0", " ")

    assert tip.startswith("cloud-1 → edge-a-1: asked 20 Mbit/s, RTT 24 ms, loss 0 %; measured")
    assert "fail (goodput 15.7 mbit is 18 % under" in tip


def test_verdicts_are_told_apart_without_colour(found):
    texts = {square.kind: square.text for _, row in link_matrix(found).rows for square in row}

    assert len({texts[kind] for kind in ("pass", "fail", "unmeasured")}) == 3


def test_many_nodes_are_put_together_by_site():
    names = [f"n{at}" for at in range(30)]
    matrix = link_matrix(with_links(names, ["a"] * 15 + ["b"] * 15, failing=2))

    assert matrix.columns == ["a", "b"]
    assert matrix.rows[0][1][0].text == "✕ 208/210"
    assert matrix.rows[1][1][0].text == "✓ 225/225"
    assert "30 nodes are shown by site" in matrix.note


def test_failed_links_come_first_and_long_tables_are_cut():
    names = [f"n{at}" for at in range(30)]
    listing = link_listing(with_links(names, failing=3))

    assert [row[2] for row in listing.rows[:4]] == ["fail", "fail", "fail", "pass"]
    assert len(listing.rows) == 300
    assert listing.note == "570 more are in links.parquet."


def test_an_unshaped_and_unmeasured_link_can_be_shown():
    made = with_links(["a", "b"])
    links = made.results.links.with_columns(asked_rate=pl.lit(None, pl.Float64))

    listing = link_listing(replace(made, results=replace(made.results, links=links)))

    assert {row[8] for row in listing.rows} == {"unshaped"}


def test_nodes_show_what_they_used_in_each_cell(found):
    matrix = node_matrix(found)

    assert [name for name, _ in matrix.rows] == [
        "cloud-1", "edge-a-1", "edge-a-2", "edge-b-1", "user-1",
    ]  # fmt: skip
    assert len(matrix.columns) == 8
    used = dict(matrix.rows)["edge-a-1"][0]
    assert used.kind == "use" and used.text.endswith("%")
    assert "allocated" in used.tip and "throttled" in used.tip


def test_without_samples_and_links_there_are_no_matrices():
    made = evaluation({}, {})

    assert node_matrix(made) is None
    assert link_matrix(made) is None
    assert link_listing(made) is None
