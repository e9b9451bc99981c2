# SPDX-License-Identifier: GPL-3.0-or-later
"""``python -m pkgctl``, the same as the command ``pkgctl``."""

from __future__ import annotations

from pkgctl.cli import main

if __name__ == "__main__":
    main()
