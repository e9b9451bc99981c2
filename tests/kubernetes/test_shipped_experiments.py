# SPDX-License-Identifier: GPL-3.0-or-later
"""The experiments that come with pkgctl, as they are, on the cluster that the roles make."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest

from pkgctl import topology
from pkgctl.local import removal, testbed
from pkgctl.measure.record import Run, read_record

from .roles import Lab
from .standin import pack

# Seven nodes on one machine: with others beside them Kubernetes would lose sight of them.
pytestmark = [pytest.mark.root, pytest.mark.quiet, pytest.mark.kubernetes(*pack.NEEDS)]


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    made = Lab(f"shipped-{os.getpid()}", tmp_path_factory.mktemp("bundles"))
    try:
        testbed.up(topology.load("three-sites"), made.place)
        made.changed("install")
        yield made
    finally:
        removal.down(made.place)


def experiment(lab: Lab, folder: Path, name: str, *options: str) -> Path:
    """Return the results of an experiment."""
    words = ["--provider", "existing", "--name", lab.name, "--results", str(folder), "-o", "json"]
    return Path(json.loads(lab.said("experiment", name, *words, *options))["run"])


def table(folder: Path, run: Run, name: str) -> pl.DataFrame:
    return pl.read_parquet(folder / str(run.folder) / f"{name}.parquet")


def test_scaling_has_every_replica_and_every_request_of_every_run(lab: Lab, tmp_path: Path):
    folder = experiment(lab, tmp_path, "scaling")

    record = read_record(folder)
    assert (record.status, len(record.runs)) == ("complete", 24)
    for cell in record.cells:
        for run in cell.runs:
            jobs, requests = table(folder, run, "jobs"), table(folder, run, "requests")
            ready = jobs.filter((pl.col("service") == "web") & pl.col("ready").is_not_null())
            assert ready["job"].n_unique() == cell.factors["replicas"]
            assert requests.filter(pl.col("status") == "ok").height > 100


def test_node_loss_shows_who_replaces_what_was_lost(lab: Lab, tmp_path: Path):
    folder = experiment(lab, tmp_path, "node_loss", "--repeats", "1")

    record = read_record(folder)
    assert (record.status, len(record.runs)) == ("complete", 2)
    events = pl.read_parquet(folder / "events.parquet").filter(pl.col("target") == "edge-1")
    for cell in record.cells:
        mine = events.filter(pl.col("cell") == cell.id).sort("t", descending=True)
        first = dict(mine.select("kind", "t").iter_rows())
        assert first["layer-on"] < first["kubernetes-notready"] < first["kubernetes-ready"]
        assert first["layer-off"] < first["kubernetes-ready"]
        (run,) = cell.runs
        lost = mine.filter(pl.col("kind") == "replace").height
        fresh = table(folder, run, "jobs").filter(pl.col("phase") == "replace")
        if cell.factors["scheduler"] == "least-allocated":
            assert 0 < lost == fresh["ready"].count()
        else:
            assert lost == fresh.height == 0
