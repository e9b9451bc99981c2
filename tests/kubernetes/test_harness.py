# SPDX-License-Identifier: GPL-3.0-or-later
"""The control plane that other tests run on is a real one."""

from __future__ import annotations

import os
import urllib.error
from collections.abc import Iterator
from pathlib import Path

import pytest

from . import assets
from .controlplane import ControlPlane, control_plane

pytestmark = pytest.mark.kubernetes("control-plane", "kwok")
POD = {
    "metadata": {"name": "one"},
    "spec": {"containers": [{"name": "main", "image": "nothing/is-pulled:1"}]},
}
PODS = "/api/v1/namespaces/default/pods"


@pytest.fixture(scope="module")
def plane() -> Iterator[ControlPlane]:
    with control_plane(controllers=True, scheduler=True, fake_nodes=1) as made:
        yield made


def test_it_is_the_version_that_is_asked_for(plane):
    assert plane.api("GET", "/version")["gitVersion"] == assets.VERSION


def test_a_pod_is_bound_by_the_default_scheduler_and_runs_on_a_fake_node(plane):
    plane.api("POST", PODS, POD)

    pod = plane.wait_for(lambda: _running(plane, "one"), "the pod to run")

    assert pod["spec"]["nodeName"] == "fake-0"
    events = plane.api("GET", "/apis/events.k8s.io/v1/namespaces/default/events")["items"]
    assert "Scheduled" in {event["reason"] for event in events}


def test_a_service_account_may_do_nothing_until_it_is_told(plane):
    account = plane.service_account("nobody")
    plane.kubectl("auth", "whoami", "--kubeconfig", str(account))

    with pytest.raises(AssertionError, match="cannot list resource"):
        plane.kubectl("get", "pods", "--kubeconfig", str(account))

    plane.kubectl("create", "rolebinding", "look", "--clusterrole=view", _account("nobody"))
    assert "one" in plane.kubectl("get", "pods", "--kubeconfig", str(account))


def test_the_api_can_be_gone_and_comes_back_with_all_it_knew():
    with control_plane() as plane:
        plane.api("POST", "/api/v1/namespaces", {"metadata": {"name": "kept"}})
        plane.stop_api()
        with pytest.raises(urllib.error.URLError):
            plane.api("GET", "/api/v1/namespaces")

        plane.start_api()

        assert plane.api("GET", "/api/v1/namespaces/kept")["metadata"]["name"] == "kept"
        ended, folder = plane.processes(), plane.folder
    assert not [pid for pid in ended.values() if Path(f"/proc/{pid}").exists()]
    assert not folder.exists()


def test_pods_can_be_bound_by_hand_where_no_scheduler_runs():
    with control_plane(fake_nodes=2) as plane:
        plane.api("POST", PODS, POD)
        target = {"apiVersion": "v1", "kind": "Node", "name": "fake-1"}
        plane.api("POST", f"{PODS}/one/binding", {"metadata": {"name": "one"}, "target": target})

        pod = plane.wait_for(lambda: _running(plane, "one"), "the pod to run")

        assert pod["spec"]["nodeName"] == "fake-1"


def test_programs_handed_in_are_taken(tmp_path, monkeypatch):
    given = tmp_path / "kube-apiserver"
    given.write_text("#!/bin/sh\n")
    monkeypatch.setitem(os.environ, assets.GIVEN, str(tmp_path))

    assert assets.path("kube-apiserver") == given
    assert assets.path("kubectl").parent != tmp_path


def _running(plane, name):
    pod = plane.api("GET", f"{PODS}/{name}")
    return pod if pod["status"].get("phase") == "Running" else None


def _account(name):
    return f"--serviceaccount=default:{name}"
