# SPDX-License-Identifier: GPL-3.0-or-later
"""The control groups of this machine, as others come and go beside them."""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")


def below(group: str) -> list[str]:
    """Return the paths of all groups below one, in every hierarchy; an empty name is for all."""
    places = [ROOT / group, *(each / group for each in ROOT.iterdir() if group)]
    # Not by rglob, which fails where a group goes away meanwhile.
    return sorted(
        f"{at}/{name}" for place in places for at, names, _ in os.walk(place) for name in names
    )
