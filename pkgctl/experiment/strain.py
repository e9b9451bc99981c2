# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether the machine could keep up with a run: what it measured is only as good as that. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any

from pkgctl.measure.statistics import nearest_rank

LATE = 0.99
Row = Mapping[str, Any]


def strain(requests: Iterable[Row], samples: Iterable[Row]) -> dict[str, float]:
    """Return how strained a run was; a figure that is not known is left out.

    ``late_p99``: how long after it was due a request left its generator, which only 1 % exceed.
    ``busy``: the part of the time in which processors of the nodes' machine had work, whosever it
    was; of the busiest machine if they are several. ``gap``: the longest time between two samples.
    """
    late = sorted(row["sent"] - row["intended"] for row in requests if row["sent"] is not None)
    known = [_of_machine(each) for each in _by_machine(samples).values()]
    found = {"late_p99": nearest_rank(late, LATE)}
    for name in ("busy", "gap"):
        found[name] = max((each[name] for each in known if name in each), default=None)
    return {name: round(value, 6) for name, value in found.items() if value is not None}


def _by_machine(samples: Iterable[Row]) -> dict[str, list[Row]]:
    """Return the samples of each machine, by the first of its nodes."""
    found: dict[str, list[Row]] = defaultdict(list)
    for sample in samples:
        if sample["rows"]:
            found[sample["rows"][0]["node"]].append(sample)
    return found


def _of_machine(samples: Sequence[Row]) -> dict[str, float]:
    if len(samples) < 2:
        return {}
    found = {"gap": max(later["mono"] - each["mono"] for each, later in pairwise(samples))}
    first, last = (samples[at].get("machine") for at in (0, -1))
    if first and last:
        busy, idle = (last[key] - first[key] for key in ("busy", "idle"))
        if busy + idle > 0:
            found["busy"] = busy / (busy + idle)
    return found
