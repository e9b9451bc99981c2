# SPDX-License-Identifier: GPL-3.0-or-later
"""Where in its life a job is, from what the API says of its pod."""

from __future__ import annotations

from typing import Any

import pytest

from pkgctl.cluster import podstates
from pkgctl.cluster.podbodies import TOKEN
from pkgctl.scheduling.backend import JobState

START = JobState("web-0", "edge-1", "starting", stamps={"submitted": 1.0, "decided": 2.0})
RUNNING = {"running": {"startedAt": "2026-01-01T00:00:03Z"}}


def ended(code: int = 0, **more: Any) -> dict[str, Any]:
    return {"terminated": {"exitCode": code, **more}}


def waiting(reason: str, message: str = "") -> dict[str, Any]:
    return {"waiting": {"reason": reason, "message": message}}


def pod(
    *,
    node: str = "edge-1",
    phase: str = "Pending",
    main: dict[str, Any] | None = None,
    fetch: dict[str, Any] | None = None,
    conditions: dict[str, tuple[str, str]] | None = None,
    leaving: bool = False,
    **status: Any,
) -> dict[str, Any]:
    spec: dict[str, Any] = {
        "containers": [{"name": "main", "resources": {"limits": {"cpu": "100m", "memory": "40Mi"}}}]
    }
    if node:
        spec["nodeName"] = node
    if fetch is not None:
        spec["initContainers"] = [{"name": "fetch"}]
        status["initContainerStatuses"] = [{"name": "fetch", "state": fetch}]
    if main is not None:
        status["containerStatuses"] = [{"name": "main", "state": main, "restartCount": 0}]
    status["conditions"] = [
        {"type": kind, "status": word, "reason": reason, "lastTransitionTime": "2026-01-01T00:00Z"}
        for kind, (word, reason) in (conditions or {}).items()
    ]
    annotations = {"pkgctl.dev/job": "web-0", TOKEN: "t", "pkgctl.dev/artifact": "web"}
    meta: dict[str, Any] = {"name": "web-0", "uid": "u", "annotations": annotations}
    if leaving:
        meta["deletionTimestamp"] = "2026-01-01T00:00:09Z"
    return {"metadata": meta, "spec": spec, "status": {"phase": phase, **status}}


def after(*raws: dict[str, Any] | None, stopping: bool = False, delegated: bool = False):
    state = START
    for moment, raw in enumerate(raws, 10):
        facts = None if raw is None else podstates.read(raw)
        state = podstates.advance(
            state, facts, float(moment), stopping=stopping, delegated=delegated
        )
    return state


def test_the_pods_of_others_are_no_jobs():
    assert podstates.read({"metadata": {"name": "dns", "uid": "u"}, "spec": {}}) is None


def test_each_step_is_stamped_when_it_is_told_first():
    ready = {"Ready": ("True", "")}
    state = after(
        pod(node=""),
        pod(fetch=waiting("PodInitializing")),
        pod(fetch=ended(), main=waiting("PodInitializing")),
        pod(fetch=ended(), main=RUNNING, phase="Running"),
        pod(fetch=ended(), main=RUNNING, phase="Running", conditions=ready, podIP="10.42.1.7"),
        pod(fetch=ended(), main=RUNNING, phase="Running", conditions=ready, podIP="10.42.1.7"),
    )

    assert state.status == "running" and state.labels["host"] == "10.42.1.7"
    assert state.stamps == {
        "submitted": 1.0,
        "decided": 2.0,
        "bound": 11.0,
        "artifact": 12.0,
        "started": 13.0,
        "ready": 14.0,
    }
    assert (state.cpu, state.memory) == (0.1, 40 << 20)
    assert state.labels["api"]["started"] == "2026-01-01T00:00:03Z"


def test_an_artifact_is_pulled_until_it_is_there():
    assert after(pod(fetch={"running": {}})).status == "pulling"
    assert not after(pod(fetch=ended(message="fetched 0.5"))).cached
    assert after(pod(fetch=ended(message="cached 0.1"))).cached


@pytest.mark.parametrize(
    ("message", "begun"), [("fetched 0.25", 11.75), ("cached 0.0", 12.0), ("fetched 5.0", 11.0)]
)
def test_when_fetching_began_follows_from_how_long_it_took(message, begun):
    """It began no sooner than the pod had a node."""
    bound, there = pod(fetch=waiting("PodInitializing")), pod(fetch=ended(message=message))

    assert after(pod(node=""), bound, there, there).stamps["fetching"] == begun


def test_what_failed_to_fetch_tells_no_time():
    assert "fetching" not in after(pod(fetch=ended(1, message="fetched 1.0"))).stamps


def test_what_kubernetes_decides_is_decided_when_it_is_told():
    state = after(pod(node=""), pod(node="edge-2"), delegated=True)

    assert state.node == "edge-2"
    assert after(pod(node="edge-2")).stamps["decided"] == 2.0
    fresh = JobState("web-0", "", "starting", stamps={"submitted": 1.0})
    facts = podstates.read(pod(node="edge-2"))
    moved = podstates.advance(fresh, facts, 11.0, stopping=False, delegated=True)
    assert moved.stamps["decided"] == 11.0


@pytest.mark.parametrize(
    ("code", "more", "status", "error"),
    [
        (0, {}, "finished", None),
        (3, {}, "failed", "it ended with exit code 3"),
        (1, {"message": "batch.py: one\nbatch.py: two\n"}, "failed", "batch.py: two"),
        (137, {"reason": "OOMKilled"}, "failed", "it ran out of memory (OOMKilled)"),
    ],
)
def test_a_program_that_ends_by_itself_has_finished_or_failed(code, more, status, error):
    phase = "Succeeded" if code == 0 else "Failed"

    state = after(pod(phase=phase, main=ended(code, **more)))

    assert (state.status, state.error, state.lost) == (status, error, False)
    assert state.stamps["finished"] == 10.0


def test_what_was_told_to_end_has_stopped_however_it_ended():
    assert after(pod(phase="Failed", main=ended(143)), stopping=True).status == "stopped"
    assert after(None, stopping=True).status == "stopped"
    assert after(pod(leaving=True, main=RUNNING), stopping=True).status == "starting"


@pytest.mark.parametrize(
    ("raw", "error"),
    [
        (None, "Kubernetes took it away: deleted"),
        (pod(leaving=True), "Kubernetes took it away: deleted"),
        (
            pod(conditions={"DisruptionTarget": ("True", "DeletionByTaintManager")}),
            "Kubernetes took it away: DeletionByTaintManager",
        ),
    ],
)
def test_what_kubernetes_takes_away_is_lost(raw, error):
    state = after(raw)

    assert (state.status, state.lost, state.error) == ("failed", True, error)


def test_a_pod_that_its_kubelet_evicts_is_lost():
    evicted = pod(
        phase="Failed",
        conditions={"DisruptionTarget": ("True", "TerminationByKubelet")},
        reason="Evicted",
        message="The node was low on resource: memory.",
    )

    state = after(evicted)

    assert (state.status, state.lost) == ("failed", True)
    assert state.error == "Evicted: The node was low on resource: memory."


def test_what_has_ended_stays_as_it_ended():
    done = pod(phase="Succeeded", main=ended())

    assert after(done, None) == after(done)


def test_a_replica_that_is_not_ready_any_more_is_not_running():
    up = pod(main=RUNNING, conditions={"Ready": ("True", "")})
    down = pod(main=RUNNING, conditions={"Ready": ("False", "ContainersNotReady")})

    state = after(up, down)

    assert state.status == "starting" and state.stamps["ready"] == 10.0
    assert after(up, down, up).is_ready


def test_an_image_that_is_not_there_fails_at_once_and_one_that_comes_is_waited_for():
    never = after(pod(main=waiting("ErrImageNeverPull", "image x is not present")))
    later = after(pod(main=waiting("ImagePullBackOff", "Back-off pulling")))

    assert (never.status, never.error) == ("failed", "ErrImageNeverPull: image x is not present")
    assert (later.status, later.error) == ("starting", "ImagePullBackOff: Back-off pulling")


def test_a_pod_without_a_node_says_why():
    raw = pod(node="", conditions={"PodScheduled": ("False", "Unschedulable")})

    assert after(raw).error == "Unschedulable"
