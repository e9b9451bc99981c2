# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest

from pkgctl.errors import SpecError
from pkgctl.scheduling import registry
from tests.unit.scheduling.clusters import cluster, decide, job, node, places


def test_kube_scheduler_leaves_every_job_to_kubernetes_whatever_the_nodes_are():
    view = cluster(node("full", holds=[]))

    decisions = decide(registry.decider("kube-scheduler"), [job(0, cpu=99), job(1)], view)

    assert places(decisions) == ["", ""]


def test_it_is_no_scheduler_that_our_own_could_run_by():
    with pytest.raises(SpecError, match="no scheduler is called"):
        registry.scheduler("kube-scheduler")


def test_a_name_that_is_nearly_right_is_met_with_the_right_one():
    with pytest.raises(SpecError, match="did you mean kube-scheduler"):
        registry.decider("kubescheduler")
    assert registry.decider("round-robin") is not None
