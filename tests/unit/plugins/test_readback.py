# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json

import pytest

from ansible_collections.pkgctl.testbed.plugins.module_utils import cabling, daemon, kinds, readback
from ansible_collections.pkgctl.testbed.plugins.module_utils.change import Change
from ansible_collections.pkgctl.testbed.plugins.module_utils.errors import DisturbanceError
from ansible_collections.pkgctl.testbed.plugins.module_utils.identity import Identity
from ansible_collections.pkgctl.testbed.plugins.module_utils.quality import Quality

SLOW = Quality(rate=10**6, delay=0.01)
NOTHING = Change(False, "", "")


@pytest.fixture
def node(tmp_path) -> Identity:
    return Identity(
        name="edge-1",
        testbed="t",
        interface="eth0",
        address="10.77.0.3",
        network="10.77.0.0/16",
        peers={"cloud-1": "10.77.0.1", "cloud-2": "10.77.0.11"},
        access=None,
        cgroup="pkgctl/t/nodes/edge-1",
        cpu=1.0,
        memory=2**28,
        pids=100,
        directory=str(tmp_path),
    )


def converging(monkeypatch, changes):
    def converge(_, name, *, dry_run):
        assert dry_run
        found = changes.get(name, NOTHING)
        if isinstance(found, Exception):
            raise found
        return found

    monkeypatch.setattr(kinds, "converge", converge)


def test_a_node_that_needs_nothing_has_no_drift(monkeypatch, node):
    converging(monkeypatch, {})

    assert readback.drift(node) == []


def test_a_switch_that_a_machine_lacks_is_drift(monkeypatch, node, tmp_path):
    converging(monkeypatch, {})
    todo = ["let arrive at 5mbit at the most"]
    monkeypatch.setattr(cabling, "bring", lambda _, *, dry_run: todo * dry_run)

    assert readback.drift(node) == []
    (tmp_path / daemon.SERVICE).touch()
    assert readback.drift(node) == ["switch: needs: let arrive at 5mbit at the most"]


def test_a_switch_that_somebody_else_shapes_is_drift(monkeypatch, node, tmp_path):
    converging(monkeypatch, {})
    (tmp_path / daemon.SERVICE).touch()

    def bring(_, *, dry_run):
        raise DisturbanceError("p0-3 has a root qdisc that is not ours")

    monkeypatch.setattr(cabling, "bring", bring)

    assert readback.drift(node) == ["switch: p0-3 has a root qdisc that is not ours"]


def test_drift_is_told_as_what_is_and_what_is_asked_with_the_names_of_peers(monkeypatch, node):
    before = "class 11: 3mbit\nto 10.77.0.1: class 11\nfrom 10.77.0.11: nothing\n"
    after = "class 11: 5mbit\nto 10.77.0.1: class 11\n"
    converging(monkeypatch, {"link": Change(True, before, after, ["set class 7067:11"])})

    assert readback.drift(node) == [
        "link: has 'toward cloud-1: class 11: 3mbit', which is not asked",
        "link: has 'from cloud-2: nothing', which is not asked",
        "link: lacks 'toward cloud-1: class 11: 5mbit'",
    ]


def test_what_no_text_shows_is_told_by_what_would_be_done(monkeypatch, node):
    converging(monkeypatch, {"quota": Change(True, "cpu: 1\n", "cpu: 1\n", ["write cpu"])})

    assert readback.drift(node) == ["quota: needs: write cpu"]


def test_what_cannot_be_read_is_drift_too(monkeypatch, node):
    refusal = DisturbanceError("eth0 has a root qdisc that is not ours: tbf 8001:")
    converging(monkeypatch, {"link": refusal})

    assert readback.drift(node) == [f"link: {refusal}"]


def test_a_base_that_is_not_the_topology_is_told(node, tmp_path):
    stored = {"base": {"egress": {"cloud-1": SLOW.to_dict(), "cloud-2": SLOW.to_dict()}}}
    (tmp_path / "links.json").write_text(json.dumps(stored))
    base = {"egress": {"cloud-1": SLOW.to_dict()}, "ingress": {"cloud-1": Quality().to_dict()}}

    assert readback.base_drift(node, base) == [
        "link: base egress cloud-2: stored is 1mbit 10ms, the topology says unshaped"
    ]


def facts(egress=None, ingress=None, health="running"):
    return {"health": health, "links": {"egress": egress or {}, "ingress": ingress or {}}}


def test_the_sender_bounds_the_rate_and_the_rest_is_as_the_receiver_says():
    nodes = {
        "a": facts(egress={"b": {**SLOW.to_dict(), "delay": 9.0}}),
        "b": facts(ingress={"a": {**Quality(rate=1, delay=0.02, loss=0.1).to_dict()}}),
    }

    assert readback.matrix(nodes) == {"a": {"b": Quality(10**6, 0.02, 0.0, 0.1)}, "b": {}}


def test_nodes_that_do_not_run_are_known():
    assert readback.unready({"a": facts(), "b": facts(health="crashed")}) == {"b": "crashed"}
