# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest

from pkgctl.measure.evaluation import evaluate
from tests.unit.report.synthetic import Shape, write_run


@pytest.fixture(scope="session")
def whole(tmp_path_factory):
    """A run folder of 8 cells with 3 repeats each, as an experiment leaves it."""
    return write_run(tmp_path_factory.mktemp("results") / "whole")


@pytest.fixture(scope="session")
def found(whole):
    """The evaluation of that run."""
    return evaluate(whole)


@pytest.fixture(scope="session")
def batch(tmp_path_factory):
    """A run of batch jobs only, without requests and disturbances."""
    shape = Shape(
        factors={"replicas": [2, 6]}, rate=0.0, batch=True, windows=False, objective=False
    )
    return write_run(tmp_path_factory.mktemp("results") / "batch", shape)
