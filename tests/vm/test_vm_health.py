# SPDX-License-Identifier: GPL-3.0-or-later
"""The health of virtual machines, against a real libvirtd: domains that run no more than a BIOS."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pkgctl.nodeside import channel, watchman
from pkgctl.nodeside import domains as guests
from pkgctl.nodeside import errors as node_errors
from tests.waiting import soon

from .hypervisor import Hypervisor, hypervisor

pytestmark = pytest.mark.vm("libvirt", "qemu")

NODES = ("cloud-1", "edge-1")
# It has no disk: a domain is there, stands still, goes and comes, and never hears of ACPI.
XML = """
<domain type='qemu'>
  <name>{name}</name>
  <memory unit='MiB'>16</memory>
  <vcpu>1</vcpu>
  <os><type arch='x86_64'>hvm</type></os>
  <features><acpi/></features>
  <devices/>
</domain>
"""


@pytest.fixture(scope="module")
def host() -> Iterator[Hypervisor]:
    with hypervisor() as made:
        for node in NODES:
            xml = made.folder / f"{node}.xml"
            xml.write_text(XML.format(name=f"pkgctl.lab.{node}"))
            made.virsh("define", str(xml))
        yield made


@pytest.fixture
def bed(host: Hypervisor) -> Iterator[Path]:
    """The controller's folder of a testbed whose domains run."""
    for node in NODES:
        name = f"pkgctl.lab.{node}"
        if host.virsh("domstate", name) != "shut off":
            host.virsh("destroy", name)
        host.virsh("start", name)
    record = {node: {"domain": f"pkgctl.lab.{node}", "uri": host.uri} for node in NODES}
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder, "lab")
        made.mkdir()
        (made / "state.json").write_text(json.dumps({"nodes": record}))
        yield made
        watchman.dismiss(made)


@pytest.fixture
def node(bed: Path, host: Hypervisor) -> guests.Guest:
    return guests.guest(bed / "nodes" / "edge-1", "pkgctl.lab.edge-1", host.uri)


def state(host: Hypervisor, node: str = "edge-1") -> str:
    """Return what libvirt's own command says of a domain."""
    return host.virsh("domstate", f"pkgctl.lab.{node}")


def process(host: Hypervisor, node: str = "edge-1") -> str:
    """Return the number of the process that is the machine; nothing if none is."""
    path = host.folder / "run" / "qemu" / f"pkgctl.lab.{node}.pid"
    return path.read_text() if path.exists() else ""


@pytest.mark.parametrize(
    ("word", "then"), [("paused", "paused"), ("stopped", "shut off"), ("crashed", "shut off")]
)
def test_a_domain_is_brought_down_and_back_and_twice_is_once(
    host: Hypervisor, node: guests.Guest, monkeypatch: pytest.MonkeyPatch, word: str, then: str
) -> None:
    monkeypatch.setattr(guests, "GRACE", 2.0)
    before = process(host)

    assert guests.change(node, layer="test", health=word, dry_run=True).changed
    assert (state(host), process(host)) == ("running", before)
    assert guests.change(node, layer="test", health=word).changed
    assert state(host) == then
    assert not guests.change(node, layer="test", health=word).changed
    assert guests.converge(node, dry_run=True).actions == []

    assert guests.change(node, layer="test", present=False).changed
    assert state(host) == "running"
    assert not guests.change(node, layer="test", present=False).changed
    # A machine that was only paused is the same one.
    assert (process(host) == before) is (word == "paused")


def test_a_crash_under_a_pause_comes_back_paused(host: Hypervisor, node: guests.Guest) -> None:
    guests.change(node, layer="nap", health="paused")
    guests.change(node, layer="boom", health="crashed")

    assert guests.change(node, layer="boom", present=False).actions == ["start paused"]
    assert state(host) == "paused"
    guests.change(node, layer=None, present=False)
    assert state(host) == "running"


def test_what_another_does_with_virsh_is_drift_and_is_healed(
    host: Hypervisor, node: guests.Guest
) -> None:
    host.virsh("destroy", node.domain)

    assert guests.converge(node, dry_run=True).actions == ["start"]
    assert guests.change(node, layer=None, present=False).changed
    assert state(host) == "running"


def test_a_domain_and_a_host_that_are_not_there_are_told_in_one_line(
    bed: Path, host: Hypervisor
) -> None:
    with pytest.raises(node_errors.NodeError, match=r"^edge-9: .* has no domain gone; run pkgctl"):
        guests.read(guests.guest(bed / "nodes" / "edge-9", "gone", host.uri))

    nowhere = f"qemu+unix:///system?socket={bed}/none"
    with pytest.raises(node_errors.DisturbanceError) as caught:
        guests.read(guests.guest(bed / "nodes" / "edge-1", "any", nowhere))
    assert "\n" not in str(caught.value) and "socket" in str(caught.value)


def test_the_watchman_crashes_and_starts_a_domain_on_time(bed: Path, host: Hypervisor) -> None:
    watchman.ensure(bed)
    first = {node: process(host, node) for node in NODES}
    times = {"start": 0.5, "duration": 10.0}
    with channel.Client(watchman.socket(bed)) as client:
        for node in NODES:
            step = {"node": node, "kind": "health", "layer": "boom", "times": times}
            client.call("timeline-arm", timeline="storm", body={"health": "crashed"}, **step)
        begun = time.monotonic()
        client.call("timeline-start", timeline="storm", t0=begun)

    assert soon(lambda: {state(host, node) for node in NODES} == {"shut off"})
    assert time.monotonic() - begun > 0.5
    assert soon(lambda: {state(host, node) for node in NODES} == {"running"})
    assert time.monotonic() - begun > 10.5
    assert all(process(host, node) != first[node] for node in NODES)


def test_a_lease_that_runs_out_starts_the_domain(
    bed: Path, host: Hypervisor, node: guests.Guest
) -> None:
    watchman.ensure(bed)
    with channel.Client(watchman.socket(bed)) as client:
        client.call("lease-set", node="edge-1", layer="boom", seconds=20.0)
    guests.change(node, layer="boom", health="crashed")
    assert state(host) == "shut off"

    assert soon(lambda: state(host) == "running")
