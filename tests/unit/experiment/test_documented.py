# SPDX-License-Identifier: GPL-3.0-or-later
"""Every key of an experiment file is on the page that describes it, and its example is right."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pkgctl import documents, spec
from pkgctl.spec import models

PAGE = (Path(__file__).parents[3] / "docs" / "experiments.md").read_text()
PARTS = [
    models.Head,
    models.Body,
    models.Service,
    models.Place,
    models.Resources,
    models.Request,
    models.Slo,
    models.Step,
    models.Load,
    models.Arrivals,
    models.Queue,
    models.Shrink,
    models.Parameter,
]
KEYS = sorted({field.alias or name for part in PARTS for name, field in part.model_fields.items()})


@pytest.mark.parametrize("key", KEYS)
def test_every_key_is_described(key):
    assert re.search(rf"`[^`]*\b{re.escape(key)}\b[^`]*`", PAGE)


def test_the_example_is_an_experiment():
    (example,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.S)

    document = documents.parse(example, "example.yaml", "experiment")
    found = spec.parse(document, Path("example.yaml"))

    assert len(found.cells) == 4


@pytest.mark.parametrize("name", ["scaling", "trace"])
def test_the_questions_of_the_experiments_that_come_along_are_listed(name):
    path = spec.load(name).file

    first = path.read_text().splitlines()[0].removeprefix("# ")
    assert f"| `{name}.yaml` | {first} |" in PAGE


def test_every_measure_is_described():
    assert all(f"`{measure}`" in PAGE for measure in spec.MEASURES)
