# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import time

import pytest
from pulumi.automation import EngineEvent

from pkgctl.remote import progress
from pkgctl.remote.progress import Progress

STACK = "urn:pulumi:lab::pkgctl-testbed::pulumi:pulumi:Stack::pkgctl-testbed-lab"


def urn(kind: str, name: str) -> str:
    return f"urn:pulumi:lab::pkgctl-testbed::pkgctl:testbed:Testbed${kind}::{name}"


DOMAIN = ("libvirt:index/domain:Domain", "one")


def step(op: str, kind: str, name: str, **more: object) -> dict:
    return {"metadata": {"op": op, "urn": urn(kind, name), "type": kind, "provider": "", **more}}


def began(*words: str, **more: object) -> EngineEvent:
    return EngineEvent.from_json({"resourcePreEvent": step(*words, **more)})


def done(*words: str, **more: object) -> EngineEvent:
    return EngineEvent.from_json({"resOutputsEvent": step(*words, **more)})


def told(severity: str, message: str, where: str = "") -> EngineEvent:
    event = {"severity": severity, "message": message, "color": "never", "urn": where}
    return EngineEvent.from_json({"diagnosticEvent": event})


@pytest.fixture
def heard():
    return []


@pytest.fixture
def listener(heard):
    return Progress(heard.append, lambda line: heard.append(f"warning: {line}"))


def test_what_was_made_changed_and_removed_is_a_line_each(listener, heard):
    for op in ("create", "update", "delete"):
        listener.event(began(op, *DOMAIN))
        listener.event(done(op, *DOMAIN))

    assert heard == listener.lines == ["+ domain one", "~ domain one", "- domain one"]


def test_a_replacement_is_told_by_its_halves(listener, heard):
    for op in ("delete-replaced", "replace", "create-replacement"):
        listener.event(began(op, *DOMAIN))
        listener.event(done(op, *DOMAIN))

    assert heard == ["- domain one", "+ domain one"]


def test_what_stays_and_what_only_groups_is_not_worth_a_line(listener, heard):
    listener.event(done("same", *DOMAIN))
    listener.event(done("create", "pkgctl:testbed:Node", "one"))
    listener.event(done("create", "pulumi:providers:libvirt", "here"))

    assert heard == [] and listener.lines == []


def test_a_change_names_what_changes(listener):
    kind = "pulumi-python:dynamic/testbed:HostKeys"
    old = {"inputs": {"links": 1, "nodes": 2, "__provider": "a"}}
    new = {"inputs": {"links": 3, "nodes": 2, "__provider": "b"}}

    listener.event(done("update", kind, "lab", old=old, new=new))
    detailed = {"disks[0].size": {"diffKind": "update", "inputDiff": True}}
    listener.event(done("update", *DOMAIN, detailedDiff=detailed))

    assert listener.lines == ["~ host keys lab: links", "~ domain one: disks"]


def test_an_only_thing_of_its_kind_is_named_once():
    assert progress.thing(urn("pulumi-python:dynamic/testbed:Record", "record")) == "record"


def test_a_step_that_took_long_says_so(listener, heard, monkeypatch):
    listener.event(began("create", *DOMAIN))
    now = time.monotonic()
    monkeypatch.setattr(progress.time, "monotonic", lambda: now + 12.2)
    listener.event(done("create", *DOMAIN))

    assert heard == ["+ domain one (12 s)"]


def test_what_is_under_way_is_told_now_and_then(heard):
    listener = Progress(heard.append, heard.append, every=0.02)
    with listener:
        listener.event(began("create", *DOMAIN))
        deadline = time.monotonic() + 10
        while not heard and time.monotonic() < deadline:
            time.sleep(0.01)

    assert heard[0].startswith("… 0 s: domain one")


def test_diagnostics_go_where_they_belong(listener, heard):
    listener.event(told("info", "KVM runs guests\n"))
    listener.event(told("warning", "<{%fg 3%}>emulated<{%reset%}>"))
    listener.event(told("error", "it is full", urn(*DOMAIN)))
    listener.event(told("error", "update failed"))
    listener.event(told("debug", "nothing"))

    assert heard == ["KVM runs guests", "warning: emulated"]
    assert listener.warnings == ["emulated"]
    assert listener.errors == ["domain one: it is full"]


def test_what_we_see_to_ourselves_is_not_passed_on(listener, heard):
    listener.event(told("warning", "using pulumi-resource-libvirt from $PATH at /x"))
    listener.event(told("warning", "Attempting to deploy or update resources with 1 pending"))

    assert heard == [] and listener.warnings == []


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (
            "sdk-v2/provider2.go:515: sdk.helper_schema: error defining libvirt domain:"
            " internal error: no memory: provider=libvirt@0.5.4",
            "error defining libvirt domain: internal error: no memory",
        ),
        ("1 error occurred:\n\t* Bad network: 192.168\n\n", "Bad network: 192.168"),
        (
            'Exception calling application: x\nTraceback (most recent call last):\n  File "a"\n'
            "ValueError: it is odd\n",
            "ValueError: it is odd",
        ),
    ],
)
def test_a_failure_is_one_line_without_what_others_put_around_it(message, expected):
    assert progress.plain(message) == expected


def test_a_failure_of_the_whole_program_has_no_place(listener):
    listener.event(told("error", "topology: no such file", STACK))

    assert listener.errors == ["topology: no such file"]
