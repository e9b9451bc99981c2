# SPDX-License-Identifier: GPL-3.0-or-later
"""What is remembered of other clusters, and what becomes of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from pkgctl.cluster import client, elsewhere, owning
from pkgctl.errors import ClusterError
from pkgctl.local import paths


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "RUN", tmp_path)
    found = paths.paths("lab")
    found.run.mkdir()
    return found


@dataclass
class Api:
    place: tuple[str, str | None]

    def close(self) -> None:
        """Have nothing to close."""


@pytest.fixture
def asked(monkeypatch):
    """The clusters that were asked; one whose file is called dead does not answer."""
    found = []

    def leave(api, testbed):
        if "dead" in api.place[0]:
            raise ClusterError("no answer")
        found.append((*api.place, testbed))

    monkeypatch.setattr(client, "connect", lambda file, context: Api((str(file), context)))
    monkeypatch.setattr(owning, "leave", leave)
    return found


def test_each_cluster_is_asked_once(place, asked):
    for _ in range(2):
        elsewhere.remember(place, Path("/one"), None)
    elsewhere.remember(place, Path("/one"), "far")

    elsewhere.clear(place, pytest.fail)

    assert asked == [("/one", None, "lab"), ("/one", "far", "lab")]


def test_a_cluster_that_does_not_answer_is_told_and_the_others_are_asked(place, asked):
    elsewhere.remember(place, Path("/dead"), None)
    elsewhere.remember(place, Path("/well"), None)
    told = []

    elsewhere.clear(place, told.append)

    assert told == ["what experiments left in the cluster of /dead stays there: no answer"]
    assert asked == [("/well", None, "lab")]


def test_what_is_forgotten_is_not_asked_and_leaves_no_file(place, asked):
    elsewhere.remember(place, Path("/one"), None)
    elsewhere.forget(place, Path("/one"), None)

    elsewhere.clear(place, pytest.fail)

    assert asked == [] and list(place.run.iterdir()) == []


def test_a_testbed_that_knows_none_or_holds_a_torn_file_asks_nobody(place, asked):
    elsewhere.clear(place, pytest.fail)
    (place.run / "clusters.json").write_text("[")
    elsewhere.clear(place, pytest.fail)

    assert asked == []
