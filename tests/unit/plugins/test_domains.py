# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
from itertools import product

import pytest

from ansible_collections.pkgctl.testbed.plugins.module_utils import domains, kinds
from ansible_collections.pkgctl.testbed.plugins.module_utils.errors import (
    CapabilityError,
    DisturbanceError,
    NodeError,
)

from .virsh import URI, Virsh

DOMAIN = "pkgctl.lab.edge-1"
DOWN = {"paused": "paused", "stopped": "shut off", "crashed": "shut off"}


@pytest.fixture
def virsh(tmp_path, monkeypatch):
    monkeypatch.setattr(domains, "_PAUSE", 0.01)
    made = Virsh(tmp_path, monkeypatch)
    made.define(DOMAIN)
    return made


@pytest.fixture
def node(tmp_path):
    return domains.guest(tmp_path / "lab" / "nodes" / "edge-1", DOMAIN, URI)


def change(node, word=None, layer="test", **options):
    return domains.change(node, layer=layer, health=word, present=word is not None, **options)


@pytest.mark.parametrize(
    ("now", "then"),
    list(
        product(("running", "paused", "off", "dead"), ("running", "paused", "stopped", "crashed"))
    ),
)
def test_the_steps_lead_from_every_state_to_every_condition(now, then):
    ends = {**DOWN, "running": "running"}
    leads = {
        "suspend": ("running", "paused"),
        "resume": ("paused", "running"),
        "start": ("off", "running"),
        "start paused": ("off", "paused"),
        "shut down": ("running", "off"),
    }
    for step in domains.steps(now, then):
        if step == "switch off":
            assert now != "off"
            now = "off"
        else:
            assert leads[step][0] == now
            now = leads[step][1]

    assert {"off": "shut off"}.get(now, now) == ends[then]
    assert domains.steps(now, then) == []


@pytest.mark.parametrize("word", DOWN)
def test_a_layer_brings_the_domain_down_and_its_end_brings_it_back(virsh, node, word):
    first = change(node, word)

    assert first.changed and (first.before, first.after) == (
        "health: running\n",
        f"health: {word}\n",
    )
    assert virsh.state(DOMAIN) == DOWN[word]
    told = virsh.calls()

    assert not change(node, word).changed
    assert virsh.calls() == told

    assert change(node).changed
    assert virsh.state(DOMAIN) == "running"
    assert not change(node).changed


def test_the_words_of_virsh_are_those_of_libvirt(virsh, node):
    change(node, "crashed")
    change(node)
    change(node, "paused")
    change(node)
    change(node, "stopped")

    assert virsh.calls() == [
        f"destroy {DOMAIN}",
        f"start {DOMAIN}",
        f"suspend {DOMAIN}",
        f"resume {DOMAIN}",
        f"shutdown {DOMAIN} --mode acpi",
    ]


def test_a_dry_run_tells_and_does_nothing(virsh, node):
    told = change(node, "crashed", dry_run=True)

    assert (told.changed, told.actions) == (True, ["switch off"])
    assert virsh.calls() == []
    assert not (domains.Path(node.directory) / "health.json").exists()


def test_of_two_layers_the_harsher_holds(virsh, node):
    change(node, "paused", "nap")
    change(node, "crashed", "boom")
    assert virsh.state(DOMAIN) == "shut off"

    change(node, layer="boom")
    assert virsh.state(DOMAIN) == "paused"
    assert virsh.calls()[-1] == f"start {DOMAIN} --paused"

    change(node, layer=None)
    assert virsh.state(DOMAIN) == "running"


def test_a_domain_that_does_not_shut_down_is_switched_off_after_the_grace(virsh, node, monkeypatch):
    monkeypatch.setattr(domains, "GRACE", 0.3)
    monkeypatch.setattr(domains, "_ASK_AGAIN", 0.1)
    virsh.mark("deaf")

    change(node, "stopped")

    assert virsh.state(DOMAIN) == "shut off"
    told = virsh.calls()
    assert told.count(f"shutdown {DOMAIN} --mode acpi") > 1
    assert told[-1] == f"destroy {DOMAIN}"


def test_what_was_cut_short_goes_on_where_it_was(virsh, node):
    virsh.mark("broken")
    with pytest.raises(DisturbanceError):
        change(node, "crashed")
    virsh.heal("broken")
    # A controller that died after it wrote the layer down leaves the domain as it was.
    change(node, "crashed")
    virsh.define(DOMAIN, "running")

    again = change(node, "crashed")

    assert (again.changed, again.actions) == (True, ["switch off"])
    assert virsh.state(DOMAIN) == "shut off"


def test_a_stop_that_was_cut_short_is_finished_before_the_node_comes_back(virsh, node):
    change(node, "stopped")
    virsh.define(DOMAIN, "running")
    before = len(virsh.calls())

    change(node)

    assert virsh.calls()[before:] == [f"shutdown {DOMAIN} --mode acpi", f"start {DOMAIN}"]


def test_a_domain_that_somebody_switched_off_is_healed_without_any_layer(virsh, node):
    virsh.define(DOMAIN, "shut off")

    assert domains.converge(node, dry_run=True).actions == ["start"]
    assert change(node, layer=None).actions == ["start"]
    assert virsh.state(DOMAIN) == "running"


def test_a_step_that_somebody_else_took_meanwhile_is_no_failure(virsh, node, monkeypatch):
    plain = domains.subprocess.run

    def run(words, **options):
        done = plain(words, **options)
        if "destroy" in words:
            done = plain(words, **options)  # now it fails: the domain is off already
        return done

    monkeypatch.setattr(domains.subprocess, "run", run)

    assert change(node, "crashed").actions == ["switch off"]


@pytest.mark.parametrize("dry_run", [True, False])
def test_a_domain_that_is_not_there_is_named_and_nothing_is_written_down(tmp_path, virsh, dry_run):
    node = domains.guest(tmp_path / "lab" / "nodes" / "edge-2", "gone", URI)

    with pytest.raises(NodeError, match=r"^edge-2: qemu:///system has no domain gone; run"):
        change(node, "crashed", dry_run=dry_run)

    assert not (domains.Path(node.directory) / "health.json").exists()


def test_a_host_out_of_reach_is_told_in_libvirts_words(virsh, node):
    virsh.mark("broken")

    with pytest.raises(DisturbanceError) as caught:
        change(node, "paused")

    assert str(caught.value) == "edge-1: unable to connect socket: Connection refused"


def test_a_host_that_does_not_answer_is_not_waited_for_without_end(virsh, node, monkeypatch):
    monkeypatch.setattr(domains, "_PATIENCE", 0.2)
    script = virsh.folder.parent / "tools" / "virsh"
    script.write_text("#!/bin/sh\nexec sleep 30\n")

    with pytest.raises(DisturbanceError, match=r"did not answer virsh domstate within 0\.2 s$"):
        domains.read(node)


def test_a_state_that_nothing_here_leads_out_of_is_told(virsh, node):
    virsh.define(DOMAIN, "pmsuspended")

    with pytest.raises(DisturbanceError, match="is 'pmsuspended'; bring it out of that with virsh"):
        change(node, "crashed")


def test_without_virsh_its_package_is_named(node, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(CapabilityError, match="virsh, which is missing: apt-get install libvirt-c"):
        change(node, "paused")


def test_an_unknown_health_is_refused(virsh, node):
    with pytest.raises(DisturbanceError, match="'tired' is no health of a node; known are paused"):
        change(node, "tired")


def test_the_kinds_know_that_a_guest_is_changed_from_outside(virsh, node):
    kinds.set_layer(node, "health", "boom", {"health": "crashed"})

    assert virsh.state(DOMAIN) == "shut off"
    store = domains.Path(node.directory) / "health.json"
    assert json.loads(store.read_text()) == {"boom": {"health": "crashed"}}
    assert kinds.converge(node, "health", dry_run=True).actions == []


def test_words_of_a_name_are_never_read_by_a_shell(tmp_path, virsh):
    node = domains.guest(tmp_path / "lab" / "nodes" / "edge-1", "$(touch x); no", URI)

    with pytest.raises(NodeError):
        domains.read(node)

    assert not (tmp_path / "x").exists()
