# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether the disturbances came when they were planned."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import polars as pl

from pkgctl.measure import phases
from pkgctl.measure.observations import Observation, Place, by_run
from pkgctl.measure.record import Run

LAYER_EVENTS = ("layer-on", "layer-off")
EVERYTHING = "all disturbances"


def observe(events: pl.DataFrame, runs: Sequence[Run]) -> Iterator[Observation]:
    """Yield the largest distance between planned and actual times of each run."""
    planned = events.filter(
        pl.col("kind").is_in(LAYER_EVENTS) & pl.col("planned").is_not_null()
    ).with_columns((pl.col("t") - pl.col("planned")).abs().alias("error"))
    for run, rows in by_run(planned, runs):
        if rows.height:
            worst = max(rows["error"].to_list())
            yield Place(run, EVERYTHING, phases.ALL).observe("onset_error", worst, rows.height)
