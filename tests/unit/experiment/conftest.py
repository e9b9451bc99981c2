# SPDX-License-Identifier: GPL-3.0-or-later
"""A small experiment that every test may change."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from pkgctl import documents, spec

SMALL = """\
name: small
question: Does it work?
topology: three-sites
seed: 7
repeats: 2
factors:
  replicas: [1, 2]
  perturb: [none, slow]
services:
  web:
    replicas: ${replicas}
    place: {on: {site: edge-a}, scheduler: least-allocated}
    resources: {cpu: 100m, memory: 40Mi}
    artifact: 1Mi
    request: {cpu: 2ms, in: 1Ki, out: 8Ki}
    slo: {latency: 150ms, at: 95%}
load:
  - {service: web, from: {site: edge-b}, arrivals: {poisson: 50/s}, duration: 4s}
perturbations:
  slow: {site: edge-a, bw: 5mbit, delay: 40ms, start: 1s, duration: 2s}
"""

Loader = Callable[..., spec.Experiment]


@pytest.fixture
def small() -> Loader:
    """Return the small experiment, with settings and after replacements in its text."""

    def load(*settings: str, text: str = SMALL, **replaced: str) -> spec.Experiment:
        for old, new in replaced.items():
            text = text.replace(old, new)
        document = documents.parse(text, "small.yaml", "experiment")
        return spec.parse(document, Path("small.yaml"), settings)

    return load
