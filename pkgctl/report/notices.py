# SPDX-License-Identifier: GPL-3.0-or-later
"""When Kubernetes noticed what became of a node, as marks in figures over time."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

import polars as pl

from pkgctl.report.figures import escape, number

WORDS = {
    "kubernetes-notready": "not ready",
    "kubernetes-ready": "ready",
    "kubernetes-capacity-lowered": "capacity lowered",
    "kubernetes-capacity-raised": "capacity raised",
    "kubernetes-disk-problem": "data disk problem",
    "kubernetes-disk-well": "data disk well",
}
MOST = 12  # more could not be told apart


@dataclass(frozen=True, slots=True)
class Mark:
    """A moment at which Kubernetes changed its mind about a node, in seconds after t0."""

    time: float
    text: str


def marks(events: pl.DataFrame, cells: Collection[str], duration: float) -> list[Mark]:
    """Return what Kubernetes noticed in some cells, the first of each kind and node, by time."""
    chosen = events.filter(
        pl.col("kind").is_in(list(WORDS))
        & pl.col("cell").is_in(list(cells))
        & pl.col("t").is_between(0.0, duration)
    ).sort("t")
    firsts = chosen.unique(["kind", "target"], keep="first", maintain_order=True)
    rows = firsts.select("t", "kind", "target").head(MOST).iter_rows()
    return [Mark(time, f"Kubernetes: {node} {WORDS[kind]}") for time, kind, node in rows]


def lines(found: Iterable[Mark]) -> list[dict[str, object]]:
    """Return a line over the whole height for each mark."""
    return [
        {
            "type": "line",
            "xref": "x",
            "yref": "paper",
            "x0": number(mark.time),
            "x1": number(mark.time),
            "y0": 0,
            "y1": 1,
            "line": {"width": 1.2, "dash": "dashdot", "color": "@muted"},
        }
        for mark in found
    ]


def names(found: Sequence[Mark]) -> list[dict[str, object]]:
    """Return the words of each mark, along its line."""
    return [
        {
            "x": number(mark.time),
            "y": 0.98,
            "xref": "x",
            "yref": "paper",
            "text": escape(mark.text),
            "textangle": -90,
            "showarrow": False,
            "xanchor": "right",
            "yanchor": "top",
            "font": {"size": 10, "color": "@muted"},
        }
        for mark in found
    ]


def sentence(found: Sequence[Sequence[Mark]]) -> str:
    """Return what a caption says of the marks, if there are any."""
    if not any(found):
        return ""
    return " Dash-dotted: when Kubernetes noticed, in the first repeat in which it did."
