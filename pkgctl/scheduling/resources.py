# SPDX-License-Identifier: GPL-3.0-or-later
"""Amounts of what jobs ask for and nodes have."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

# What a job that asks for nothing counts for in scores, in millicores and bytes; kube-scheduler's
# DefaultMilliCPURequest and DefaultMemoryRequest (pkg/scheduler/util/pod_resources.go).
DEFAULT_MILLICORES = 100
DEFAULT_MEMORY_BYTES = 200 * 2**20


@dataclass(frozen=True, slots=True)
class Resources:
    """An amount of each resource.

    Attributes:
        cpu: cores.
        memory: bytes.
        disk: bytes.
    """

    cpu: float = 0.0
    memory: int = 0
    disk: int = 0

    def __post_init__(self) -> None:
        """Refuse amounts that nothing can have."""
        for name, amount in (("cpu", self.cpu), ("memory", self.memory), ("disk", self.disk)):
            if not 0 <= amount < math.inf:
                raise ValueError(f"{name} must be zero or more, not {amount}")

    @property
    def millicores(self) -> int:
        """The CPU in thousandths of a core, rounded up as Kubernetes does.

        Sums of these are exact, where ten times 0.1 cores are not 1 core.
        """
        return math.ceil(round(self.cpu * 1000, 6))


NOTHING = Resources()


def total(amounts: Iterable[Resources]) -> Resources:
    """Return the sum, with CPU in whole thousandths of a core."""
    millicores = memory = disk = 0
    for amount in amounts:
        millicores += amount.millicores
        memory += amount.memory
        disk += amount.disk
    return Resources(millicores / 1000, memory, disk)


def scored_millicores(asked: Resources) -> int:
    """Return the CPU that a job counts for in scores."""
    return asked.millicores or DEFAULT_MILLICORES


def scored_memory(asked: Resources) -> int:
    """Return the memory in bytes that a job counts for in scores."""
    return asked.memory or DEFAULT_MEMORY_BYTES
