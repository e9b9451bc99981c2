# SPDX-License-Identifier: GPL-3.0-or-later
"""Load generators that end by themselves while they are being told something."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from pkgctl.errors import TestbedError
from pkgctl.experiment.clients import Clients


class Files:
    """A generator's files; one that has ended has no socket."""

    def __init__(self, *, is_there: bool) -> None:
        self.is_there = is_there
        self.told: list[str] = []

    def tell(self, message):
        if not self.is_there:
            raise TestbedError("the load generator does not listen: No such file or directory")
        self.told.append(message["op"])


@pytest.fixture
def files():
    return {"edge-1": Files(is_there=False), "edge-2": Files(is_there=True)}


@pytest.fixture
def clients(files):
    job = SimpleNamespace(has_ended=False)
    backend = SimpleNamespace(
        client_files=files.__getitem__,
        jobs={f"load-{name}": job for name in files},
        view=lambda: SimpleNamespace(links={}),
    )
    return Clients(backend, {name: [] for name in files})


def test_one_that_has_just_ended_keeps_nothing_from_the_others(clients, files):
    clients.list_endpoints("web", "nearest", [])
    clients.stop()

    assert files["edge-2"].told == ["endpoints", "stop"]


def test_one_that_is_to_begin_has_to_be_there(clients):
    with pytest.raises(TestbedError, match="does not listen"):
        clients.begin(0.0)
