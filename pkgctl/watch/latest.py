# SPDX-License-Identifier: GPL-3.0-or-later
"""Samples of all nodes at once, or of each by itself, as pairs to compare. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from pkgctl.watch import figures

Sample = Mapping[str, Any]
# Of so much of an interval a node may be late before the others are shown without it.
_LATE = 1.25


class Latest:
    """The latest sample of each node, and the one before that was shown."""

    def __init__(self, interval: float) -> None:
        """Expect a sample of each node every interval seconds."""
        self._interval = interval
        self._shown: dict[str, Sample] = {}
        self._fresh: dict[str, Sample] = {}

    def take(self, sample: Sample) -> None:
        """Take a sample of some nodes, or of all."""
        rows: dict[str, list[Any]] = {}
        for row in sample["rows"]:
            rows.setdefault(row["node"], []).append(row)
        for name, own in rows.items():
            self._fresh[name] = {"mono": sample["mono"], "rows": own}

    def is_complete(self, names: Collection[str]) -> bool:
        """Return whether all nodes have a new one, or some are late."""
        if not self._fresh:
            return False
        if all(name in self._fresh for name in names):
            return True
        moments = [sample["mono"] for sample in self._fresh.values()]
        first = min((self._shown[n]["mono"] for n in self._fresh if n in self._shown), default=None)
        return first is not None and max(moments) - first > _LATE * self._interval

    def use(self) -> tuple[dict[str, dict[str, Any]], float] | None:
        """Return each node's use since it was last shown, and the seconds between.

        Returns:
            None the first time. What was taken is shown by this.
        """
        before, fresh = self._shown, self._fresh
        self._shown, self._fresh = {**before, **fresh}, {}
        known = [name for name in fresh if name in before]
        if not known:
            return None
        found: dict[str, dict[str, Any]] = {}
        for name, sample in fresh.items():
            found |= figures.use(before.get(name), sample)
        return found, max(fresh[name]["mono"] - before[name]["mono"] for name in known)
