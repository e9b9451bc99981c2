# SPDX-License-Identifier: GPL-3.0-or-later
"""Where K3s is on this node, as its own settings say."""

from __future__ import annotations

import re
from pathlib import Path

FILE = Path("/etc/rancher/k3s/config.yaml")


def data_dir(file: Path = FILE) -> str:
    """Return where it keeps its state and its images; nothing if that is not said."""
    return _said(file, r"data-dir: +(.+)")


def kubelet_dir(file: Path = FILE) -> str:
    """Return where pods have their volumes; nothing if that is not said."""
    return _said(file, r"- +root-dir=(.+)")


def _said(file: Path, pattern: str) -> str:
    """Return a path that a line of the settings says, which the role writes without quotes."""
    try:
        found = re.search(rf"(?m)^\s*{pattern}$", file.read_text())
    except OSError:
        return ""
    return found[1].strip() if found else ""
