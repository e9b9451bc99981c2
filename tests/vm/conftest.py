# SPDX-License-Identifier: GPL-3.0-or-later
"""The image of the nodes, made once if it is not there yet, and a libvirt host."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests import needs

from .hypervisor import Hypervisor, hypervisor


@pytest.fixture(scope="session", autouse=True)
def image(request: pytest.FixtureRequest) -> None:
    """Have an image if any of the tests needs one."""
    marks = (item.get_closest_marker("vm") for item in request.session.items)
    wanted = {mark.args for mark in marks if mark is not None and "image" in mark.args}
    if not all(needs.lacking(*args) for args in wanted):
        build = [sys.executable, "-m", "pkgctl", "image", "build"]
        subprocess.run(build, check=True, capture_output=True, timeout=900)


@pytest.fixture(scope="module")
def host() -> Iterator[Hypervisor]:
    """A libvirt host of the tests' own."""
    with hypervisor() as found:
        yield found
