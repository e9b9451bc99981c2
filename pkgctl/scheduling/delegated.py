# SPDX-License-Identifier: GPL-3.0-or-later
"""Decisions that are left to Kubernetes' own scheduler, as a baseline to compare with."""

from __future__ import annotations

import random
from collections.abc import Sequence

from pkgctl.scheduling.decision import Decision, Place
from pkgctl.scheduling.job import Job
from pkgctl.scheduling.view import ClusterView

KUBE_SCHEDULER = "kube-scheduler"
# In the place of a node's name: whoever runs the job is to find one.
ELSEWHERE = ""


class Delegated:
    """Decides nothing: each job goes to Kubernetes at once, which finds a node or lets it wait."""

    def place(
        self, queue: Sequence[Job], view: ClusterView, rng: random.Random
    ) -> Sequence[Decision]:
        """Hand on every job."""
        return tuple(Place(job.id, ELSEWHERE) for job in queue)
