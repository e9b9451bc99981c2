# SPDX-License-Identifier: GPL-3.0-or-later
"""The programs, built once before the first test that takes them."""

from __future__ import annotations

import pytest

from . import assets


@pytest.fixture(scope="session", autouse=True)
def programs(request: pytest.FixtureRequest) -> None:
    """Have what the tests run; whoever comes second waits for the first."""
    marked = [item for item in request.session.items if item.get_closest_marker("kubernetes")]
    if any(not item.get_closest_marker("skip") for item in marked):
        for recipe in assets.RECIPES:
            for program in recipe.programs:
                assets.path(program)
