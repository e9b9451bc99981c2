# SPDX-License-Identifier: GPL-3.0-or-later
"""What pods have used, under the names of their jobs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from pkgctl.local.paths import Paths
from pkgctl.local.streams import Samples
from pkgctl.nodeside import podgroups

Message = dict[str, Any]


class PodSamples(Samples):
    """Usage samples in which pods of ours have the names of their jobs."""

    def __init__(self, paths: Paths, interval: float, jobs: Callable[[], Mapping[str, str]]):
        """Begin to sample.

        Args:
            paths: the testbed.
            interval: every so many seconds.
            jobs: the jobs whose pods are known, by the pods' uids.
        """
        super().__init__(paths, interval)
        self._jobs = jobs

    def take(self, start: float, end: float) -> list[Message]:
        """Return the samples between two times (CLOCK_MONOTONIC), and forget the older ones."""
        jobs = self._jobs()
        return [named(sample, jobs) for sample in super().take(start, end)]


def named(sample: Mapping[str, Any], jobs: Mapping[str, str]) -> Message:
    """Return a sample with the jobs of pods in the place of uids; others' pods keep theirs."""
    known = {f"{podgroups.PREFIX}{uid}": job for uid, job in jobs.items()}
    rows = [{**row, "job": known.get(row["job"], row["job"])} for row in sample["rows"]]
    return {**sample, "rows": rows}
