# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import subprocess
import sys

HEAVY = ("polars", "scipy", "numpy", "plotly", "jinja2")


def test_importing_the_package_imports_nothing_heavy():
    code = (
        "import sys; import pkgctl.report, pkgctl.measure; "
        f"print([name for name in {HEAVY!r} if name in sys.modules])"
    )

    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert found.stdout.strip() == "[]"
