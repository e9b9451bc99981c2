# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from pkgctl.scheduling.job import Artifact
from pkgctl.scheduling.provisioning import Cold, Demand, Prefetch, Prefetched
from tests.unit.scheduling.clusters import amounts, cluster, node

WEB, MODEL = Artifact("web", 2_000_000), Artifact("model", 50_000_000)


def test_cold_prepares_nothing() -> None:
    assert Cold().plan(cluster(node("a")), [Demand(service="web", artifact=WEB)]) == ()


def test_prefetched_brings_each_artifact_to_each_node_that_lacks_it() -> None:
    view = cluster(node("a"), node("b", artifacts=["web"]))
    demand = [Demand(service="web", artifact=WEB), Demand(service="ask", artifact=MODEL)]

    actions = Prefetched().plan(view, demand)

    assert actions == (Prefetch("a", WEB), Prefetch("a", MODEL), Prefetch("b", MODEL))


def test_prefetched_leaves_out_nodes_where_no_replica_can_be() -> None:
    view = cluster(node("small", cpu=0.5), node("down", ready=False), node("a"), node("b"))
    demand = Demand(
        service="web",
        artifact=WEB,
        resources=amounts(1, 64),
        nodes=frozenset({"small", "down", "a"}),
    )

    assert Prefetched().plan(view, [demand]) == (Prefetch("a", WEB),)


def test_prefetched_counts_a_busy_node_for_it_may_be_free_later() -> None:
    view = cluster(node("a", cpu=1, holds=[amounts(1, 64)]))
    demand = Demand(service="web", artifact=WEB, resources=amounts(1, 64))

    assert Prefetched().plan(view, [demand]) == (Prefetch("a", WEB),)


def test_two_services_with_one_artifact_need_it_once() -> None:
    demand = [Demand(service="web", artifact=WEB), Demand(service="api", artifact=WEB)]

    assert Prefetched().plan(cluster(node("a")), demand) == (Prefetch("a", WEB),)


def test_a_service_without_artifact_needs_nothing() -> None:
    assert Prefetched().plan(cluster(node("a")), [Demand(service="web")]) == ()
