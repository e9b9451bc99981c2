# SPDX-License-Identifier: GPL-3.0-or-later
"""What keeps unit tests away from the testbeds of this machine."""

from __future__ import annotations

import pytest

from pkgctl.local import paths


@pytest.fixture(autouse=True)
def no_real_testbeds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look for control groups where nobody has any: others' tests have testbeds up meanwhile."""
    monkeypatch.setattr(paths, "GROUPS", "pkgctl-unit-tests")
